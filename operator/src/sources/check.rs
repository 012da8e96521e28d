//! What was answered for one pool -> a number, or why it is none. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::published::{Reading, Reason, Sample, Unavailable};

/// Largest value that is believed. Any load is far below, and the sum of many pools in thousandths still fits the 64 bits of a Kubernetes quantity.
pub const VALUE_MAX: f64 = 1e14;

/// Everything known of one signal of one pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The signal's value; several when the answer names the pool several times.
    pub values: Vec<f64>,
    /// Seconds since the newest scrape of the signal's metric, however old.
    pub age_seconds: Option<f64>,
    /// Pods with a fresh sample of the signal's metric.
    pub reporting_pods: u32,
    /// Pods that were scraped over the whole window of the signal; `None` for a signal of the moment.
    pub covered_pods: Option<u32>,
    /// Pods whose target is up.
    pub up_pods: u32,
    /// Pods with a target.
    pub known_pods: u32,
    /// Targets that are up.
    pub up_targets: u32,
    /// Ready pods now, if known.
    pub ready_pods: Option<u32>,
    /// Ready pods that had time to be scraped: the least number over the last [`Limits::pod_grace`].
    pub settled_pods: Option<u32>,
    /// Ready pods that had time to be scraped for a whole window: the least number over [`Limits::window_grace`].
    pub window_pods: Option<u32>,
    /// After most of the pool was gone for a moment within [`Limits::pod_grace`]: the pods that were ready before and are ready again.
    pub returned_pods: Option<u32>,
    /// The same within [`Limits::window_grace`].
    pub window_returned_pods: Option<u32>,
    /// Whether the pool may just have started.
    pub starting: bool,
}

/// What a number must satisfy.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Oldest sample that still describes the present.
    pub max_sample_age: Duration,
    /// How far a sample may lie in the future.
    pub max_clock_skew: Duration,
    /// Least share of the settled pods that must be scraped, 0 to 1.
    pub min_target_share: f64,
    /// Time a new pod has before it must have been scraped.
    pub pod_grace: Duration,
    /// Time a new pod has before it must have been scraped for a whole window. What it counted before that, it counted from zero.
    pub window_grace: Duration,
}

/// Judges one signal of one pool. `metric` and `pool` only serve the message.
pub fn judge(facts: &Facts, limits: &Limits, metric: &str, pool: &str, now: Timestamp) -> Reading {
    let refuse = |reason, message: String| Err(Unavailable::new(reason, message));
    if facts.ready_pods == Some(0) {
        return refuse(Reason::NoReadyPods, format!("no pod of pool {pool} is ready"));
    }
    let value = match facts.values.as_slice() {
        [value] => Some(plausible(*value, metric)?),
        [] => None,
        many => {
            let message = format!("Prometheus answers {} values of {metric} for pool {pool}", many.len());
            return refuse(Reason::Ambiguous, message);
        }
    };
    let grace = limits.pod_grace.as_secs();
    if facts.known_pods == 0 && facts.ready_pods.is_none() {
        let message = format!("the operator does not know yet how many pods of pool {pool} are ready");
        return refuse(Reason::WarmingUp, message);
    }
    if facts.known_pods == 0 {
        return if facts.starting {
            let message =
                format!("the pods of pool {pool} have been ready for less than {grace}s and are not scraped yet");
            refuse(Reason::WarmingUp, message)
        } else {
            let message = format!(
                "Prometheus has no scrape target with namespace, inferenceservice and pool={pool:?}: check its scrape configuration or PodMonitor"
            );
            refuse(Reason::NoTargets, message)
        };
    }
    let needed = needed_pods(facts, limits);
    if facts.up_pods < needed {
        let message = format!(
            "Prometheus reaches {} of {} pods of pool {pool}, at least {needed} are needed",
            facts.up_pods,
            expected_pods(facts)
        );
        return refuse(Reason::PartialTargets, message);
    }
    if facts.up_targets > facts.up_pods {
        let message = format!(
            "Prometheus scrapes {} pods of pool {pool} through {} targets: sums would count pods twice",
            facts.up_pods, facts.up_targets
        );
        return refuse(Reason::DuplicateTargets, message);
    }
    let Some(age) = facts.age_seconds else {
        return if facts.starting {
            let message =
                format!("the pods of pool {pool} have been ready for less than {grace}s and show no {metric} yet");
            refuse(Reason::WarmingUp, message)
        } else {
            refuse(
                Reason::NoSamples,
                format!("the targets of pool {pool} are up but have no {metric}"),
            )
        };
    };
    let age = sane_age(age, limits.max_sample_age, limits.max_clock_skew, metric)?;
    if facts.reporting_pods < needed {
        let message = format!(
            "{} of {} pods of pool {pool} show a fresh {metric}, at least {needed} are needed",
            facts.reporting_pods,
            expected_pods(facts)
        );
        return refuse(Reason::PartialTargets, message);
    }
    let returned = facts.returned_pods.unwrap_or(0);
    if facts.reporting_pods.min(facts.up_pods) < share(returned, limits) {
        let message = format!(
            "most pods of pool {pool} were not ready less than {grace}s ago, and {} of the {returned} that came back show a fresh {metric}",
            facts.reporting_pods
        );
        return refuse(Reason::WarmingUp, message);
    }
    // A rate needs two scrapes: the first of them is there already.
    let Some(value) = value else {
        let message = format!("{metric} of pool {pool} has been scraped fewer than two times");
        return refuse(unfilled(facts), message);
    };
    if let Some(covered) = facts.covered_pods {
        let returned = facts.window_returned_pods.unwrap_or(0);
        let expected = expected_over_window(facts).max(returned);
        if covered < share(expected, limits) {
            let message = format!(
                "Prometheus has scraped {covered} of {expected} pods of pool {pool} for the whole window of {metric}: it was away, or scrapes \
                 less often than the operator was told"
            );
            return refuse(unfilled(facts), message);
        }
    }
    Ok(Sample {
        value: of_all_pods(value, facts),
        at: now - age,
    })
}

/// Of a pool that has just started, or is back, nothing but an unfilled window can be expected.
fn unfilled(facts: &Facts) -> Reason {
    if facts.starting || facts.window_returned_pods.is_some() {
        Reason::WarmingUp
    } else {
        Reason::WindowNotFilled
    }
}

/// The value of all pods that ought to be scraped, from that of those that are: the others carry as much each. Only ever upwards, so that a lost
/// scrape of a large pool does not scale it down.
fn of_all_pods(value: f64, facts: &Facts) -> f64 {
    let missed = |expected: u32, seen: u32| f64::from(expected) / f64::from(seen.max(1));
    let lost = missed(expected_pods(facts), facts.reporting_pods.min(facts.up_pods));
    let covered = facts.covered_pods;
    let unfilled = covered.map_or(1.0, |covered| missed(expected_over_window(facts), covered));
    value * lost.max(unfilled).max(1.0)
}

/// Pods that ought to be scraped: the settled ones, or every pod that Prometheus knows when the cluster's view is unknown.
fn expected_pods(facts: &Facts) -> u32 {
    facts.settled_pods.unwrap_or(facts.known_pods)
}

/// The same over a whole window.
fn expected_over_window(facts: &Facts) -> u32 {
    facts.window_pods.unwrap_or(facts.known_pods)
}

fn needed_pods(facts: &Facts, limits: &Limits) -> u32 {
    share(expected_pods(facts), limits).max(1)
}

fn share(pods: u32, limits: &Limits) -> u32 {
    (f64::from(pods) * limits.min_target_share).ceil() as u32
}

/// A finite, non-negative, believable number.
pub fn plausible(value: f64, metric: &str) -> Result<f64, Unavailable> {
    if !value.is_finite() {
        let message = format!("Prometheus answers {value} for {metric}");
        return Err(Unavailable::new(Reason::NotFinite, message));
    }
    if value < 0.0 {
        let message = format!("Prometheus answers {value} for {metric}, which cannot be negative");
        return Err(Unavailable::new(Reason::Negative, message));
    }
    if value > VALUE_MAX {
        let message = format!("Prometheus answers {value:e} for {metric}, more than any load can be");
        return Err(Unavailable::new(Reason::Implausible, message));
    }
    // -0.0 is not below zero, and would be written with its sign.
    Ok(value + 0.0)
}

/// The age of a sample, if it describes the present. Both clocks are Prometheus' own, so that a negative age beyond the skew means that an exporter
/// set a time of its own.
pub fn sane_age(
    age_seconds: f64,
    max_age: Duration,
    max_skew: Duration,
    metric: &str,
) -> Result<SignedDuration, Unavailable> {
    if !age_seconds.is_finite() {
        let message = format!("Prometheus answers {age_seconds} for the age of {metric}");
        return Err(Unavailable::new(Reason::AnswerMalformed, message));
    }
    if age_seconds < -max_skew.as_secs_f64() {
        let message = format!("the newest sample of {metric} lies {:.0}s in the future", -age_seconds);
        return Err(Unavailable::new(Reason::ClockSkew, message));
    }
    if age_seconds > max_age.as_secs_f64() {
        let message = format!(
            "the newest sample of {metric} is more than {} old, at most {}s are allowed",
            at_least(age_seconds),
            max_age.as_secs()
        );
        return Err(Unavailable::new(Reason::StaleSamples, message));
    }
    Ok(SignedDuration::try_from_secs_f64(age_seconds.max(0.0)).unwrap_or(SignedDuration::ZERO))
}

/// A time that is over, in steps that grow with it: what repeated every second would make a condition that is written at every look.
fn at_least(seconds: f64) -> String {
    const STEPS: [(f64, &str); 12] = [
        (86_400.0, "a day"),
        (21_600.0, "6h"),
        (3_600.0, "1h"),
        (1_800.0, "30min"),
        (600.0, "10min"),
        (300.0, "5min"),
        (120.0, "2min"),
        (60.0, "60s"),
        (30.0, "30s"),
        (15.0, "15s"),
        (5.0, "5s"),
        (1.0, "1s"),
    ];
    let step = STEPS.iter().find(|(least, _)| seconds >= *least);
    step.map_or_else(|| "0s".to_owned(), |(_, text)| (*text).to_owned())
}

#[cfg(test)]
mod tests;
