//! What the machine's processors did meanwhile, by `/proc/stat` (columns as in proc(5)).
use anyhow::{Context as _, Result};
use serde::Serialize;

const IDLE: [usize; 2] = [3, 4];
const STEAL: usize = 7;

/// Ticks of all processors until now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    idle: f64,
    stolen: f64,
    all: f64,
}

/// Shares of the time since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Shares {
    /// Of work of this machine.
    pub(super) busy: f64,
    /// Taken away by the host.
    pub(super) stolen: f64,
}

impl Ticks {
    pub(super) fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default();
        // Time of guests is in that of users already.
        let columns = first.split_whitespace().skip(1).take(STEAL + 1);
        let ticks: Vec<f64> = columns.filter_map(|ticks| ticks.parse().ok()).collect();
        let at = |column: usize| ticks.get(column).copied().unwrap_or_default();
        Self {
            idle: IDLE.into_iter().map(at).sum(),
            stolen: at(STEAL),
            all: ticks.iter().sum(),
        }
    }

    /// What became of the time from these ticks to later ones.
    pub(super) fn until(self, later: Self) -> Shares {
        let all = (later.all - self.all).max(1.0);
        let stolen = (later.stolen - self.stolen) / all;
        Shares {
            busy: 1.0 - (later.idle - self.idle) / all - stolen,
            stolen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle_and_what_the_host_takes_is_no_work() {
        let before = Ticks::parse("cpu  100 0 100 700 100 0 0 10 50 0\ncpu0 1 1 1\n");
        let later = Ticks::parse("cpu  130 0 120 730 110 0 0 20 80 0\n");
        let shares = before.until(later);
        assert!(
            (shares.busy - 0.5).abs() < 1e-9 && (shares.stolen - 0.1).abs() < 1e-9,
            "{shares:?}"
        );
        assert!(Ticks::now().unwrap().all > 0.0);
    }
}
