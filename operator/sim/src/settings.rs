//! The `--set key=value` of a policy: each key is taken once, and what nobody took is refused by name.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::time::{self, Nanos};

#[derive(Debug, Clone, Default)]
pub struct Settings {
    given: BTreeMap<String, String>,
    /// What the policy asked for, with the defaults: for the message about an unknown key.
    known: Vec<String>,
}

impl Settings {
    /// From `key=value` each.
    pub fn parse(pairs: &[String]) -> Result<Self> {
        let mut given = BTreeMap::new();
        for pair in pairs {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::option(format!("--set {pair}"), "write key=value"));
            };
            if given.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Error::option(format!("--set {pair}"), format!("{key} is set twice")));
            }
        }
        Ok(Self {
            given,
            known: Vec::new(),
        })
    }

    fn take_with<T>(
        &mut self,
        key: &str,
        default: T,
        default_text: String,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        self.known.push(format!("{key} (default {default_text})"));
        match self.given.remove(key) {
            None => Ok(default),
            Some(text) => read(&text).map_err(|problem| Error::option(format!("--set {key}={text}"), problem)),
        }
    }

    /// A number, a word or a truth value.
    pub fn take<T: FromStr + ToString>(&mut self, key: &str, default: T) -> Result<T> {
        let text = default.to_string();
        self.take_with(key, default, text, |text| {
            text.parse()
                .map_err(|_| format!("`{text}` is not of the kind that is expected here"))
        })
    }

    /// A finite number in `[min, max]`.
    pub fn take_number(&mut self, key: &str, default: f64, min: f64, max: f64) -> Result<f64> {
        self.take_with(key, default, default.to_string(), |text| match text.parse::<f64>() {
            Ok(value) if value >= min && value <= max => Ok(value),
            _ => Err(format!("must be a number from {min} to {max}")),
        })
    }

    /// A span of time: seconds, or with a unit.
    pub fn take_span(&mut self, key: &str, default: Nanos) -> Result<Nanos> {
        let text = format!("{}s", time::to_seconds(default));
        self.take_with(key, default, text, time::parse)
    }

    /// Every key must have been taken.
    pub fn finish(self, policy: &str) -> Result<()> {
        match self.given.into_iter().next() {
            None => Ok(()),
            Some((key, value)) => {
                let known = if self.known.is_empty() {
                    "nothing".to_owned()
                } else {
                    self.known.join(", ")
                };
                Err(Error::option(
                    format!("--set {key}={value}"),
                    format!("the policy {policy} does not know `{key}`; it knows {known}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    fn settings(pairs: &[&str]) -> Result<Settings> {
        Settings::parse(&pairs.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_read_and_defaults_hold() {
        let mut some = settings(&["target=0.5", "window=2m"]).unwrap();
        assert!((some.take_number("target", 0.7, 0.0, 1.0).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(some.take_span("window", SECOND).unwrap(), 120 * SECOND);
        assert_eq!(some.take("replicas", 3).unwrap(), 3);
        some.finish("hpa-rps").unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let message = |error: Error| error.to_string();
        assert_eq!(
            message(settings(&["target"]).unwrap_err()),
            "--set target: write key=value"
        );
        assert_eq!(
            message(settings(&["a=1", "a=2"]).unwrap_err()),
            "--set a=2: a is set twice"
        );
        let mut some = settings(&["target=2", "windw=1"]).unwrap();
        assert_eq!(
            message(some.take_number("target", 0.7, 0.0, 1.0).unwrap_err()),
            "--set target=2: must be a number from 0 to 1"
        );
        assert_eq!(
            message(some.finish("keda").unwrap_err()),
            "--set windw=1: the policy keda does not know `windw`; it knows target (default 0.7)"
        );
    }
}
