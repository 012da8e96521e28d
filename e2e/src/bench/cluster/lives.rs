//! Lives of pods, and what they cost: pod-seconds and start times. Pure.
use serde::Serialize;

/// One pod. Times are seconds since the watch began; those before it are 0 or less.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Life {
    pub(super) service: String,
    pub(super) pod: String,
    pub(super) created: f64,
    /// Ready for the first time.
    pub(super) ready: Option<f64>,
    /// Told to end, or gone.
    pub(super) ended: Option<f64>,
    /// Whether it was created while it was watched.
    pub(super) is_born: bool,
}

/// Seconds of pods that start or are ready, of one service, between two times.
pub(super) fn pod_seconds(lives: &[Life], service: &str, (from, to): (f64, f64)) -> f64 {
    let of_service = lives.iter().filter(|life| life.service == service);
    of_service
        .map(|life| (life.ended.unwrap_or(to).min(to) - life.created.max(from)).max(0.0))
        .sum()
}

/// Seconds from creation to ready, of those whose creation was seen.
pub(super) fn starts(lives: &[Life]) -> Vec<f64> {
    let born = lives.iter().filter(|life| life.is_born);
    born.filter_map(|life| Some(life.ready? - life.created)).collect()
}

/// How many pods of a service start or are ready, as steps.
pub(super) fn course(lives: &[Life], service: &str) -> Vec<(f64, f64)> {
    let mut changes: Vec<(f64, f64)> = Vec::new();
    for life in lives.iter().filter(|life| life.service == service) {
        changes.push((life.created.max(0.0), 1.0));
        changes.extend(life.ended.map(|ended| (ended, -1.0)));
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut count = 0.0;
    for change in &mut changes {
        count += change.1;
        change.1 = count;
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(service: &str, created: f64, ready: Option<f64>, ended: Option<f64>) -> Life {
        Life {
            service: service.to_owned(),
            pod: String::new(),
            created,
            ready,
            ended,
            is_born: created > 0.0,
        }
    }

    #[test]
    fn pod_seconds_are_those_between_the_two_times() {
        let lives = [
            life("a", -5.0, Some(-1.0), None),
            life("a", 20.0, Some(30.0), Some(50.0)),
            // Before it was ready.
            life("a", 90.0, None, Some(95.0)),
            life("a", 2.0, Some(4.0), Some(8.0)),
            life("a", 120.0, None, None),
            life("b", 0.0, Some(1.0), None),
        ];
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
        close(pod_seconds(&lives, "a", (10.0, 100.0)), 90.0 + 30.0 + 5.0);
        close(pod_seconds(&lives, "b", (10.0, 100.0)), 90.0);
        close(pod_seconds(&lives, "c", (10.0, 100.0)), 0.0);
    }

    #[test]
    fn a_start_that_was_not_seen_is_none() {
        let lives = [
            life("a", -5.0, Some(1.0), None),
            life("a", 20.0, Some(30.0), Some(50.0)),
            life("b", 21.0, Some(24.5), None),
            life("b", 22.0, None, Some(23.0)),
        ];
        assert_eq!(starts(&lives), [10.0, 3.5]);
    }

    #[test]
    fn a_course_counts_what_is_there() {
        let lives = [
            life("a", -5.0, None, None),
            life("a", 2.0, None, Some(8.0)),
            life("b", 1.0, None, None),
            life("a", 8.5, None, None),
        ];
        assert_eq!(course(&lives, "a"), [(0.0, 1.0), (2.0, 2.0), (8.0, 1.0), (8.5, 2.0)]);
    }
}
