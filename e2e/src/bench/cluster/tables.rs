//! The three statements as tables: what was measured of both sides, the ratio or the difference, and whether a goal was reached. Pure.
use super::Results;
use super::race::Race;
use super::score::quantile;
use super::slices::{Compared, Comparison};
use super::steps::Reactions;

/// The simulator is believed where it is no further off, in percent.
const OFF_PERCENT_MAX: f64 = 10.0;

/// For Markdown and for the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) note: String,
}

impl Table {
    pub(super) fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("## {}\n\n{}", self.title, line(&self.columns));
        text.extend(["|", &"---|".repeat(self.columns.len()), "\n"]);
        text.extend(self.rows.iter().map(|row| line(row)));
        format!("{text}\n{}\n", self.note)
    }
}

/// One for each part that was run.
pub(super) fn tables(results: &Results) -> Vec<Table> {
    let race = results.race.as_ref().map(race);
    let comparison = results.comparison.as_ref().map(comparison);
    let reactions = results.reactions.as_ref().map(reactions);
    [race, comparison, reactions].into_iter().flatten().collect()
}

fn texts<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// Ratios below 1 are in the operator's favour in every row.
fn both(what: &str, (direct, hpa): (f64, f64), digits: usize) -> Vec<String> {
    let ratio = if hpa > 0.0 {
        format!("{:.2}", direct / hpa)
    } else {
        "-".to_owned()
    };
    vec![
        what.to_owned(),
        format!("{direct:.digits$}"),
        format!("{hpa:.digits$}"),
        ratio,
    ]
}

fn race(race: &Race) -> Table {
    let row = |what, digits, value: fn(&super::score::Score) -> f64| {
        both(what, race.of_both(value).unwrap_or_default(), digits)
    };
    let (slice, replayed) = (&race.slice, &race.replayed);
    let requests = race.of_both(|score| score.requests as f64).unwrap_or_default().0;
    let events: Vec<String> = replayed
        .events
        .iter()
        .map(|event| format!("{:.0} s: {}", event.seconds, event.what))
        .collect();
    Table {
        title: "Direct beside Hpa, under chaos".to_owned(),
        columns: texts(["", "Direct", "Hpa", "Direct / Hpa"]),
        rows: vec![
            row("late or failed, %", 2, |score| score.violations * 100.0),
            row("late", 0, |score| score.late as f64),
            row("failed", 0, |score| score.failed as f64),
            row("pod-seconds", 0, |score| score.pod_seconds),
            row("scale actions", 0, |score| score.actions as f64),
            row("reversals within 5 min", 0, |score| score.reversals as f64),
            row("latency p50, ms", 0, |score| score.p50_ms),
            row("latency p95, ms", 0, |score| score.p95_ms),
            row("latency p99, ms", 0, |score| score.p99_ms),
        ],
        note: format!(
            "{} (dispersion {:.1}), {} requests scored of {} in {:.0} s, {:.2} times as fast, {:.0} % of the requests kept; the same arrivals for both. \
             {} Processors busy {:.0} %, taken by the host {:.1} %.",
            slice.name,
            slice.dispersion,
            requests,
            slice.fitted.times.len(),
            slice.fitted.seconds,
            slice.fitted.speed,
            slice.fitted.kept * 100.0,
            events.join("; "),
            replayed.machine.busy * 100.0,
            replayed.machine.stolen * 100.0
        ),
    }
}

fn off(found: Option<f64>) -> String {
    match found {
        Some(percent) if percent.abs() <= OFF_PERCENT_MAX => format!("{percent:+.1} %"),
        Some(percent) => format!("{percent:+.1} %, not within {OFF_PERCENT_MAX:.0} %"),
        None => "-".to_owned(),
    }
}

fn compared(one: &Compared) -> Vec<String> {
    let (pods, pods_least, pods_most) = one.simulated(|run| run.pod_seconds);
    let (late, late_least, late_most) = one.simulated(|run| run.violations * 100.0);
    let actions = one.simulated(|run| run.actions as f64).0;
    vec![
        one.slice.name.clone(),
        one.cluster.requests.to_string(),
        format!("{:.0}", one.cluster.pod_seconds),
        format!("{pods:.0} ({pods_least:.0} to {pods_most:.0})"),
        off(one.pod_seconds_off()),
        format!("{:.2}", one.cluster.violations * 100.0),
        format!("{late:.2} ({late_least:.2} to {late_most:.2})"),
        off(one.violations_off()),
        format!("{} / {actions:.0}", one.cluster.actions),
    ]
}

fn comparison(comparison: &Comparison) -> Table {
    let machine = comparison.replayed.machine;
    let fits: Vec<String> = comparison
        .compared
        .iter()
        .map(|one| {
            let fitted = &one.slice.fitted;
            format!(
                "{:.0} s, {:.2} times as fast, {:.0} % kept",
                fitted.seconds,
                fitted.speed,
                fitted.kept * 100.0
            )
        })
        .collect();
    Table {
        title: "The cluster beside the simulator".to_owned(),
        columns: texts([
            "slice",
            "requests",
            "pod-seconds",
            "simulated",
            "off",
            "late or failed, %",
            "simulated",
            "off",
            "actions, simulated",
        ]),
        rows: comparison.compared.iter().map(compared).collect(),
        note: format!(
            "Mode Direct, all at the same time: {}. Simulated: the mean of the seeds, least to most. Pods took {:.1} s to start (median of {}). \
             Processors busy {:.0} %, taken by the host {:.1} %.",
            fits.join("; "),
            comparison.start_median_seconds,
            comparison.starts_seconds.len(),
            machine.busy * 100.0,
            machine.stolen * 100.0
        ),
    }
}

fn reactions(reactions: &Reactions) -> Table {
    let (direct, hpa) = reactions.seconds();
    let row = |what, share: f64| {
        let at = |values: &[f64]| quantile(values, share).unwrap_or_default();
        both(what, (at(&direct), at(&hpa)), 2)
    };
    Table {
        title: "From the first request of a load step to spec.replicas".to_owned(),
        columns: texts(["seconds", "Direct", "Hpa", "Direct / Hpa"]),
        rows: vec![row("median", 0.5), row("p90", 0.9), row("p99", 0.99), row("max", 1.0)],
        note: format!(
            "{} steps, each on both at the same instant. Processors busy {:.0} %, taken by the host {:.1} %.",
            reactions.all.len(),
            reactions.machine.busy * 100.0,
            reactions.machine.stolen * 100.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::Reaction;
    use super::*;
    use crate::bench::processor::Shares;

    #[test]
    fn a_ratio_is_of_the_two_beside_it() {
        assert_eq!(both("x", (1.0, 4.0), 1), ["x", "1.0", "4.0", "0.25"]);
        assert_eq!(both("x", (1.0, 0.0), 0), ["x", "1", "0", "-"]);
    }

    #[test]
    fn what_is_further_off_than_the_goal_says_so() {
        assert_eq!(off(Some(-9.96)), "-10.0 %");
        assert_eq!(off(Some(12.0)), "+12.0 %, not within 10 %");
        assert_eq!(off(None), "-");
    }

    #[test]
    fn quantiles_of_the_steps_stand_side_by_side() {
        let all = (1..=10).map(|index| Reaction {
            direct: Some(f64::from(index)),
            hpa: (index < 10).then_some(f64::from(index) * 2.0),
        });
        let table = reactions(&Reactions {
            all: all.collect(),
            machine: Shares::default(),
        });
        assert_eq!(table.rows[0], ["median", "5.00", "10.00", "0.50"]);
        assert_eq!(table.rows[3], ["max", "10.00", "90.00", "0.11"]);
        let text = table.to_markdown();
        assert!(
            text.contains("| seconds | Direct | Hpa | Direct / Hpa |\n|---|---|---|---|\n| median |"),
            "{text}"
        );
    }
}
