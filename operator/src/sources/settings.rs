//! How the metrics source is set up.

use std::path::PathBuf;
use std::time::Duration;

use crate::sources::check::Limits;
use crate::sources::prometheus::Bounds;

/// Settings of the metrics source. The defaults suit a scrape every 5 s.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Base address of Prometheus, e.g. `http://prometheus.monitoring:9090`. Without one, every signal says so.
    pub url: Option<String>,
    /// CA that signed its certificate (PEM), instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with a bearer token, read anew for each query and sent to `url` only.
    pub bearer_token_file: Option<PathBuf>,
    /// Other servers that external queries may name.
    pub allowed_servers: Vec<String>,
    /// Time from one reading to the next.
    pub tick: Duration,
    /// Longest time for one query; below `tick`.
    pub timeout: Duration,
    /// Time between two scrapes of a pod.
    pub scrape_interval: Duration,
    /// Window of the request rate; at least four scrapes.
    pub rate_window: Duration,
    /// Oldest sample that still describes the present.
    pub max_sample_age: Duration,
    /// The same for the selectors of external queries, whose targets may be scraped less often.
    pub external_max_sample_age: Duration,
    /// Most difference between the clocks of Prometheus and of this machine.
    pub max_clock_skew: Duration,
    /// Least share, 0 to 1, of a pool's ready pods that must be scraped. 0.9: all of a small pool, and one lost scrape in a large one does not
    /// stop it from growing; what is missing is taken to be like the rest.
    pub min_target_share: f64,
    /// Time a newly ready pod has until it must have been scraped.
    pub pod_grace: Duration,
    /// How long the last good sample stands in for a failure. 0: not at all, for the HPA holds the replicas by itself when it gets an error, and a
    /// held number would hide the trouble from it.
    pub hold: Duration,
    /// Bytes of one answer.
    pub max_answer_bytes: usize,
    /// Series of one answer.
    pub max_series: usize,
}

/// Prometheus takes a few seconds to learn of a new pod (five, between two looks, by default), however often it scrapes.
const POD_GRACE_MIN: Duration = Duration::from_secs(15);

impl Settings {
    /// The defaults.
    pub fn new(url: Option<String>) -> Self {
        Self {
            url,
            ca_file: None,
            bearer_token_file: None,
            allowed_servers: Vec::new(),
            tick: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            scrape_interval: Duration::from_secs(5),
            rate_window: Duration::from_secs(30),
            max_sample_age: Duration::from_secs(15),
            external_max_sample_age: Duration::from_secs(90),
            max_clock_skew: Duration::from_secs(15),
            min_target_share: 0.9,
            pod_grace: Duration::from_secs(20),
            hold: Duration::ZERO,
            max_answer_bytes: 4 * 1024 * 1024,
            max_series: 20_000,
        }
    }

    /// Fits window, age and grace to how often the pods are scraped: six scrapes, three, four and not less than Prometheus takes to find a pod.
    #[must_use]
    pub fn with_scrape_interval(mut self, interval: Duration) -> Self {
        self.scrape_interval = interval;
        self.rate_window = interval * 6;
        self.max_sample_age = interval * 3;
        self.pod_grace = (interval * 4).max(POD_GRACE_MIN);
        self
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_sample_age: self.max_sample_age,
            max_clock_skew: self.max_clock_skew,
            min_target_share: self.min_target_share,
            pod_grace: self.pod_grace,
            window_grace: self.rate_window + self.pod_grace,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            timeout: self.timeout,
            bytes: self.max_answer_bytes,
            series: self.max_series,
            clock_skew: self.max_clock_skew,
        }
    }

    /// The age that a published reading can have at most: that of the oldest sample which is believed, and for how long it is shown.
    pub fn reading_age_max(&self) -> Duration {
        self.max_sample_age.max(self.external_max_sample_age) + self.valid_for()
    }

    /// A snapshot is good until two ticks could have replaced it.
    pub(super) fn valid_for(&self) -> Duration {
        self.tick * 2 + self.timeout * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_the_scrapes_and_new_pods_have_time_to_be_found() {
        let times = |seconds| {
            let fitted = Settings::new(None).with_scrape_interval(Duration::from_secs(seconds));
            [fitted.rate_window, fitted.max_sample_age, fitted.pod_grace].map(|time| time.as_secs())
        };
        assert_eq!(times(5), [30, 15, 20]);
        assert_eq!(times(30), [180, 90, 120]);
        assert_eq!(times(1), [6, 3, 15]);
    }
}
