//! How peers batch is found out before anything counts: those that have a batcher are tried with each size and wait, and keep what answers most.
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::peers::{Field, Workload};
use super::{closed_loop, digits_part, sides};
use crate::console::progress;

/// Peers that have a batcher.
pub(super) const BATCHING: [&str; 3] = ["mlserver", "mosec", "triton"];
/// Largest batches, and how long one is waited for, in microseconds: what peers document for small models, and steps to either side.
const BATCHES_MAX: [u32; 2] = [8, 32];
const WAITS_MICROS: [u32; 4] = [0, 500, 1_000, 2_000];
const CONNECTIONS: usize = 32;
const WARM_UP: Duration = Duration::from_millis(500);
const LASTS: Duration = Duration::from_millis(1_500);

/// How a peer batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    /// Most items of a run; 1: no batcher.
    pub(super) batch_max: u32,
    pub(super) wait_micros: u32,
}

/// What each has where nobody has tried; Triton does not wait.
pub(super) const USUAL: Setting = Setting {
    batch_max: 32,
    wait_micros: 1_000,
};

/// What was tried of one peer with one workload.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Tried {
    /// Answers per second with 32 connections; none where it did not start so.
    pub(super) rates: Vec<(Setting, Option<f64>)>,
}

impl Tried {
    /// The one that answered most.
    pub(super) fn best(&self) -> Option<Setting> {
        let started = self
            .rates
            .iter()
            .filter_map(|(setting, rate)| Some((setting, (*rate)?)));
        let best = started.max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(setting, _)| *setting)
    }

    /// Of those that never wait for company the one that answered most: what a lone request, or one with little time, is served best by.
    pub(super) fn best_without_wait(&self) -> Option<Setting> {
        let rates = self.rates.iter().filter(|(setting, _)| setting.wait_micros == 0);
        let rates = rates.copied().collect();
        Self { rates }.best()
    }
}

/// By workload and peer.
pub(super) type Tuned = BTreeMap<(&'static str, &'static str), Tried>;

/// What a peer can be told, in words of its own.
fn settings(peer: &str) -> Vec<Setting> {
    let waits = |peer: &str| match peer {
        // Whole milliseconds, and 0 stands for ten of them.
        "mosec" => vec![1_000, 2_000],
        // Without a wait it has no batches.
        "mlserver" => vec![500, 1_000, 2_000],
        _ => WAITS_MICROS.to_vec(),
    };
    let without = Setting {
        batch_max: 1,
        wait_micros: 0,
    };
    let with = BATCHES_MAX.iter().flat_map(|batch_max| {
        let setting = |wait_micros| Setting {
            batch_max: *batch_max,
            wait_micros,
        };
        waits(peer).into_iter().map(setting)
    });
    std::iter::once(without).chain(with).collect()
}

/// Tries each setting of each of the peers once.
pub(super) async fn tune(field: &mut Field, work: &Workload, peers: &[&'static str]) {
    for peer in peers {
        let mut rates = Vec::new();
        for setting in settings(peer) {
            let Some(side) = field.peer_with(peer, work, setting) else {
                continue;
            };
            let tried = async {
                let running = sides::start(&side).await?;
                closed_loop::run(running.address, &side.requests, CONNECTIONS, WARM_UP).await?;
                let (rate, _) = closed_loop::run(running.address, &side.requests, CONNECTIONS, LASTS).await?;
                running.stop().await;
                anyhow::Ok(rate)
            };
            let rate = match tried.await {
                Ok(rate) => Some(rate),
                Err(error) => {
                    progress(format_args!("{}: {peer} with {setting:?}: {error:#}", work.name));
                    None
                }
            };
            rates.push((setting, rate));
        }
        let tried = Tried { rates };
        if let Some(best) = tried.best() {
            progress(format_args!(
                "{}: {peer} answers most with batches of {} and a wait of {} us",
                work.name, best.batch_max, best.wait_micros
            ));
        }
        field.tuned.insert((work.name, peer), tried);
    }
}

/// For the report: what each peer was told, and between what it had the choice.
pub(super) fn told(tuned: &Tuned) -> Option<String> {
    let of = |((work, peer), tried): (&(&str, &str), &Tried)| {
        let best = tried.best()?;
        // As `Field::hasty_triton` has it, and nobody else.
        let is_hasty = (*work, *peer) == (digits_part::PART, "triton");
        let hasty = tried.best_without_wait().filter(|hasty| is_hasty && *hasty != best);
        let hasty = hasty.map_or_else(String::new, |hasty| {
            format!(", and of {} without a wait where time counts", hasty.batch_max)
        });
        let rates = tried.rates.iter().filter_map(|(_, rate)| *rate);
        let (least, most) = rates.fold((f64::MAX, 0.0_f64), |(least, most), rate| {
            (least.min(rate), most.max(rate))
        });
        Some(format!(
            "{peer}, {work}: batches of {}, wait {} us{hasty} ({most:.0} answers/s; {least:.0} with the least fitting of {})",
            best.batch_max,
            best.wait_micros,
            tried.rates.len()
        ))
    };
    let all: Vec<String> = tuned.iter().filter_map(of).collect();
    let how = "Peers with a batcher were tried with every size and wait first, 1.5 s each with 32 connections, and keep what answered most";
    (!all.is_empty()).then(|| format!("{how}: {}.", all.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Setting = Setting {
        batch_max: 1,
        wait_micros: 0,
    };
    const EIGHT: Setting = Setting {
        batch_max: 8,
        wait_micros: 500,
    };

    #[test]
    fn every_peer_may_go_without_a_batcher_and_mosec_is_told_whole_milliseconds() {
        for peer in BATCHING {
            assert_eq!(settings(peer)[0], ONE);
        }
        assert_eq!(settings("triton").len(), 9);
        assert!(
            settings("mosec")[1..]
                .iter()
                .all(|setting| setting.wait_micros >= 1_000)
        );
    }

    #[test]
    fn what_answered_most_is_kept_and_told() {
        let tried = Tried {
            rates: vec![(ONE, Some(10.0)), (EIGHT, Some(30.0)), (EIGHT, None)],
        };
        assert_eq!(tried.best(), Some(EIGHT));
        assert_eq!(tried.best_without_wait(), Some(ONE));
        let told = told(&Tuned::from([(("digits", "triton"), tried)])).unwrap();
        assert!(
            told.ends_with("triton, digits: batches of 8, wait 500 us, and of 1 without a wait where time counts (30 answers/s; 10 with the least fitting of 3)."),
            "{told}"
        );
        assert_eq!(
            Tried {
                rates: vec![(ONE, None)]
            }
            .best(),
            None
        );
        assert_eq!(super::told(&Tuned::new()), None);
    }
}
