//! The Prometheus scaler: what a query's answer is worth.
//!
//! kedacore/keda 8b4f083c, `ExecutePromQuery` and `GetMetricsAndActivity`. With `ignoreNullValues`, its default, no data, NaN and ±Inf are 0.

use super::object::Prometheus;
use super::whole_seconds;

/// One element of a query's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// `value: []`.
    NoValue,
    /// `value: [time]`.
    TimeOnly,
    /// `value: [time, null]`; it counts as -1.
    Null,
    Number(f64),
}

/// What the server answered, or why it did not.
pub type Answer = Result<Vec<Sample>, String>;

/// The time that a query asks for: its parameter `time` has whole seconds.
pub fn query_time_ns(now_ns: i64) -> i64 {
    whole_seconds(now_ns)
}

/// `ExecutePromQuery`.
pub fn value(answer: &Answer, ignore_null_values: bool) -> Result<f64, String> {
    let nothing = |error: &str| {
        if ignore_null_values {
            Ok(0.0)
        } else {
            Err(error.to_owned())
        }
    };
    match answer.as_ref().map_err(Clone::clone)?.as_slice() {
        [] => nothing("prometheus metrics 'prometheus' target may be lost, the result is empty"),
        [Sample::NoValue] => nothing("prometheus metrics 'prometheus' target may be lost, the value list is empty"),
        [Sample::TimeOnly] => Err("prometheus query didn't return enough values".to_owned()),
        [Sample::Null] => Ok(-1.0),
        [Sample::Number(number)] if number.is_finite() => Ok(*number),
        [Sample::Number(number)] => nothing(&format!("prometheus query returns {number}")),
        _ => Err("prometheus query returned multiple elements".to_owned()),
    }
}

/// What a trigger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub value_milli: i64,
    pub is_active: bool,
}

/// `GetMetricsAndActivity`.
pub fn read(trigger: &Prometheus, answer: &Answer) -> Result<Reading, String> {
    let value = value(answer, trigger.ignore_null_values)?;
    Ok(Reading {
        value_milli: milli(value),
        is_active: value > trigger.activation_threshold,
    })
}

/// `quantityFromFloat64` in milli-units: three digits, rounded half to even; NaN, ±Inf and negative values are 0.
pub fn milli(value: f64) -> i64 {
    if !value.is_finite() || value < 0.0 {
        return 0;
    }
    let digits: String = format!("{value:.3}").chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(i64::MAX)
}
