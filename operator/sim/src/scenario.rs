//! The parameters of one run, with the defaults of the comparisons, and what follows from the workload.

use crate::arrivals::{self, Workload};
use crate::error::{Error, Result};
use crate::faults::{Fault, Start};
use crate::metrics::ScrapeSettings;
use crate::plant::{Balancing, PlantSettings, Service, StartModel};
use crate::random::{LogNormal, Purpose, Stream};
use crate::score::{Terms, WARM_UP};
use crate::time::{MINUTE, NEVER, Nanos, SECOND};

/// How service times are distributed round their mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceLaw {
    /// With the coefficient of variation `service_cv`; 0 is constant.
    LogNormal,
    /// Its coefficient of variation is 1.
    Exponential,
}

/// Everything that a run depends on, besides workload and policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub service: Service,
    pub balancing: Balancing,
    /// Mean service time of a request that is alone.
    pub service_mean: Nanos,
    pub service_cv: f64,
    pub service_law: ServiceLaw,
    /// Latency objective.
    pub slo: Nanos,
    /// Share of the requests that may exceed it.
    pub epsilon: f64,
    pub start: StartModel,
    /// `None`: each policy's own default, 1 for the HPA and 0 where the policy can wake up from it.
    pub min_replicas: Option<u32>,
    pub max_replicas: u32,
    pub initial_replicas: u32,
    /// The first part of a run, which is not scored.
    pub warm_up: Nanos,
    pub scrape_interval: Nanos,
    pub scrape_failure: f64,
    pub gateways: u64,
    pub queue_capacity: usize,
    pub hold: Nanos,
    pub drain_grace: Nanos,
    /// Pods that the nodes have room for.
    pub room: u32,
    pub faults: Vec<Fault>,
}

/// The objective, as multiple of the mean service time, where none is given.
pub const SLO_SERVICE_TIMES: u64 = 4;
/// The service time is scaled so that the busiest minute needs this many pods, where none is given.
pub const PEAK_PODS: f64 = 20.0;
/// A run begins with the pods that its first minutes need at this utilisation, where no number is given.
const INITIAL_UTILISATION: f64 = 0.7;

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            service: Service::Slots(4),
            balancing: Balancing::default(),
            service_mean: SECOND,
            service_cv: 0.5,
            service_law: ServiceLaw::LogNormal,
            slo: SLO_SERVICE_TIMES * SECOND,
            epsilon: 0.01,
            start: StartModel::Median {
                median: 30 * SECOND,
                warm_share: 0.15,
            },
            min_replicas: None,
            max_replicas: 60,
            initial_replicas: 1,
            warm_up: WARM_UP,
            scrape_interval: 5 * SECOND,
            scrape_failure: 0.0,
            gateways: 3,
            queue_capacity: 100_000,
            hold: 5 * MINUTE,
            drain_grace: 5 * MINUTE,
            room: u32::MAX,
            faults: Vec::new(),
        }
    }
}

impl Scenario {
    /// The mean service time with which `per_second` needs `pods` full pods in its busiest minute.
    pub fn service_for_peak(&self, per_second: &[u32], pods: f64) -> Result<Nanos> {
        let (_, requests) = arrivals::busiest(per_second, 60);
        if requests == 0 {
            return Err(Error::option(
                "--service-ms auto",
                "there are no requests to scale the service time by: give it in milliseconds",
            ));
        }
        let pod_seconds = pods * per_second.len().min(60) as f64;
        Ok(crate::time::from_seconds(
            pod_seconds * f64::from(self.service.slots()) / requests as f64,
        ))
    }

    /// The replicas that the load of the first 5 minutes needs, at most and at least what is allowed.
    pub fn initial_for(&self, per_second: &[u32]) -> u32 {
        let first = &per_second[..per_second.len().min(300)];
        let requests: u64 = first.iter().map(|count| u64::from(*count)).sum();
        let work = requests as f64 * self.work(self.service_mean) as f64 / SECOND as f64;
        let busy = work / first.len().max(1) as f64 / f64::from(self.lanes());
        let wanted = (busy / INITIAL_UTILISATION).ceil() as u32;
        wanted.max(1).max(self.min_replicas.unwrap_or(0)).min(self.max_replicas)
    }

    /// Things that one pod does at a time at full utilisation, as [`Self::work`] counts them.
    pub fn lanes(&self) -> u32 {
        match self.service {
            Service::Slots(slots) => slots,
            Service::Batch { .. } => 1,
        }
    }

    /// What a request takes of a lane at full utilisation: in a batch server, its share of a full batch.
    #[inline]
    pub fn work(&self, service: Nanos) -> Nanos {
        match self.service {
            Service::Slots(_) => service,
            Service::Batch { alpha, beta, max } => {
                let share = (alpha as f64 / f64::from(max) + beta as f64) / (alpha + beta) as f64;
                (service as f64 * share) as Nanos
            }
        }
    }

    /// Whether all of this can be run over `seconds`.
    pub fn check(&self, seconds: u64) -> Result<()> {
        let end = seconds.saturating_mul(SECOND);
        let tail = self.slo.saturating_mul(2);
        if end <= self.warm_up.saturating_add(tail) {
            return Err(Error::option(
                "--trace",
                format!(
                    "lasts {seconds} s, and the first {} s and the last {} s are not scored: nothing is left; take a longer part",
                    self.warm_up / SECOND,
                    tail.div_ceil(SECOND)
                ),
            ));
        }
        for fault in &self.faults {
            if let Start::At(at) = fault.start
                && at >= end
            {
                return Err(Error::option(
                    "--fault",
                    format!("begins at second {}, and the run ends at second {seconds}", at / SECOND),
                ));
            }
        }
        let lanes = self.service.slots();
        let is_batch = matches!(self.service, Service::Batch { .. });
        let problems = [
            (
                is_batch && self.balancing == Balancing::Random,
                "--balancing random",
                "is for slots: batches are made of what waits at the gateway",
            ),
            (lanes == 0, "--slots", "must be at least 1"),
            (self.service_mean == 0, "--service-ms", "must be above 0"),
            (self.scrape_interval == 0, "--scrape-s", "must be above 0"),
            (self.gateways == 0, "--gateways", "must be at least 1"),
            (self.max_replicas == 0, "--max-replicas", "must be at least 1"),
            (
                self.min_replicas > Some(self.max_replicas),
                "--min-replicas",
                "must not exceed --max-replicas",
            ),
            (self.max_replicas > 100_000, "--max-replicas", "must be at most 100000"),
            (
                !(self.service_cv >= 0.0 && self.service_cv.is_finite()),
                "--cs",
                "must be a number that is not negative",
            ),
            (
                !(0.0..1.0).contains(&self.scrape_failure),
                "--scrape-failure",
                "must be a probability below 1",
            ),
            (
                !(self.epsilon > 0.0 && self.epsilon < 1.0),
                "--epsilon",
                "must be a share above 0 and below 1",
            ),
        ];
        match problems.iter().find(|(wrong, ..)| *wrong) {
            Some((_, option, problem)) => Err(Error::option(*option, *problem)),
            None => Ok(()),
        }
    }

    pub(crate) fn plant(&self) -> PlantSettings {
        PlantSettings {
            seed: self.seed,
            service: self.service,
            balancing: self.balancing,
            start: self.start,
            queue_capacity: self.queue_capacity,
            hold: self.hold,
            drain_grace: self.drain_grace,
            room: self.room,
        }
    }

    pub(crate) fn scrapes(&self) -> ScrapeSettings {
        ScrapeSettings {
            seed: self.seed,
            interval: self.scrape_interval,
            failure: self.scrape_failure,
            gateways: self.gateways,
        }
    }

    pub(crate) fn terms(&self, end: Nanos) -> Terms {
        Terms {
            slo: self.slo,
            epsilon: self.epsilon,
            from: self.warm_up,
            to: end.saturating_sub(self.slo.saturating_mul(2)),
            slots: self.lanes(),
        }
    }

    /// Middle of the busiest minute; only asked for where a fault wants to know.
    pub(crate) fn peak(&self, workload: &Workload) -> Nanos {
        let per_second = workload.per_second(self.seed);
        let (second, _) = arrivals::busiest(&per_second, 60);
        second * SECOND + MINUTE / 2
    }
}

/// The service times of a run, by number of the request.
#[derive(Debug, Clone, Copy)]
pub struct ServiceTimes {
    stream: Stream,
    mean: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Constant,
    LogNormal(LogNormal),
    Exponential,
}

impl ServiceTimes {
    pub fn new(scenario: &Scenario) -> Self {
        let mean = scenario.service_mean as f64;
        Self {
            stream: Stream::new(scenario.seed, Purpose::Service),
            mean,
            kind: match scenario.service_law {
                ServiceLaw::Exponential => Kind::Exponential,
                ServiceLaw::LogNormal if scenario.service_cv == 0.0 => Kind::Constant,
                ServiceLaw::LogNormal => Kind::LogNormal(LogNormal::with_mean(mean, scenario.service_cv)),
            },
        }
    }

    #[inline]
    pub fn of(&self, request: u64) -> Nanos {
        let span = match self.kind {
            Kind::Constant => self.mean,
            Kind::LogNormal(law) => law.of(self.stream.normal(request)),
            Kind::Exponential => self.mean * self.stream.exponential(request),
        };
        (span as Nanos).clamp(1, NEVER / 4)
    }

    /// The service time that the share `p` of the requests does not exceed.
    pub fn quantile(&self, p: f64) -> Nanos {
        (match self.kind {
            Kind::Constant => self.mean,
            Kind::LogNormal(law) => law.quantile(p),
            Kind::Exponential => -self.mean * libm::log(1.0 - p),
        }) as Nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MILLISECOND;

    #[test]
    fn the_busiest_minute_needs_the_asked_pods() {
        let scenario = Scenario::default();
        let mut counts = vec![1; 300];
        counts[100..160].fill(8);
        // 8 a second in 20 pods of 4 slots: 10 s each.
        assert_eq!(scenario.service_for_peak(&counts, 20.0).unwrap(), 10 * SECOND);
        assert!(scenario.service_for_peak(&[0; 300], 20.0).is_err());
    }

    #[test]
    fn a_run_begins_with_the_pods_for_its_first_minutes() {
        let mut scenario = Scenario {
            service_mean: 2 * SECOND,
            ..Scenario::default()
        };
        // 14 a second x 2 s = 28 slots = 7 pods, 10 at 70 %.
        assert_eq!(scenario.initial_for(&[14; 400]), 10);
        assert_eq!(scenario.initial_for(&[0; 400]), 1);
        scenario.max_replicas = 5;
        assert_eq!(scenario.initial_for(&[14; 400]), 5);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let bad = [
            Scenario {
                min_replicas: Some(61),
                ..Scenario::default()
            },
            Scenario {
                service_cv: f64::NAN,
                ..Scenario::default()
            },
            Scenario {
                service: Service::Slots(0),
                ..Scenario::default()
            },
        ];
        for scenario in bad {
            assert!(scenario.check(3_600).is_err(), "{scenario:?}");
        }
        let late = Scenario {
            faults: vec![Fault::parse("pods-lost:0.5:2h").unwrap()],
            ..Scenario::default()
        };
        let error = late.check(3_600).unwrap_err().to_string();
        assert_eq!(error, "--fault: begins at second 7200, and the run ends at second 3600");
        let error = Scenario::default().check(308).unwrap_err().to_string();
        assert!(error.contains("lasts 308 s"), "{error}");
        assert!(Scenario::default().check(309).is_ok());
    }

    #[test]
    fn service_times_have_the_asked_mean_and_quantiles() {
        for (law, cv) in [
            (ServiceLaw::LogNormal, 0.0),
            (ServiceLaw::LogNormal, 0.5),
            (ServiceLaw::Exponential, 0.5),
        ] {
            let times = ServiceTimes::new(&Scenario {
                service_law: law,
                service_cv: cv,
                ..Scenario::default()
            });
            let mut all: Vec<Nanos> = (0..100_000).map(|request| times.of(request)).collect();
            all.sort_unstable();
            let mean = all.iter().sum::<u64>() / 100_000 / MILLISECOND;
            assert!((990..=1_010).contains(&mean), "{law:?} {cv}: {mean} ms");
            let ratio = all[99_000] as f64 / times.quantile(0.99) as f64;
            assert!((ratio - 1.0).abs() < 0.05, "{law:?} {cv}: {ratio}");
        }
    }
}
