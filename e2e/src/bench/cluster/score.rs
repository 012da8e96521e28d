//! What a service made of its load: late and failed requests, changes of its replicas, quantiles. Pure.
use serde::Serialize;

use crate::load::Sample;

/// A change against one that was less than this before is a reversal, as in the simulator.
const REVERSAL_SECONDS: f64 = 300.0;

/// Between which times, in seconds since the start, requests become due that count, and pods.
pub(super) type Span = (f64, f64);

/// The scores of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Score {
    pub(super) requests: usize,
    /// Right answers after the objective.
    pub(super) late: usize,
    /// No right answer.
    pub(super) failed: usize,
    /// Late or failed, as a share.
    pub(super) violations: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    /// Of pods that start or are ready.
    pub(super) pod_seconds: f64,
    /// Changes of `spec.replicas`.
    pub(super) actions: usize,
    pub(super) reversals: usize,
}

/// Scores a service: its requests, its pod-seconds, and its `spec.replicas` with the time of each change.
pub(super) fn score(
    samples: &[Sample],
    objective_ms: f64,
    pod_seconds: f64,
    wanted: &[(f64, i32)],
    span: Span,
) -> Score {
    let due: Vec<&Sample> = samples
        .iter()
        .filter(|one| one.due >= span.0 && one.due < span.1)
        .collect();
    let failed = due.iter().filter(|one| !one.is_ok()).count();
    let late = due
        .iter()
        .filter(|one| one.is_ok() && one.latency_ms > objective_ms)
        .count();
    let answered: Vec<f64> = due.iter().filter(|one| one.is_ok()).map(|one| one.latency_ms).collect();
    let at = |share: f64| quantile(&answered, share).unwrap_or_default();
    let (actions, reversals) = changes(wanted, span);
    Score {
        requests: due.len(),
        late,
        failed,
        violations: (late + failed) as f64 / due.len().max(1) as f64,
        p50_ms: at(0.5),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        pod_seconds,
        actions,
        reversals,
    }
}

/// Changes of a number within a span, and how many of them turned back one that was not long before.
pub(super) fn changes(wanted: &[(f64, i32)], span: Span) -> (usize, usize) {
    let (mut actions, mut reversals) = (0, 0);
    let mut last: Option<(f64, bool)> = None;
    for pair in wanted.windows(2) {
        let [(_, before), (at, after)] = *pair else { continue };
        if before == after {
            continue;
        }
        let is_up = after > before;
        let turns = last.is_some_and(|(when, was_up)| was_up != is_up && at - when < REVERSAL_SECONDS);
        last = Some((at, is_up));
        if at >= span.0 && at < span.1 {
            actions += 1;
            reversals += usize::from(turns);
        }
    }
    (actions, reversals)
}

/// The least value that the share `q` of all does not exceed.
pub(super) fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Mean and coefficient of variation.
pub(super) fn moments(values: &[f64]) -> Option<(f64, f64)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean > 0.0).then(|| (mean, variance.sqrt() / mean))
}

/// By how much the first is off the second, in percent; none where that says nothing.
pub(super) fn off_percent(found: f64, expected: f64) -> Option<f64> {
    (expected > 0.0 && found.is_finite()).then(|| (found / expected - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(due: f64, latency_ms: f64, outcome: &'static str) -> Sample {
        Sample {
            due,
            latency_ms,
            outcome,
        }
    }

    #[test]
    fn late_and_failed_requests_are_violations_if_they_became_due_in_the_span() {
        let samples = [
            sample(9.9, 9000.0, "ok"),
            sample(10.0, 100.0, "ok"),
            sample(11.0, 1000.0, "ok"),
            sample(12.0, 1000.5, "ok"),
            // An error that comes at once is no quick answer.
            sample(13.0, 1.0, "reset"),
            sample(20.0, 9000.0, "ok"),
        ];
        let score = score(&samples, 1000.0, 42.0, &[], (10.0, 20.0));
        assert_eq!((score.requests, score.late, score.failed), (4, 1, 1));
        assert!((score.violations - 0.5).abs() < 1e-12);
        assert_eq!((score.p50_ms, score.p99_ms, score.pod_seconds), (1000.0, 1000.5, 42.0));
        let nothing = super::score(&[], 1000.0, 0.0, &[], (0.0, 1.0));
        assert_eq!(nothing, Score::default());
    }

    #[test]
    fn a_change_back_within_five_minutes_is_a_reversal() {
        let wanted = [
            (0.0, 1),
            (5.0, 3),
            (20.0, 3),
            (30.0, 2),
            (100.0, 1),
            (399.0, 2),
            (800.0, 1),
            (900.0, 2),
        ];
        // 30 turns back 5, 399 turns back 100, 900 turns back 800; 800 comes too late for that.
        assert_eq!(changes(&wanted, (0.0, 1000.0)), (6, 3));
        // What was before the span is turned back, and does not count itself.
        assert_eq!(changes(&wanted, (20.0, 100.0)), (1, 1));
        assert_eq!(changes(&wanted[..1], (0.0, 1000.0)), (0, 0));
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.9), Some(5.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn moments_and_differences() {
        let (mean, cv) = moments(&[1.0, 3.0]).unwrap();
        assert!((mean - 2.0).abs() < 1e-12 && (cv - 0.5).abs() < 1e-12);
        assert_eq!(moments(&[]), None);
        assert!((off_percent(90.0, 100.0).unwrap() + 10.0).abs() < 1e-9);
        assert_eq!(off_percent(1.0, 0.0), None);
    }
}
