//! The rows: what is claimed, how it follows from what was measured, and what was aimed at.
use std::collections::BTreeMap;

use serde::Serialize;

use super::peers::HASTY;
use super::visits::{Found, Round, Visits};
use super::{batch_part, digits_part, start_part, text_part};

/// A claim that a target stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_reached_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// There is no target.
    Stated,
    NotMeasured(String),
}

/// A row of the table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) number: u8,
    pub(super) what: String,
    /// Empty for a ratio.
    pub(super) unit: &'static str,
    pub(super) target: Option<Target>,
    pub(super) found: Option<Found>,
    pub(super) verdict: Verdict,
}

type Formula = Box<dyn Fn(&Round<'_>) -> Option<f64>>;

struct Claim {
    number: u8,
    what: String,
    unit: &'static str,
    target: Option<Target>,
    formula: Formula,
    /// Whose absence explains that nothing was found.
    other: &'static str,
}

fn ratio(
    number: u8,
    text: &str,
    (part, what): (&'static str, &'static str),
    (above, below): (&'static str, &'static str),
    target: Option<Target>,
) -> Claim {
    Claim {
        number,
        what: format!("{text}: {} / {}", title(above), title(below)),
        unit: "",
        target,
        formula: Box::new(move |round| round.ratio(part, what, above, below)),
        other: if above == "server" { below } else { above },
    }
}

/// How a side is called in a table: a claim says which build and backend.
pub(super) fn title(side: &str) -> &str {
    match side {
        text_part::PADDED => "first come, padded to the longest of up to 32 (mosec)",
        "triton" => "Triton (PyPI build, python backend)",
        "fastapi" => "FastAPI",
        "mlserver" => "MLServer",
        "kserve" => "KServe's Python server",
        start_part::SESSION => "ONNX Runtime's session load alone",
        other => other,
    }
}

/// Every claim over everything that was measured; those that `wants` does not name are left out.
pub(super) fn rows(visits: &Visits, missing: &BTreeMap<&'static str, String>, wants: impl Fn(u8) -> bool) -> Vec<Row> {
    let wanted = claims().into_iter().filter(|claim| wants(claim.number));
    wanted.map(|claim| row(&claim, visits, missing)).collect()
}

fn row(claim: &Claim, visits: &Visits, missing: &BTreeMap<&'static str, String>) -> Row {
    let found = visits.found(&claim.formula);
    let verdict = match (&found, claim.target) {
        (None, _) => {
            let reason = missing.get(claim.other).map_or("not measured", String::as_str);
            Verdict::NotMeasured(reason.to_owned())
        }
        (Some(_), None) => Verdict::Stated,
        (Some(found), Some(target)) if target.is_reached_by(found.median) => Verdict::Reached,
        (Some(_), Some(_)) => Verdict::Missed,
    };
    Row {
        number: claim.number,
        what: claim.what.clone(),
        unit: claim.unit,
        target: claim.target,
        found,
        verdict,
    }
}

fn claims() -> Vec<Claim> {
    let mut all = of_digits();
    all.extend(of_texts());
    all.extend(of_batches());
    all.extend(of_starts());
    all.sort_by_key(|claim| claim.number);
    all
}

fn of_digits() -> Vec<Claim> {
    use Target::{AtLeast, AtMost};
    use digits_part::{BARE_LOOP, PART};
    let rate = "Poisson rate with p99 ≤ 20 ms";
    let busy = "answers/s, 32 connections";
    let added = |side: &'static str| -> Formula {
        Box::new(move |round| {
            let p50 = |side| round.value(PART, side, "alone_p50_micros");
            Some(p50(side)? - p50("echo")? - round.value(PART, BARE_LOOP, "one_micros")?)
        })
    };
    let (ours, tritons, hasty_tritons) = (added("server"), added("triton"), added(HASTY));
    let mut all = vec![
        ratio(
            1,
            "answers/s, 64 connections",
            (PART, "closed_64"),
            ("server", "echo"),
            Some(AtLeast(0.9)),
        ),
        Claim {
            number: 2,
            what: format!("{rate}: server / {}", title("triton")),
            unit: "",
            target: Some(AtLeast(8.0)),
            formula: Box::new(|round| {
                let rate = |side| round.value(PART, side, "highest_rate");
                // As it batches for the most answers, or without a wait, whichever holds the higher rate.
                Some(rate("server")? / rate(HASTY).unwrap_or_default().max(rate("triton")?))
            }),
            other: "triton",
        },
        ratio(2, rate, (PART, "highest_rate"), ("server", "mosec"), None),
    ];
    for (peer, target) in [
        ("mosec", Some(AtLeast(3.0))),
        ("fastapi", Some(AtLeast(30.0))),
        ("mlserver", Some(AtLeast(100.0))),
        ("kserve", Some(AtLeast(100.0))),
        ("triton", None),
    ] {
        all.push(ratio(3, busy, (PART, "closed_32"), ("server", peer), target));
    }
    all.push(Claim {
        number: 6,
        what: "p50 of one connection: server - echo - ONNX Runtime".to_owned(),
        unit: "us",
        target: Some(AtMost(25.0)),
        formula: Box::new(move |round| ours(round)),
        other: "echo",
    });
    let ours = added("server");
    all.push(Claim {
        number: 6,
        what: format!("the same of {} / of the server", title("triton")),
        unit: "",
        target: None,
        formula: Box::new(move |round| Some(hasty_tritons(round).or_else(|| tritons(round))? / ours(round)?)),
        other: "triton",
    });
    all
}

fn of_texts() -> Vec<Claim> {
    use Target::AtLeast;
    use text_part::{OBJECTIVE, PADDED, PART, TOLD};
    let goodput = "ragged texts, Poisson rate with p99 ≤ 3 T(1, longest)";
    let kept = |side: &'static str, target| Claim {
        number: 7,
        what: format!("goodput at 5x overload / its peak: {}", title(side)),
        unit: "",
        target,
        formula: Box::new(move |round| {
            Some(round.value(PART, side, "goodput_at_5")? / round.value(PART, side, "goodput_peak")?)
        }),
        other: side,
    };
    vec![
        ratio(4, goodput, (PART, "goodput"), ("server", PADDED), Some(AtLeast(2.5))),
        ratio(4, goodput, (PART, "goodput"), ("server", "mosec"), None),
        ratio(4, goodput, (PART, "goodput"), ("server", "triton"), None),
        kept(TOLD, Some(AtLeast(0.95))),
        kept(OBJECTIVE, Some(AtLeast(0.95))),
        kept("server", None),
        kept("triton", None),
    ]
}

fn of_batches() -> Vec<Claim> {
    let claim = |part: &'static str| Claim {
        number: 5,
        what: format!("served items/s / ONNX Runtime alone at its best batch: {part}"),
        unit: "",
        target: Some(Target::AtLeast(0.97)),
        formula: Box::new(move |round| round.ratio(part, "items_per_second", "server", "bare loop")),
        other: "server",
    };
    batch_part::PARTS.into_iter().map(claim).collect()
}

fn of_starts() -> Vec<Claim> {
    use Target::{AtLeast, AtMost};
    use start_part::{COLD, MILLIS, OPTIMISED, SESSION, WARM, WORKERS};
    let first = |part: &str| format!("exec to first answer ({part})");
    let (warm, cold) = (first("files in memory"), first("files on disk"));
    let mut all = vec![
        ratio(8, &warm, (WARM, MILLIS), (OPTIMISED, SESSION), Some(AtMost(1.15))),
        ratio(8, &warm, (WARM, MILLIS), ("server", SESSION), Some(AtMost(1.15))),
        ratio(8, &warm, (WARM, MILLIS), ("fastapi", "server"), Some(AtLeast(10.0))),
        ratio(8, &cold, (COLD, MILLIS), (OPTIMISED, SESSION), None),
        ratio(8, &cold, (COLD, MILLIS), ("server", SESSION), None),
        ratio(8, &cold, (COLD, MILLIS), ("fastapi", "server"), None),
    ];
    for (side, part) in [("server", WARM), (OPTIMISED, WARM), (SESSION, WARM), ("fastapi", WARM)] {
        all.push(Claim {
            number: 8,
            what: format!("{warm}: {}", title(side)),
            unit: "ms",
            target: None,
            formula: Box::new(move |round| round.value(part, side, MILLIS)),
            other: side,
        });
    }
    for (value, when, target) in [
        ("extra_8", "idle", Some(AtMost(0.1))),
        ("extra_served_8", "having served", None),
    ] {
        all.push(Claim {
            number: 9,
            what: format!("memory (PSS) per further worker of 8 / bytes of the model, {when}"),
            unit: "",
            target,
            formula: Box::new(move |round| round.value(WORKERS, "server", value)),
            other: "server",
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::visits::tests::visit;

    fn digits(server: f64, p50: f64) -> Visits {
        let side = |side, rate, alone| {
            let values = [
                ("closed_64", rate),
                ("closed_32", rate),
                ("highest_rate", rate),
                ("alone_p50_micros", alone),
            ];
            visit(digits_part::PART, 0, side, &values)
        };
        Visits(vec![
            side("echo", 100.0, 50.0),
            visit(digits_part::PART, 0, digits_part::BARE_LOOP, &[("one_micros", 10.0)]),
            side("server", server, p50),
            side("mosec", 20.0, 200.0),
            side("triton", 10.0, 260.0),
        ])
    }

    #[test]
    fn triton_is_taken_by_the_better_of_its_two_ways_to_wait() {
        let mut visits = digits(90.0, 80.0);
        let values = [("highest_rate", 15.0), ("alone_p50_micros", 160.0)];
        visits.0.push(visit(digits_part::PART, 0, HASTY, &values));
        let rows = rows(&visits, &BTreeMap::new(), |_| true);
        let median = |number, what| of(&rows, number, what).found.unwrap().median;
        // 90 / 15, and (160 - 50 - 10) / 20.
        assert_eq!((median(2, "Triton"), median(6, "of the server")), (6.0, 5.0));
    }

    fn of<'a>(rows: &'a [Row], number: u8, what: &str) -> &'a Row {
        rows.iter()
            .find(|row| row.number == number && row.what.contains(what))
            .unwrap()
    }

    #[test]
    fn rows_follow_from_what_was_measured() {
        let rows = rows(&digits(90.0, 80.0), &BTreeMap::new(), |_| true);
        let median = |number, what| of(&rows, number, what).found.unwrap().median;
        assert_eq!((median(1, "echo"), median(3, "mosec")), (0.9, 4.5));
        assert_eq!((median(2, "Triton"), median(2, "mosec")), (9.0, 4.5));
        // 80 - 50 - 10, and (260 - 50 - 10) / 20.
        assert_eq!((median(6, "server - echo"), median(6, "of the server")), (20.0, 10.0));
        assert_eq!(of(&rows, 1, "echo").verdict, Verdict::Reached);
        assert_eq!(of(&rows, 2, "mosec").verdict, Verdict::Stated);
        assert_eq!(of(&rows, 6, "server - echo").verdict, Verdict::Reached);
    }

    #[test]
    fn what_misses_its_target_says_so() {
        let rows = rows(&digits(50.0, 90.0), &BTreeMap::new(), |_| true);
        assert_eq!(of(&rows, 1, "echo").verdict, Verdict::Missed);
        assert_eq!(of(&rows, 2, "Triton").verdict, Verdict::Missed);
        assert_eq!(of(&rows, 6, "server - echo").verdict, Verdict::Missed);
    }

    #[test]
    fn a_peer_that_is_missing_is_named_with_the_reason() {
        let missing = BTreeMap::from([("kserve", "pip has failed".to_owned())]);
        let rows = rows(&digits(90.0, 80.0), &missing, |number| number == 3);
        let verdict = |what| of(&rows, 3, what).verdict.clone();
        assert_eq!(verdict("KServe"), Verdict::NotMeasured("pip has failed".to_owned()));
        assert_eq!(verdict("MLServer"), Verdict::NotMeasured("not measured".to_owned()));
        assert!(rows.iter().all(|row| row.number == 3));
    }

    #[test]
    fn triton_is_never_named_without_its_backend() {
        for claim in claims() {
            assert!(
                !claim.what.contains("Triton") || claim.what.contains("python backend"),
                "{}",
                claim.what
            );
        }
    }
}
