//! Settings: the cluster's `config-autoscaler`, a revision's annotations, and what follows from both.

use super::SECOND_NS;
use super::autoscaler::DeciderSpec;

/// `config-autoscaler`, and of `config-deployment` the progress deadline. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub enable_scale_to_zero: bool,
    /// Share of the concurrency target that is aimed for.
    pub container_concurrency_target_fraction: f64,
    pub container_concurrency_target_default: f64,
    /// As the fraction above, for requests per second.
    pub target_utilization: f64,
    pub rps_target_default: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    /// Requests that may arrive at once without waiting in a pod; -1: the activator is always in the path, 0: only at zero.
    pub target_burst_capacity: f64,
    pub activator_capacity: f64,
    pub panic_window_percentage: f64,
    pub panic_threshold_percentage: f64,
    pub stable_window_ns: i64,
    pub scale_to_zero_grace_period_ns: i64,
    pub scale_to_zero_pod_retention_period_ns: i64,
    pub scale_down_delay_ns: i64,
    pub allow_zero_initial_scale: bool,
    pub initial_scale: i32,
    pub min_scale: i32,
    /// 0: unbounded.
    pub max_scale: i32,
    pub progress_deadline_ns: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enable_scale_to_zero: true,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            target_utilization: 0.7,
            rps_target_default: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            target_burst_capacity: 211.0,
            activator_capacity: 100.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            stable_window_ns: 60 * SECOND_NS,
            scale_to_zero_grace_period_ns: 30 * SECOND_NS,
            scale_to_zero_pod_retention_period_ns: 0,
            scale_down_delay_ns: 0,
            allow_zero_initial_scale: false,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            progress_deadline_ns: 600 * SECOND_NS,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ScalingMetric {
    #[default]
    Concurrency,
    RequestsPerSecond,
}

/// A revision: its concurrency limit, its reachability, and its annotations where they are set.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// `containerConcurrency`; 0: unlimited.
    pub container_concurrency: i64,
    /// False where no route leads to it.
    pub is_reachable: bool,
    pub metric: ScalingMetric,
    pub target: Option<f64>,
    pub target_utilization_percentage: Option<f64>,
    pub target_burst_capacity: Option<f64>,
    pub window_ns: Option<i64>,
    pub panic_window_percentage: Option<f64>,
    pub panic_threshold_percentage: Option<f64>,
    pub scale_down_delay_ns: Option<i64>,
    pub scale_to_zero_pod_retention_period_ns: Option<i64>,
    pub initial_scale: Option<i32>,
    pub activation_scale: Option<i32>,
    pub min_scale: Option<i32>,
    pub max_scale: Option<i32>,
    pub progress_deadline_ns: Option<i64>,
    /// `metric-aggregation-algorithm: weighted-exponential` instead of linear.
    pub is_weighted: bool,
}

impl Default for Revision {
    fn default() -> Self {
        Self {
            container_concurrency: 0,
            is_reachable: true,
            metric: ScalingMetric::Concurrency,
            target: None,
            target_utilization_percentage: None,
            target_burst_capacity: None,
            window_ns: None,
            panic_window_percentage: None,
            panic_threshold_percentage: None,
            scale_down_delay_ns: None,
            scale_to_zero_pod_retention_period_ns: None,
            initial_scale: None,
            activation_scale: None,
            min_scale: None,
            max_scale: None,
            progress_deadline_ns: None,
            is_weighted: false,
        }
    }
}

/// Least target: `autoscaling.TargetMin`.
const TARGET_MIN: f64 = 0.01;

impl Revision {
    /// `MakeDecider`.
    pub fn decider_spec(&self, config: &Config) -> DeciderSpec {
        let (target_value, total_value) = self.metric_target(config);
        let threshold = self.panic_threshold_percentage;
        DeciderSpec {
            max_scale_up_rate: config.max_scale_up_rate,
            max_scale_down_rate: config.max_scale_down_rate,
            metric: self.metric,
            target_value,
            total_value,
            target_burst_capacity: self.target_burst_capacity(config),
            activator_capacity: config.activator_capacity,
            panic_threshold: threshold.unwrap_or(config.panic_threshold_percentage) / 100.0,
            stable_window_ns: self.stable_window_ns(config),
            scale_down_delay_ns: self.scale_down_delay_ns.unwrap_or(config.scale_down_delay_ns),
            initial_scale: self.initial_scale(config),
            is_reachable: self.is_reachable,
            activation_scale: self.activation_scale.unwrap_or(0),
        }
    }

    /// `ResolveMetricTarget`: (what is aimed for, what a pod can take).
    pub fn metric_target(&self, config: &Config) -> (f64, f64) {
        let limit = self.container_concurrency as f64;
        let (mut total, fraction) = match self.metric {
            ScalingMetric::RequestsPerSecond => (config.rps_target_default, config.target_utilization),
            ScalingMetric::Concurrency if self.container_concurrency == 0 => (
                config.container_concurrency_target_default,
                config.container_concurrency_target_fraction,
            ),
            ScalingMetric::Concurrency => (limit, config.container_concurrency_target_fraction),
        };
        if let Some(target) = self.target {
            let is_limited = self.metric == ScalingMetric::Concurrency && self.container_concurrency != 0;
            total = if is_limited { target.min(limit) } else { target };
        }
        let fraction = self
            .target_utilization_percentage
            .map_or(fraction, |percent| percent / 100.0);
        ((total * fraction).max(TARGET_MIN), total)
    }

    /// `ScaleBounds`: (min, max), 0 where there is none. Without a route the minimum does not count.
    pub fn scale_bounds(&self, config: &Config) -> (i32, i32) {
        let min = if self.is_reachable {
            self.min_scale.unwrap_or(config.min_scale)
        } else {
            0
        };
        (min, self.max_scale.unwrap_or(config.max_scale))
    }

    /// `GetInitialScale`.
    pub fn initial_scale(&self, config: &Config) -> i32 {
        match self.initial_scale {
            Some(0) if !config.allow_zero_initial_scale => config.initial_scale,
            Some(scale) => scale,
            None => config.initial_scale,
        }
    }

    pub fn target_burst_capacity(&self, config: &Config) -> f64 {
        self.target_burst_capacity.unwrap_or(config.target_burst_capacity)
    }

    /// A target burst capacity of -1.
    pub fn is_always_behind_activator(&self, config: &Config) -> bool {
        self.target_burst_capacity(config) < 0.0
    }

    pub fn stable_window_ns(&self, config: &Config) -> i64 {
        self.window_ns.unwrap_or(config.stable_window_ns)
    }

    /// `MakeMetric`: the share of the stable window, rounded to seconds and at least one.
    pub fn panic_window_ns(&self, config: &Config) -> i64 {
        let percentage = self.panic_window_percentage.unwrap_or(config.panic_window_percentage);
        let window_ns = self.stable_window_ns(config) as f64 * percentage / 100.0;
        let seconds = (window_ns.trunc() / SECOND_NS as f64).round() as i64;
        seconds.max(1) * SECOND_NS
    }
}
