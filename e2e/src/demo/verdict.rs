//! What a run has shown, and whether it is what the demo claims. Pure.
use std::collections::BTreeMap;

use super::report::{Claim, Outcome, Phase};
use super::watch::ScaleUp;
use crate::load::Totals;

/// Phases whose work is done once and kept: the second run of a machine skips it.
pub const KEPT_PHASES: [&str; 5] = [
    "compile",
    "cluster programs (cached)",
    "train the model (cached)",
    FIND_BINARIES,
    "images",
];
/// Compiles what `make demo` has not compiled yet.
pub const FIND_BINARIES: &str = "binaries for the images";
/// Of a bare machine with two cores.
const TOTAL_SECONDS_MAX: f64 = 45.0 * 60.0;
/// Without what is kept.
const CACHED_SECONDS_MAX: f64 = 10.0 * 60.0;
const REPLICAS_MAX_MIN: i32 = 3;

/// What was seen, before anybody judges it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub phases: Vec<Phase>,
    pub total_seconds: f64,
    /// Of every request that was sent, those before the load too.
    pub totals: Totals,
    pub replicas_start: i32,
    pub replicas_max: i32,
    pub replicas_end: i32,
    /// When the first load began that needs more than one replica, in the seconds of `scale_ups`.
    pub first_load_at: Option<f64>,
    pub scale_ups: Vec<ScaleUp>,
    pub versions: BTreeMap<String, String>,
}

pub fn claim(text: impl Into<String>, holds: bool, measured: String) -> Claim {
    Claim {
        text: text.into(),
        measured,
        holds,
    }
}

/// `result.json`.
pub fn outcome(facts: &Facts) -> Outcome {
    let mut reasons: Vec<String> = Vec::new();
    for scale_up in &facts.scale_ups {
        if !reasons.contains(&scale_up.cause) {
            reasons.push(scale_up.cause.clone());
        }
    }
    let first = facts.first_load_at.and_then(|begun| {
        let mut since = facts.scale_ups.iter().map(|scale_up| scale_up.seconds - begun);
        since.find(|seconds| *seconds >= 0.0)
    });
    let mut phases = facts.phases.clone();
    phases.push(Phase {
        name: "total".to_owned(),
        seconds: tenths(facts.total_seconds),
    });
    Outcome {
        phases,
        requests_total: facts.totals.due,
        requests_failed: facts.totals.failed(),
        answers_checked: facts.totals.checked(),
        answers_wrong: facts.totals.wrong,
        replicas_start: facts.replicas_start,
        replicas_max: facts.replicas_max,
        replicas_end: facts.replicas_end,
        first_scale_up_seconds: first.map(tenths),
        scale_up_reasons: reasons,
        versions: facts.versions.clone(),
    }
}

/// What the demo as a whole claims; each step has its own beside these. Time counts where the cluster is the demo's own.
pub fn claims(outcome: &Outcome, totals: &Totals, is_timed: bool) -> Vec<Claim> {
    let mut claims = vec![
        claim(
            "every request is accounted for",
            totals.due == totals.ended(),
            format!("{} due, {} ended", totals.due, totals.ended()),
        ),
        claim(
            "no request failed",
            outcome.requests_failed == 0 && outcome.requests_total > 0,
            format!("{} of {}", outcome.requests_failed, outcome.requests_total),
        ),
        claim(
            "no answer was wrong",
            outcome.answers_wrong == 0 && outcome.answers_checked > 0,
            format!(
                "{} of {} that were compared with ONNX Runtime's own",
                outcome.answers_wrong, outcome.answers_checked
            ),
        ),
        claim(
            "it starts with one replica",
            outcome.replicas_start == 1,
            format!("{}", outcome.replicas_start),
        ),
        claim(
            "three replicas or more were ready at once",
            outcome.replicas_max >= REPLICAS_MAX_MIN,
            format!("{}", outcome.replicas_max),
        ),
        claim(
            "it scales up after the load begins",
            outcome.first_scale_up_seconds.is_some(),
            outcome
                .first_scale_up_seconds
                .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s")),
        ),
        claim(
            "it ends with one replica",
            outcome.replicas_end == 1,
            format!("{}", outcome.replicas_end),
        ),
    ];
    if is_timed {
        let sum = |wanted: fn(&str) -> bool| -> f64 {
            let phases = outcome.phases.iter().filter(|phase| wanted(&phase.name));
            phases.map(|phase| phase.seconds).sum()
        };
        let total = sum(|name| name == "total");
        let cached = total - sum(|name| KEPT_PHASES.contains(&name));
        claims.push(claim(
            "all of it takes at most 45 minutes",
            total <= TOTAL_SECONDS_MAX,
            format!("{total:.0} s"),
        ));
        claims.push(claim(
            "without what is built once and kept it takes at most 10 minutes",
            cached <= CACHED_SECONDS_MAX,
            format!("{cached:.0} s"),
        ));
    }
    claims
}

pub fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        let phase = |name: &str, seconds: f64| Phase {
            name: name.to_owned(),
            seconds,
        };
        let scale_up = |seconds: f64, cause: &str| ScaleUp {
            seconds,
            replicas: 3,
            cause: cause.to_owned(),
            message: String::new(),
        };
        Facts {
            phases: vec![phase("compile", 900.0), phase("start Kubernetes", 15.0)],
            total_seconds: 1400.0,
            totals: Totals {
                due: 100,
                ok: 100,
                ..Totals::default()
            },
            replicas_start: 1,
            replicas_max: 3,
            replicas_end: 1,
            first_load_at: Some(10.0),
            scale_ups: vec![
                scale_up(2.0, "CPU"),
                scale_up(15.04, "RequestRate"),
                scale_up(90.0, "CPU"),
            ],
            versions: BTreeMap::new(),
        }
    }

    fn denied(facts: &Facts) -> Vec<String> {
        let claims = claims(&outcome(facts), &facts.totals, true);
        claims
            .into_iter()
            .filter(|claim| !claim.holds)
            .map(|claim| claim.text)
            .collect()
    }

    #[test]
    fn the_result_counts_from_the_first_load_and_names_each_cause_once() {
        let result = outcome(&good());
        assert_eq!(
            result.first_scale_up_seconds,
            Some(5.0),
            "what came before the load is none of it"
        );
        assert_eq!(result.scale_up_reasons, ["CPU", "RequestRate"]);
        let total = result.phases.last().unwrap();
        assert_eq!((total.name.as_str(), total.seconds), ("total", 1400.0));
        assert!(denied(&good()).is_empty(), "{:?}", denied(&good()));
    }

    #[test]
    fn whatever_did_not_happen_is_denied_by_its_own_claim() {
        type Change = fn(&mut Facts);
        let changes: [(&str, Change); 10] = [
            ("every request is accounted for", |f| f.totals.due += 1),
            ("no request failed", |f| (f.totals.ok, f.totals.reset) = (99, 1)),
            ("no answer was wrong", |f| (f.totals.ok, f.totals.wrong) = (99, 1)),
            ("it starts with one replica", |f| f.replicas_start = 2),
            ("three replicas or more were ready at once", |f| f.replicas_max = 2),
            ("it scales up after the load begins", |f| f.scale_ups.truncate(1)),
            ("it scales up after the load begins", |f| f.first_load_at = None),
            ("it ends with one replica", |f| f.replicas_end = 0),
            ("all of it takes at most 45 minutes", |f| {
                f.phases[0].seconds += 1400.0;
                f.total_seconds += 1400.0;
            }),
            ("without what is built once and kept it takes at most 10 minutes", |f| {
                f.total_seconds += 101.0;
            }),
        ];
        for (text, change) in changes {
            let mut facts = good();
            change(&mut facts);
            assert_eq!(denied(&facts), [text]);
        }
        let nothing = Facts {
            totals: Totals::default(),
            ..good()
        };
        assert_eq!(denied(&nothing), ["no request failed", "no answer was wrong"]);
    }
}
