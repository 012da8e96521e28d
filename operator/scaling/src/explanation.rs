//! The decision in words: one sentence for a condition, one line of what would change it.

use std::fmt::Write as _;

use crate::decision::{Decision, PoolDecision, Reason, Thresholds};
use crate::freshness::Trust;

/// Longest sentence, in characters: what fits a terminal's line behind a name.
pub const SENTENCE_CHARS_MAX: usize = 120;

/// How many replicas a pool has and why, at most [`SENTENCE_CHARS_MAX`] characters.
///
/// The number comes first, then the proposal that won, then what changed it on the way; what does not fit is left out from the end.
pub fn sentence(decision: &Decision, pool: &PoolDecision) -> String {
    let mut clauses = Vec::new();
    if let Some(winner) = pool.winner().filter(|winner| winner.replicas > 0) {
        let value = rounded(winner.value);
        let wants = winner.replicas;
        clauses.push(match winner.reason {
            Reason::RateSizing => {
                let each = rounded(pool.model.server().rate());
                format!("{value} req/s needs {wants} ({each} req/s each at most)")
            }
            Reason::QueueDrain => format!("{value} queued needs {wants} to drain"),
            Reason::Concurrency => format!("{value} in flight needs {wants}"),
            Reason::UtilizationGuard => format!("{} at {:.0} % needs {wants}", winner.signal, winner.value * 100.0),
            Reason::ForecastFloor => format!("forecast {wants}"),
            Reason::Waking => format!("{value} waiting, nothing ready"),
            _ => format!("{} {value} needs {wants}", winner.signal),
        });
    }
    if let Some(hold) = pool.hold {
        let until = hold
            .until
            .map(|until| format!(" until {}", until.time_of_day()))
            .unwrap_or_default();
        clauses.push(match hold.reason {
            Reason::KeepAlive => format!("kept{until}, was needed again before"),
            Reason::FailStatic => format!("held: {}", troubles(decision)),
            Reason::WarmingUp => format!("no shrink{until}, learning"),
            Reason::Settling => format!("no shrink{until}, has just grown"),
            Reason::Starting => "no shrink while replicas start".to_owned(),
            Reason::Unschedulable => "wanted once a node has room".to_owned(),
            Reason::HoldAfterOutage => format!("no shrink{until}, load fell with errors"),
            Reason::Deadband => "too little a shrink".to_owned(),
            other => format!("held by {}", other.as_str()),
        });
    }
    for step in &pool.steps {
        let (before, after) = (step.before, step.after);
        clauses.push(match step.reason {
            Reason::MaxReplicas => format!("at most {after}, wanted {before}"),
            Reason::MinReplicas => format!("at least {after}"),
            Reason::Schedule => match &pool.floor {
                Some(floor) => format!(
                    "at least {after} until {} by schedule {}",
                    floor.until.time_of_day(),
                    floor.name
                ),
                None => format!("at least {after}"),
            },
            Reason::RateLimited => format!("speed limit {after}, wanted {before}"),
            Reason::ReplicasStuck => format!("+{} for stuck replicas", after - before),
            Reason::InFlight => format!("{after} have requests in them"),
            Reason::RecentPeak => format!("{after} were needed within the hour"),
            Reason::Fallback => format!("fallback {after}"),
            _ => continue,
        });
    }
    if pool.counts.unschedulable > 0 {
        clauses.push(format!("{} cannot be scheduled", pool.counts.unschedulable));
    }
    let mut text = format!("{} {}", pool.to, pool.name);
    let mut separator = ": ";
    for clause in clauses {
        if text.chars().count() + separator.len() + clause.chars().count() > SENTENCE_CHARS_MAX {
            continue;
        }
        text.push_str(separator);
        text.push_str(&clause);
        separator = "; ";
    }
    text.chars().take(SENTENCE_CHARS_MAX).collect()
}

/// `rate StaleSamples, queue QueryFailed`: signals that are not as they should be.
fn troubles(decision: &Decision) -> String {
    let mut text = String::new();
    for signal in &decision.signals {
        if signal.trust.is_full() {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = match signal.trust {
            Trust::Partial { up, all, .. } => write!(text, "{separator}{} Partial {up}/{all}", signal.name),
            Trust::WarmingUp { covered, up, .. } => {
                write!(text, "{separator}{} WarmingUp {covered}/{up}", signal.name)
            }
            Trust::Stale { age_seconds } => write!(text, "{separator}{} Stale {age_seconds:.0}s", signal.name),
            other => write!(text, "{separator}{} {}", signal.name, other.as_str()),
        };
    }
    text
}

/// `up above 48 req/s or 220 queued; down to 5 below 34 req/s, not before 14:07:30`.
pub fn counterfactual(thresholds: &Thresholds) -> String {
    let mut text = match (thresholds.up_above_rate, thresholds.up_above_queued) {
        (Some(rate), Some(queued)) => format!("up above {} req/s or {} queued", rounded(rate), rounded(queued)),
        (Some(rate), None) => format!("up above {} req/s", rounded(rate)),
        _ => "at the maximum".to_owned(),
    };
    if let (Some(to), Some(rate)) = (thresholds.down_to, thresholds.down_below_rate) {
        let _ = match (to, rate > 0.0) {
            (_, true) => write!(text, "; down to {to} below {} req/s", rounded(rate)),
            (_, false) => write!(text, "; down to {to} without requests"),
        };
        if let Some(moment) = thresholds.down_not_before {
            let _ = write!(text, ", not before {}", moment.time_of_day());
        }
    } else {
        text.push_str("; at the minimum");
    }
    text
}

/// Three significant digits or so: `0.42`, `6.9`, `41`, `1200`.
pub fn rounded(value: f64) -> String {
    let text = if value < 10.0 {
        format!("{value:.2}")
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        return format!("{value:.0}");
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{observed, policy, seconds};
    use crate::{State, decide};

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.421, "0.42"),
            (6.9, "6.9"),
            (41.23, "41.2"),
            (40.0, "40"),
            (1234.5, "1234"),
        ] {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn the_sentence_says_what_won() {
        let (decision, _) = decide(
            &policy(|_| ()),
            &observed(1, 40.0, 0.0, 0),
            State::default(),
            seconds(0),
        );
        let pool = &decision.pools[0];
        assert_eq!(
            sentence(&decision, pool),
            "6 cpu: 40 req/s needs 6 (8 req/s each at most)"
        );
        let line = counterfactual(pool.thresholds.as_ref().unwrap());
        assert!(
            line.starts_with("up above 4") && line.contains("; down to 5 below 3"),
            "{line}"
        );
    }

    #[test]
    fn it_is_short_whatever_happens() {
        let policy = policy(|draft| {
            draft.pools[0].name = "a-pool-with-quite-a-long-name-as-names-can-be-63-characters-long-x".to_owned();
        });
        let mut seen = observed(19, 1e9, 1e12, 0);
        seen.signals[1] = Err(crate::observation::Absence::QueryFailed);
        let (decision, _) = decide(&policy, &seen, State::default(), seconds(0));
        let text = sentence(&decision, &decision.pools[0]);
        assert!(text.chars().count() <= SENTENCE_CHARS_MAX, "{text}");
    }

    #[test]
    fn it_names_the_signal_that_is_missing() {
        let mut seen = observed(9, 1.0, 0.0, 0);
        seen.signals[1] = Err(crate::observation::Absence::QueryFailed);
        let (decision, _) = decide(&policy(|_| ()), &seen, State::default(), seconds(0));
        let text = sentence(&decision, &decision.pools[0]);
        assert!(text.contains("held: queue QueryFailed"), "{text}");
    }
}
