//! What Prometheus knows: scrapes of the gateways and the pods with their phases, failures and outages, and honest answers to queries.

pub mod rate;
mod target;

use std::collections::BTreeMap;

use crate::random::{Purpose, Stream};
use crate::time::{MILLISECOND, Nanos};

use target::{COLUMNS, Target};

/// A counter that can be rated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Requests that arrived at the gateways, held and refused ones included.
    Arrivals,
    /// Requests that the pods completed.
    Completions,
    /// Busy slot-seconds of the pods.
    Work,
}

/// A gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Requests that wait at the gateways.
    Queued,
    /// Requests that the gateways have sent to pods.
    InService,
    /// Requests that the pods serve.
    PodInFlight,
}

/// Which kind of target shows something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    Gateway,
    Pod,
}

/// A scrape target: its job, and the number of the gateway or the ordinal of the pod.
pub type TargetId = (Job, u64);

/// A number with what is needed to judge it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// May be NaN, as Prometheus' values may.
    pub value: f64,
    /// Of the newest raw sample behind it.
    pub age_seconds: f64,
    /// Targets of the job whose last scrape succeeded, as share of all.
    pub up_share: f64,
    /// Those of them whose window is filled, as share of all; `None` for a number of the moment.
    pub covered_share: Option<f64>,
}

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Absence {
    /// Prometheus does not answer.
    Unreachable,
    /// It answers with an empty vector; this share of the job's targets is up (0 where there are none).
    Empty { up_share: f64 },
}

pub type Answer = std::result::Result<Sample, Absence>;

/// How it is scraped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScrapeSettings {
    pub seed: u64,
    pub interval: Nanos,
    /// Probability that a scrape fails, each for itself.
    pub failure: f64,
    pub gateways: u64,
}

/// The Prometheus of a run.
#[derive(Debug)]
pub struct Prometheus {
    settings: ScrapeSettings,
    targets: BTreeMap<TargetId, Target>,
    /// It neither scrapes nor answers.
    down: bool,
    /// Values become NaN.
    nan: bool,
    /// Share of the targets that cannot be reached.
    lost_share: f64,
}

impl Prometheus {
    pub fn new(settings: ScrapeSettings) -> Self {
        Self {
            settings,
            targets: BTreeMap::new(),
            down: false,
            nan: false,
            lost_share: 0.0,
        }
    }

    pub fn set_down(&mut self, down: bool) {
        self.down = down;
    }

    pub fn set_nan(&mut self, nan: bool) {
        self.nan = nan;
    }

    pub fn set_lost_share(&mut self, share: f64) {
        self.lost_share = share;
    }

    /// The first scrape of a target that appears at `from`: each has its own phase, as Prometheus spreads them.
    pub fn first_scrape(&self, target: TargetId, from: Nanos) -> Nanos {
        let interval = self.settings.interval;
        let phase = (self.stream(Purpose::Phase, target).uniform(0) * interval as f64) as Nanos;
        let turns = (from.saturating_sub(phase)).div_ceil(interval);
        phase.saturating_add(turns * interval)
    }

    pub fn next_scrape(&self, at: Nanos) -> Nanos {
        at.saturating_add(self.settings.interval)
    }

    fn stream(&self, purpose: Purpose, (job, number): TargetId) -> Stream {
        Stream::new(self.settings.seed, purpose).part(number * 2 + job as u64)
    }

    fn is_lost(&self, target: TargetId) -> bool {
        match target.0 {
            // Exactly that share of a handful; of three gateways 0.67 is two.
            Job::Gateway => (target.1 as f64) < (self.lost_share * self.settings.gateways as f64).round(),
            Job::Pod => self.stream(Purpose::Fault, target).uniform(0) < self.lost_share,
        }
    }

    /// Scrapes a target that shows these values.
    pub fn scrape(&mut self, target: TargetId, now: Nanos, values: [f64; COLUMNS]) {
        if self.down {
            return;
        }
        let turn = now / self.settings.interval;
        let fails = self.is_lost(target) || self.stream(Purpose::Scrape, target).uniform(turn) < self.settings.failure;
        let stored = (!fails).then_some(values);
        self.targets.entry(target).or_default().store(to_ms(now), stored);
    }

    /// A target ended: discovery drops it.
    pub fn retire(&mut self, target: TargetId, now: Nanos) {
        if let Some(stored) = self.targets.get_mut(&target) {
            stored.retire();
        }
        let now_ms = to_ms(now);
        self.targets.retain(|_, target| !target.is_forgotten(now_ms));
    }

    /// `sum(rate(counter[window]))`.
    pub fn sum_of_rates(&self, counter: Counter, window: Nanos, now: Nanos) -> Answer {
        let (job, column) = match counter {
            Counter::Arrivals => (Job::Gateway, 0),
            Counter::Completions => (Job::Pod, 0),
            Counter::Work => (Job::Pod, 1),
        };
        let (now_ms, range_ms) = (to_ms(now), to_ms(window));
        let interval_ms = to_ms(self.settings.interval);
        let covers = |target: &Target| target.is_covered(now_ms, range_ms, interval_ms);
        let rate = |target: &Target| target.rate(column, now_ms, range_ms);
        self.sum(job, column, now_ms, rate, Some(&covers))
    }

    /// `sum(gauge)`.
    pub fn sum_of(&self, gauge: Gauge, now: Nanos) -> Answer {
        let (job, column) = match gauge {
            Gauge::Queued => (Job::Gateway, 1),
            Gauge::InService => (Job::Gateway, 2),
            Gauge::PodInFlight => (Job::Pod, 2),
        };
        let now_ms = to_ms(now);
        let value = |target: &Target| target.instant(column, now_ms).map(|point| point.value);
        self.sum(job, column, now_ms, value, None)
    }

    /// The sum of `value` over the targets of a job; `covers` tells whether a target's window is filled.
    fn sum(
        &self,
        job: Job,
        column: usize,
        now_ms: i64,
        value: impl Fn(&Target) -> Option<f64>,
        covers: Option<&dyn Fn(&Target) -> bool>,
    ) -> Answer {
        if self.down {
            return Err(Absence::Unreachable);
        }
        let (mut sum, mut series) = (0.0, 0_u32);
        let (mut up, mut known, mut covered) = (0_u32, 0_u32, 0_u32);
        let mut newest_ms = None;
        for (_, target) in self.targets.range((job, 0)..=(job, u64::MAX)) {
            if let Some(value) = value(target) {
                sum += value;
                series += 1;
            }
            if let Some(is_up) = target.up(now_ms) {
                known += 1;
                up += u32::from(is_up);
                covered += u32::from(is_up && covers.is_some_and(|covers| covers(target)));
            }
            newest_ms = newest_ms.max(target.instant(column, now_ms).map(|point| point.at_ms));
        }
        let share = |part: u32| {
            if known == 0 {
                0.0
            } else {
                f64::from(part) / f64::from(known)
            }
        };
        let up_share = share(up);
        if series == 0 {
            return Err(Absence::Empty { up_share });
        }
        Ok(Sample {
            value: if self.nan { f64::NAN } else { sum },
            // Rates of targets that are all gone have no instant sample: they are at least as old as the look-back lets an instant be.
            age_seconds: newest_ms.map_or(f64::INFINITY, |at| (now_ms - at) as f64 / 1_000.0),
            up_share,
            covered_share: covers.map(|_| share(covered)),
        })
    }

    /// What the values of a gateway are: arrivals, requests that wait, requests in service. Several share them evenly.
    pub fn gateway_values(&self, number: u64, arrived: u64, queued: u64, in_service: u64) -> [f64; COLUMNS] {
        let part = |whole: u64| ((whole + self.settings.gateways - 1 - number) / self.settings.gateways) as f64;
        [part(arrived), part(queued), part(in_service)]
    }
}

/// What the values of a pod are.
pub fn pod_values(pod: &crate::plant::Pod, now: Nanos) -> [f64; COLUMNS] {
    [pod.served as f64, pod.work_seconds(now), f64::from(pod.in_flight)]
}

fn to_ms(at: Nanos) -> i64 {
    i64::try_from(at / MILLISECOND).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;

    /// Three gateways that are scraped together every 10 s until `until`, with 6 requests a second in all.
    fn scraped(until: u64, change: impl Fn(&mut Prometheus, u64)) -> Prometheus {
        let mut prometheus = Prometheus::new(ScrapeSettings {
            seed: 1,
            interval: 10 * SECOND,
            failure: 0.0,
            gateways: 3,
        });
        for second in (0..=until).step_by(10) {
            change(&mut prometheus, second);
            for gateway in 0..3 {
                let values = prometheus.gateway_values(gateway, 6 * second, 7, 20);
                prometheus.scrape((Job::Gateway, gateway), second * SECOND, values);
            }
        }
        prometheus
    }

    fn rate(prometheus: &Prometheus, second: u64) -> Answer {
        prometheus.sum_of_rates(Counter::Arrivals, 60 * SECOND, second * SECOND)
    }

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-9
    }

    #[test]
    fn an_answer_says_how_old_it_is_and_who_is_behind_it() {
        let prometheus = scraped(300, |_, _| {});
        let sample = rate(&prometheus, 304).unwrap();
        assert!(
            near(sample.value, 6.0) && near(sample.age_seconds, 4.0) && near(sample.up_share, 1.0),
            "{sample:?}"
        );
        assert!(near(prometheus.sum_of(Gauge::Queued, 304 * SECOND).unwrap().value, 7.0));
        assert!(near(
            prometheus.sum_of(Gauge::InService, 304 * SECOND).unwrap().value,
            20.0
        ));
    }

    #[test]
    fn an_outage_is_unreachable_and_leaves_a_gap() {
        let mut prometheus = scraped(600, |prometheus, second| {
            prometheus.set_down((300..500).contains(&second));
        });
        assert!(rate(&prometheus, 600).is_ok());
        prometheus.set_down(true);
        assert_eq!(rate(&prometheus, 600), Err(Absence::Unreachable));
        prometheus.set_down(false);
        // Only one scrape after the gap: no rate, though everybody is up.
        let early = prometheus.sum_of_rates(Counter::Arrivals, 60 * SECOND, 505 * SECOND);
        assert_eq!(early, Err(Absence::Empty { up_share: 1.0 }));
        // Three scrapes after it: a number, too low, which says so.
        let low = rate(&prometheus, 520).unwrap();
        assert!(low.value < 4.0 && near(low.up_share, 1.0), "{low:?}");
        assert_eq!(low.covered_share, Some(0.0));
        assert_eq!(rate(&prometheus, 560).unwrap().covered_share, Some(1.0));
        assert_eq!(
            prometheus.sum_of(Gauge::Queued, 520 * SECOND).unwrap().covered_share,
            None
        );
    }

    #[test]
    fn lost_targets_thin_a_sum_out_and_then_empty_it() {
        let two = scraped(600, |prometheus, second| {
            prometheus.set_lost_share(if second >= 300 { 0.67 } else { 0.0 });
        });
        // Their rates live on until they have left the window, then a third of the requests is seen.
        let sample = rate(&two, 600).unwrap();
        assert!(near(sample.value, 2.0), "{sample:?}");
        assert!(near(sample.up_share, 1.0 / 3.0), "{sample:?}");
        let all = scraped(600, |prometheus, second| {
            prometheus.set_lost_share(if second >= 300 { 1.0 } else { 0.0 });
        });
        assert_eq!(rate(&all, 600), Err(Absence::Empty { up_share: 0.0 }));
    }

    #[test]
    fn nan_is_an_answer() {
        let mut prometheus = scraped(300, |_, _| {});
        prometheus.set_nan(true);
        assert!(rate(&prometheus, 300).unwrap().value.is_nan());
    }

    #[test]
    fn a_pod_of_which_nothing_is_known_any_more_is_forgotten() {
        let mut prometheus = scraped(0, |_, _| {});
        for second in [0, 10] {
            prometheus.scrape((Job::Pod, 5), second * SECOND, [second as f64, 0.0, 1.0]);
        }
        assert!(near(
            prometheus.sum_of(Gauge::PodInFlight, 11 * SECOND).unwrap().value,
            1.0
        ));
        prometheus.retire((Job::Pod, 5), 20 * SECOND);
        assert_eq!(
            prometheus.sum_of(Gauge::PodInFlight, 21 * SECOND),
            Err(Absence::Empty { up_share: 0.0 })
        );
        assert!(near(
            prometheus
                .sum_of_rates(Counter::Completions, 60 * SECOND, 21 * SECOND)
                .unwrap()
                .value,
            // 10 in 10 s, from its zero at second 0, and half a spacing beyond its end.
            10.0 * 15.0 / 10.0 / 60.0
        ));
        prometheus.retire((Job::Pod, 6), 3_000 * SECOND);
        assert!(!prometheus.targets.contains_key(&(Job::Pod, 5)));
    }

    #[test]
    fn targets_have_phases_of_their_own() {
        let prometheus = scraped(0, |_, _| {});
        let first = |gateway| prometheus.first_scrape((Job::Gateway, gateway), 95 * SECOND);
        assert_ne!(first(0), first(1));
        for gateway in 0..3 {
            let at = first(gateway);
            assert!((95 * SECOND..105 * SECOND).contains(&at), "{at}");
        }
    }
}
