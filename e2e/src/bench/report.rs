//! Ratios within rounds, their median and spread, and the raw rounds as JSON.
use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use serde_json::json;

use super::closed_loop::Measured;
use crate::console::result;
use crate::paths;

/// One measurement per side.
pub(super) type Round = BTreeMap<&'static str, Measured>;

const ECHO: &str = "echo";

/// Prints the table and writes `target/bench/result.json`.
pub(super) fn write(rounds: &[Round], seconds: u64) -> Result<()> {
    let machine = machine();
    result(format_args!("{machine}"));
    result(format_args!(
        "{} rounds of {seconds} s; server on core 0, load on the last core; digits MLP 64-128-64-10, one image per request, JSON over HTTP/1.1",
        rounds.len()
    ));
    result(format_args!(
        "{:<16} {:>12} {:>28} {:>24}",
        "side", "answers/s", "ratio to echo (min..max)", "added p50 alone (min..max)"
    ));
    let sides: Vec<&str> = rounds.first().map(|r| r.keys().copied().collect()).unwrap_or_default();
    let mut table = Vec::new();
    for side in sides {
        let pairs = || {
            rounds
                .iter()
                .filter_map(|round| Some((round.get(side)?, round.get(ECHO)?)))
        };
        let rate = spread(pairs().map(|(s, _)| s.per_second));
        let ratio = spread(pairs().map(|(s, echo)| s.per_second / echo.per_second));
        let added = spread(pairs().map(|(s, echo)| s.alone_p50_micros as f64 - echo.alone_p50_micros as f64));
        result(format_args!(
            "{side:<16} {:>12.0} {:>12.2} ({:.2}..{:.2}) {:>12.0} us ({:.0}..{:.0})",
            rate.1, ratio.1, ratio.0, ratio.2, added.1, added.0, added.2
        ));
        table
            .push(json!({"side": side, "answers_per_second": rate, "ratio_to_echo": ratio, "added_p50_micros": added}));
    }
    let folder = paths::target_dir().join("bench");
    fs::create_dir_all(&folder)?;
    let text = serde_json::to_string_pretty(
        &json!({"machine": machine, "seconds": seconds, "table_min_median_max": table, "rounds": rounds}),
    )?;
    fs::write(folder.join("result.json"), text + "\n")?;
    result(format_args!("raw rounds: {}/result.json", folder.display()));
    Ok(())
}

/// Least, median, greatest.
pub(super) fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(all.len() / 2), at(all.len().saturating_sub(1)))
}

pub(super) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches(['\t', ' ', ':']));
    // Not those that this process may use: it has pinned itself.
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{model}, {cores} cores, Linux {}, tidewright {}",
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn spread_is_least_median_greatest() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), (1.0, 2.0, 3.0));
    }
}
