//! Decisions in text, for a terminal. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use tidewright_api::InferenceService;
use tidewright_scaling::decision::{Decision, PoolDecision};
use tidewright_scaling::explanation;
use tidewright_scaling::freshness::Trust;
use tidewright_scaling::units::Moment;

use super::history::{Compared, Course, Explained, WhatIf};

/// Widest line of replicas over time.
const SPARKLINE_CHARS_MAX: usize = 100;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// RFC 3339 in seconds.
pub fn time(at: Moment) -> String {
    let seconds = i64::try_from(at.as_millis() / 1000).unwrap_or_default();
    Timestamp::from_second(seconds).map_or_else(|_| at.time_of_day(), |time| time.to_string())
}

/// The sentence of each pool, what each signal asks for, and what would change it.
pub fn decision(name: &str, decision: &Decision) -> String {
    let mut text = format!("{name} at {}\n", time(decision.at));
    for pool in &decision.pools {
        one_pool(decision, pool, &mut text);
    }
    text
}

fn one_pool(decision: &Decision, pool: &PoolDecision, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}", explanation::sentence(decision, pool));
    if let Some(thresholds) = &pool.thresholds {
        let _ = writeln!(text, "{}", explanation::counterfactual(thresholds));
    }
    let winner = pool.winner().map(|winner| winner.signal.as_str());
    let rows = decision.signals.iter().map(|signal| {
        let asks = pool.proposals.iter().find(|proposal| proposal.signal == signal.name);
        let mark = if asks.is_some() && winner == Some(signal.name.as_str()) {
            " (winner)"
        } else {
            ""
        };
        [
            signal.name.clone(),
            signal.trust.as_str().to_owned(),
            value(signal.trust),
            asks.map_or_else(|| "-".to_owned(), |proposal| format!("{}{mark}", proposal.replicas)),
        ]
    });
    text.push_str(&table(["SIGNAL", "STATE", "VALUE", "ASKS FOR"], rows));
    for step in &pool.steps {
        let _ = writeln!(text, "{}: {} → {}", step.reason.as_str(), step.before, step.after);
    }
}

fn value(trust: Trust) -> String {
    match trust {
        Trust::Stale { age_seconds } => format!("{age_seconds:.0}s old"),
        Trust::Missing(absence) => absence.as_str().to_owned(),
        other => other.for_growth().map_or_else(|| "-".to_owned(), explanation::rounded),
    }
}

/// What the status alone says: of a service that the operator does not decide about.
pub fn status(service: &InferenceService) -> String {
    let mut text = format!("{}\n", service.metadata.name.as_deref().unwrap_or_default());
    let Some(status) = &service.status else {
        text.push_str("not observed yet\n");
        return text;
    };
    for pool in &status.pools {
        let decision = pool.decision.as_ref();
        let (reason, message) = decision.map_or(("?", ""), |d| (d.reason.as_str(), d.message.as_str()));
        let _ = writeln!(text, "\n{} {}: {reason}: {message}", pool.desired, pool.name);
        if let Some(advice) = &pool.advice {
            let _ = writeln!(
                text,
                "advice: {}: {}: {}",
                advice.replicas, advice.reason, advice.message
            );
        }
    }
    let rows = status
        .conditions
        .iter()
        .map(|c| [c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone()]);
    text.push('\n');
    text.push_str(&table(["CONDITION", "STATUS", "REASON", "MESSAGE"], rows));
    text
}

/// A decision that was executed again.
pub fn explained(name: &str, explained: &Explained) -> String {
    let mut text = decision(name, &explained.decision);
    text.push('\n');
    if explained.is_same {
        text.push_str("executed again: the same decision, bit for bit\n");
    } else {
        text.push_str("executed again: ANOTHER decision\n");
        for difference in &explained.differences {
            let _ = writeln!(text, "  {difference}");
        }
    }
    text
}

/// Two courses side by side.
pub fn compared(compared: &Compared) -> String {
    let row = |name: &str, course: &Course| {
        [
            name.to_owned(),
            format!("{:.0}", course.replica_seconds),
            format!("{:.0}", course.short_seconds),
            course.changes.to_string(),
            course.reversals.to_string(),
        ]
    };
    let mut text = format!("{:.0} s\n", compared.recorded.seconds);
    let rows = [row("recorded", &compared.recorded), row("other", &compared.other)];
    text.push_str(&table(
        ["", "REPLICA-SECONDS", "SECONDS SHORT", "CHANGES", "REVERSALS"],
        rows.into_iter(),
    ));
    let most = compared
        .recorded
        .replicas
        .iter()
        .chain(&compared.other.replicas)
        .copied()
        .max();
    for (name, course) in [("recorded", &compared.recorded), ("other   ", &compared.other)] {
        let _ = writeln!(text, "{name} {}", sparkline(&course.replicas, most.unwrap_or(1)));
    }
    let _ = writeln!(text, "(bars from 0 to {} replicas)", most.unwrap_or(1));
    text
}

/// Replicas over time, in one line.
fn sparkline(replicas: &[u32], most: u32) -> String {
    let width = replicas.len().div_ceil(SPARKLINE_CHARS_MAX).max(1);
    let bars = replicas.chunks(width).map(|chunk| {
        let highest = chunk.iter().copied().max().unwrap_or(0);
        let index = u64::from(highest) * (BARS.len() as u64 - 1) / u64::from(most.max(1));
        BARS[usize::try_from(index).unwrap_or(0).min(BARS.len() - 1)]
    });
    bars.collect()
}

/// Other numbers, decided about.
pub fn what_if(name: &str, what_if: &WhatIf) -> String {
    let mut text = decision(name, &what_if.now);
    for (now, later) in what_if.now.pools.iter().zip(&what_if.later.pools) {
        if now.to != later.to {
            let _ = writeln!(
                text,
                "\nif it stays so for two minutes: {}",
                explanation::sentence(&what_if.later, later)
            );
        }
    }
    text
}

/// All services, a line each.
pub fn top(services: &[InferenceService]) -> String {
    let rows = services.iter().map(|service| {
        let status = service.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
        let mode = service
            .spec
            .predictor
            .auto_scaling
            .as_ref()
            .map_or_else(String::new, |a| format!("{:?}", a.mode));
        let why: Vec<String> = status
            .pools
            .iter()
            .filter_map(|pool| Some(format!("{}: {}", pool.name, pool.decision.as_ref()?.message)))
            .collect();
        let number = |value: Option<i32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        [
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
            if mode.is_empty() { "Hpa".to_owned() } else { mode },
            ready.map_or_else(|| "?".to_owned(), |c| c.status.clone()),
            format!("{}/{}", number(status.ready_replicas), number(status.desired_replicas)),
            status.queue.unwrap_or_else(|| "?".to_owned()),
            status.limited_by.unwrap_or_else(|| "-".to_owned()),
            why.join("; "),
        ]
    });
    table(
        [
            "NAMESPACE",
            "NAME",
            "MODE",
            "READY",
            "REPLICAS",
            "QUEUE",
            "LIMITED",
            "WHY",
        ],
        rows,
    )
}

/// Columns of equal width, two spaces apart; the last one is as long as it is.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in [head.map(ToOwned::to_owned)].iter().chain(&rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column + 1 == N {
                line.push_str(cell);
            } else {
                let _ = write!(line, "{cell:<width$}  ", width = width(column));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "é".to_owned(), "last one".to_owned()]];
        assert_eq!(
            table(["LONG", "B", "C"], rows.into_iter()),
            "LONG  B  C\na     é  last one\n"
        );
    }

    #[test]
    fn a_sparkline_shows_the_highest_of_what_it_puts_together() {
        assert_eq!(sparkline(&[0, 4, 8], 8), "▁▄█");
        let long: Vec<u32> = (0..1000).map(|n| u32::from(n == 500) * 7).collect();
        let line = sparkline(&long, 7);
        assert_eq!(line.chars().count(), SPARKLINE_CHARS_MAX);
        assert_eq!(line.chars().filter(|c| *c == '█').count(), 1);
    }
}
