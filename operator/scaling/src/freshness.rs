//! Which numbers are believed: fresh, partial, over an unfilled window, stale, missing, implausible, per signal. Only a fresh one shrinks anything.

use serde::{Deserialize, Serialize};

use crate::observation::{Absence, Reading};
use crate::policy::Signal;
use crate::units::{Amount, Moment};

/// What a signal is worth at this tick.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Trust {
    /// Fresh, from all targets.
    Ok(Amount),
    /// Nothing exists that could have load.
    Idle,
    /// From some targets, at least half, and made one of all: good for growing only.
    Partial {
        /// Of all targets. The others are believed to have as much in a total, and to be idle in a mean, as the HorizontalPodAutoscaler has it.
        value: Amount,
        /// Targets that answered.
        up: u32,
        /// Targets that exist.
        all: u32,
    },
    /// Over a window that is not filled yet, as after an outage of Prometheus: the truth is at least this. Good for growing only, and no experience.
    WarmingUp {
        /// Scaled up to all targets, as if each had been seen over the whole window.
        value: Amount,
        /// Targets whose windows are filled.
        covered: u32,
        /// Targets that answered.
        up: u32,
    },
    /// Too old.
    Stale {
        /// Seconds.
        age_seconds: f64,
    },
    /// Not there.
    Missing(Absence),
    /// More than can be true; believed if a later sample says it again.
    Implausible,
}

impl Trust {
    /// The amount, if it may make a pool grow.
    pub fn for_growth(self) -> Option<f64> {
        match self {
            Self::Ok(value) | Self::Partial { value, .. } | Self::WarmingUp { value, .. } => Some(value.get()),
            Self::Idle => Some(0.0),
            Self::Stale { .. } | Self::Missing(_) | Self::Implausible => None,
        }
    }

    /// Whether a pool may shrink by it.
    pub const fn is_full(self) -> bool {
        matches!(self, Self::Ok(_) | Self::Idle)
    }

    /// The amount, if it is the whole truth about some targets at least: what may be learned from.
    pub fn for_learning(self) -> Option<f64> {
        match self {
            Self::WarmingUp { .. } => None,
            other => other.for_growth(),
        }
    }

    /// One word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok(_) => "Ok",
            Self::Idle => "Idle",
            Self::Partial { .. } => "Partial",
            Self::WarmingUp { .. } => "WarmingUp",
            Self::Stale { .. } => "Stale",
            Self::Missing(absence) => absence.as_str(),
            Self::Implausible => "Implausible",
        }
    }
}

/// What is remembered of a signal to judge the next sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// When the first of the absurd samples in a row was true; none after a credible one. Whoever decides more often than the number is published sees one
    /// sample many times: its moment tells whether it is another one.
    pub absurd_since: Option<Moment>,
}

/// Judges one reading. `absurd_above` is what nothing in this service can reach; `exists` whether any pod does.
pub fn judge(
    reading: &Reading,
    signal: &Signal,
    absurd_above: f64,
    exists: bool,
    memory: &mut Memory,
    now: Moment,
) -> Trust {
    let sample = match reading {
        Ok(sample) => sample,
        Err(Absence::NoTargets) if !exists => return Trust::Idle,
        Err(absence) => return Trust::Missing(*absence),
    };
    let Some(value) = Amount::new(sample.value.0) else {
        return Trust::Missing(Absence::Invalid);
    };
    let age_seconds = now.seconds_since(sample.at);
    if age_seconds > signal.stale_after_seconds {
        return Trust::Stale { age_seconds };
    }
    let is_absurd = value.get() > absurd_above;
    memory.absurd_since = is_absurd.then(|| memory.absurd_since.unwrap_or(sample.at));
    if memory.absurd_since.is_some_and(|since| sample.at <= since) {
        return Trust::Implausible;
    }
    // Even believed, it asks for no more than all replicas many times over; and sums of it stay finite.
    let value = if is_absurd {
        Amount::new(absurd_above).unwrap_or(value)
    } else {
        value
    };
    let (up, all) = (sample.targets_up, sample.targets_all);
    if up < all && (up == 0 || up * 2 < all) {
        return Trust::Missing(Absence::SeriesMissing);
    }
    let of_all = if up >= all {
        Some(value)
    } else if signal.kind.is_mean() {
        Amount::new(value.get() * f64::from(up) / f64::from(all))
    } else {
        Amount::new(value.get() * f64::from(all) / f64::from(up))
    };
    match (of_all, sample.targets_covered) {
        (None, _) => Trust::Missing(Absence::Invalid),
        (Some(value), Some(covered)) if covered < up => Trust::WarmingUp { value, covered, up },
        (Some(value), _) if up < all => Trust::Partial { value, up, all },
        (Some(value), _) => Trust::Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Sample;
    use crate::policy::SignalKind;
    use crate::test_support::{draft, seconds};
    use crate::units::Raw;

    fn sample(value: f64, up: u32, all: u32) -> Sample {
        Sample {
            value: Raw(value),
            at: seconds(100),
            window_seconds: 10.0,
            targets_up: up,
            targets_all: all,
            targets_covered: None,
        }
    }

    /// So many of the targets were seen over the whole window.
    fn covered(sample: Sample, covered: u32) -> Sample {
        Sample {
            targets_covered: Some(covered),
            ..sample
        }
    }

    /// Every state, by reading and by what is known beside it.
    #[test]
    fn truth_table() {
        let signal = &draft().signals[0];
        let amount = |value| Amount::new(value).unwrap();
        let at = |now: u64, reading: Reading, exists: bool| {
            judge(&reading, signal, 1000.0, exists, &mut Memory::default(), seconds(now))
        };
        for (now, reading, exists, expected) in [
            (101, Ok(sample(5.0, 3, 3)), true, Trust::Ok(amount(5.0))),
            (101, Ok(sample(0.0, 3, 3)), true, Trust::Ok(amount(0.0))),
            (
                101,
                Ok(sample(6.0, 3, 4)),
                true,
                Trust::Partial {
                    value: amount(8.0),
                    up: 3,
                    all: 4,
                },
            ),
            (101, Ok(sample(6.0, 1, 3)), true, Trust::Missing(Absence::SeriesMissing)),
            (101, Ok(sample(6.0, 0, 3)), true, Trust::Missing(Absence::SeriesMissing)),
            (200, Ok(sample(5.0, 3, 3)), true, Trust::Stale { age_seconds: 100.0 }),
            (101, Ok(sample(f64::NAN, 3, 3)), true, Trust::Missing(Absence::Invalid)),
            (
                101,
                Ok(sample(f64::INFINITY, 3, 3)),
                true,
                Trust::Missing(Absence::Invalid),
            ),
            (101, Ok(sample(-5.0, 3, 3)), true, Trust::Missing(Absence::Invalid)),
            (101, Ok(sample(1e308, 3, 3)), true, Trust::Implausible),
            (
                101,
                Ok(sample(999.0, 2, 3)),
                true,
                Trust::Partial {
                    value: amount(1498.5),
                    up: 2,
                    all: 3,
                },
            ),
            (101, Ok(covered(sample(5.0, 3, 3), 3)), true, Trust::Ok(amount(5.0))),
            (
                101,
                Ok(covered(sample(5.0, 3, 3), 2)),
                true,
                Trust::WarmingUp {
                    value: amount(5.0),
                    covered: 2,
                    up: 3,
                },
            ),
            // Lost and not covered: scaled up, and too low still.
            (
                101,
                Ok(covered(sample(6.0, 3, 4), 0)),
                true,
                Trust::WarmingUp {
                    value: amount(8.0),
                    covered: 0,
                    up: 3,
                },
            ),
            // The one that is not covered is the one that is lost.
            (
                101,
                Ok(covered(sample(6.0, 3, 4), 3)),
                true,
                Trust::Partial {
                    value: amount(8.0),
                    up: 3,
                    all: 4,
                },
            ),
            (
                101,
                Ok(covered(sample(6.0, 1, 3), 0)),
                true,
                Trust::Missing(Absence::SeriesMissing),
            ),
            (
                200,
                Ok(covered(sample(5.0, 3, 3), 0)),
                true,
                Trust::Stale { age_seconds: 100.0 },
            ),
            (101, Err(Absence::NoTargets), false, Trust::Idle),
            (101, Err(Absence::NoTargets), true, Trust::Missing(Absence::NoTargets)),
            (
                101,
                Err(Absence::QueryFailed),
                false,
                Trust::Missing(Absence::QueryFailed),
            ),
        ] {
            assert_eq!(at(now, reading, exists), expected, "{reading:?}");
        }
    }

    #[test]
    fn of_a_part_a_total_is_made_up_and_a_mean_is_spread_thin() {
        let of = |kind: SignalKind, value: f64| {
            let signal = Signal {
                kind,
                ..draft().signals[0].clone()
            };
            let reading = Ok(sample(value, 3, 4));
            judge(&reading, &signal, 1000.0, true, &mut Memory::default(), seconds(101)).for_growth()
        };
        let (pool, target) = (0, 1.0);
        assert_eq!(of(SignalKind::PerReplica { pool, target }, 6.0), Some(8.0));
        assert_eq!(of(SignalKind::Utilization { pool, target }, 6.0), Some(4.5));
        assert_eq!(of(SignalKind::MeanUse { pool, target }, 6.0), Some(4.5));
    }

    /// Judges a value that was true so many seconds after the start, a second later.
    fn judge_at(memory: &mut Memory, value: f64, at: u64) -> Trust {
        let sample = Sample {
            at: seconds(at),
            ..sample(value, 1, 1)
        };
        judge(&Ok(sample), &draft().signals[0], 100.0, true, memory, seconds(at + 1))
    }

    #[test]
    fn what_is_absurd_twice_is_believed() {
        let mut memory = Memory::default();
        let mut judge = |value, at| judge_at(&mut memory, value, at);
        let most = Trust::Ok(Amount::new(100.0).unwrap());
        assert_eq!(judge(500.0, 100), Trust::Implausible);
        assert_eq!(judge(500.0, 110), most, "but for what it can be at most");
        assert_eq!(judge(500.0, 110), most, "and as long as it is read");
        assert_eq!(judge(5.0, 120), Trust::Ok(Amount::new(5.0).unwrap()));
        assert_eq!(
            judge(500.0, 130),
            Trust::Implausible,
            "a good one between them starts anew"
        );
    }

    #[test]
    fn one_absurd_sample_stays_absurd_however_often_it_is_read() {
        let mut memory = Memory::default();
        for look in 0..10 {
            assert_eq!(judge_at(&mut memory, 500.0, 100), Trust::Implausible, "look {look}");
        }
        assert!(judge_at(&mut memory, 500.0, 115).is_full(), "another one says it too");
    }

    #[test]
    fn only_full_trust_shrinks() {
        let one = Amount::new(1.0).unwrap();
        assert!(Trust::Ok(one).is_full() && Trust::Idle.is_full());
        for trust in [
            Trust::Partial {
                value: one,
                up: 1,
                all: 2,
            },
            Trust::WarmingUp {
                value: one,
                covered: 0,
                up: 1,
            },
            Trust::Stale { age_seconds: 9.0 },
            Trust::Missing(Absence::QueryFailed),
            Trust::Implausible,
        ] {
            assert!(!trust.is_full(), "{trust:?}");
        }
    }
}
