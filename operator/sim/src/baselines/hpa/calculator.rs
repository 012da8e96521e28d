//! Replicas for one metric: ratio of usage to target, pods without a usable sample, tolerance.
//!
//! Kubernetes 1.37.2, `replica_calculator.go`. What looks odd is the source's: the ratio of a utilisation comes from whole percents; pods that no
//! selector knows count in a plain average but not in a utilisation; `Value` targets scale the running and ready pods, not the replicas.

use std::collections::BTreeSet;

use super::super::go;
use super::input::{ConditionStatus, Phase, Pod, PodMetric, PodMetrics, PodName};
use super::requests;
use super::samples;
use super::spec::Resource;

/// How far a ratio may be from 1 without a change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    pub scale_down: f64,
    pub scale_up: f64,
}

impl Tolerances {
    pub fn contains(self, ratio: f64) -> bool {
        1.0 - self.scale_down <= ratio && ratio <= 1.0 + self.scale_up
    }
}

/// What a calculation looks at besides the metric.
#[derive(Debug, Clone, Copy)]
pub struct Calculator<'a> {
    pub pods: &'a [Pod],
    pub now_ns: i64,
    pub tolerances: Tolerances,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`.
    pub cpu_initialization_period_ns: i64,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`.
    pub initial_readiness_delay_ns: i64,
}

/// Replicas, and what the status shows for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub replicas: i32,
    /// Percent of the request, of a utilisation.
    pub utilization_percent: Option<i32>,
    /// Average per pod, or the value, in milli-units.
    pub usage_milli: i64,
}

/// `groupPods`: what each pod's sample is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    pub ready: usize,
    pub unready: BTreeSet<PodName>,
    pub missing: BTreeSet<PodName>,
    pub ignored: BTreeSet<PodName>,
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

impl Calculator<'_> {
    /// `GetResourceReplicas`: a target in percent of the request.
    pub fn resource_utilization(
        &self,
        current: i32,
        target_percent: i32,
        resource: Resource,
        container: Option<&str>,
        mut metrics: PodMetrics,
    ) -> Result<Count, String> {
        let groups = self.usable(&mut metrics, Some(resource))?;
        let requests = requests::of_pods(self.pods, container, resource)?;
        let usage = samples::utilization(&metrics, &requests, target_percent)?;
        let count = |replicas| Count {
            replicas,
            utilization_percent: Some(usage.percent),
            usage_milli: usage.average_milli,
        };
        if let Some(replicas) = self.without_guessing(current, usage.ratio, &groups) {
            return Ok(count(replicas));
        }
        // A missing pod uses its whole request, or the target where that is more, when the others ask for less.
        let fallback_percent = i64::from(target_percent.max(100));
        let when_less = |pod: &PodName| {
            let request = requests.get(pod).copied().unwrap_or_default();
            request.wrapping_mul(fallback_percent) / 100
        };
        guess(&mut metrics, &groups, usage.ratio, when_less);
        let ratio = samples::utilization(&metrics, &requests, target_percent)?.ratio;
        Ok(count(self.after_guessing(current, usage.ratio, ratio, metrics.len())))
    }

    /// `calcPlainMetricReplicas`: a target per pod. `resource` is `None` for Pods metrics.
    pub fn average_value(
        &self,
        current: i32,
        target_milli: i64,
        resource: Option<Resource>,
        mut metrics: PodMetrics,
    ) -> Result<Count, String> {
        let groups = self.usable(&mut metrics, resource)?;
        let (ratio_before, usage_milli) = samples::usage_ratio(&metrics, target_milli);
        let count = |replicas| Count {
            replicas,
            utilization_percent: None,
            usage_milli,
        };
        if let Some(replicas) = self.without_guessing(current, ratio_before, &groups) {
            return Ok(count(replicas));
        }
        guess(&mut metrics, &groups, ratio_before, |_| target_milli);
        let (ratio, _) = samples::usage_ratio(&metrics, target_milli);
        Ok(count(self.after_guessing(current, ratio_before, ratio, metrics.len())))
    }

    /// `GetObjectMetricReplicas`: value / target times the pods that are ready; from zero, value / target.
    pub fn object_value(&self, spec_replicas: i32, target_milli: i64, usage_milli: i64) -> Result<Count, String> {
        let ratio = usage_milli as f64 / target_milli as f64;
        Ok(Count {
            replicas: self.of_ready_pods(spec_replicas, ratio)?,
            utilization_percent: None,
            usage_milli,
        })
    }

    /// `GetObjectPerPodMetricReplicas`: value / target, if that is not within tolerance of `status_replicas`.
    pub fn object_average(&self, status_replicas: i32, target_milli: i64, usage_milli: i64) -> Count {
        let wanted = (usage_milli as f64 / target_milli as f64).ceil();
        Count {
            replicas: self.unless_within(status_replicas, target_milli, usage_milli, go::int32(wanted)),
            utilization_percent: None,
            usage_milli: go::int64((usage_milli as f64 / f64::from(status_replicas)).ceil()),
        }
    }

    /// `GetExternalMetricReplicas`: as [`Self::object_value`], of the sum of all series, capped at the largest integer.
    pub fn external_value(&self, spec_replicas: i32, target_milli: i64, values_milli: &[i64]) -> Result<Count, String> {
        let mut usage_milli = 0_i64;
        for value in values_milli {
            if *value > 0 && usage_milli > i64::MAX - value {
                usage_milli = i64::MAX;
                break;
            }
            usage_milli = usage_milli.wrapping_add(*value);
        }
        self.object_value(spec_replicas, target_milli, usage_milli)
    }

    /// `GetExternalPerPodMetricReplicas`: as [`Self::object_average`], of the sum of all series. A negative sum counts as overflow.
    pub fn external_average(&self, status_replicas: i32, target_milli: i64, values_milli: &[i64]) -> Count {
        let mut sum = 0_i64;
        for value in values_milli {
            sum = sum.wrapping_add(*value);
            if sum < 0 {
                sum = i64::MAX;
                break;
            }
        }
        let wanted = (sum as f64 / target_milli as f64).ceil();
        let wanted = if wanted > f64::from(i32::MAX) {
            i32::MAX
        } else {
            go::int32(wanted)
        };
        let has_overflowed = sum as f64 >= i64::MAX as f64;
        let average = || go::int64((sum as f64 / f64::from(status_replicas)).ceil());
        Count {
            replicas: self.unless_within(status_replicas, target_milli, sum, wanted),
            utilization_percent: None,
            usage_milli: if has_overflowed { i64::MAX } else { average() },
        }
    }

    /// Groups the pods and drops the samples that do not count.
    fn usable(&self, metrics: &mut PodMetrics, resource: Option<Resource>) -> Result<Groups, String> {
        if self.pods.is_empty() {
            return Err(NO_PODS.to_owned());
        }
        let groups = self.group(metrics, resource);
        metrics.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
        if metrics.is_empty() {
            return Err(NO_METRICS.to_owned());
        }
        Ok(groups)
    }

    /// `groupPods`. Only CPU distrusts samples of pods that have just started.
    pub fn group(&self, metrics: &PodMetrics, resource: Option<Resource>) -> Groups {
        let mut groups = Groups::default();
        for pod in self.pods {
            if pod.deleting || pod.phase == Phase::Failed {
                groups.ignored.insert(pod.name.clone());
            } else if pod.phase == Phase::Pending {
                groups.unready.insert(pod.name.clone());
            } else {
                match metrics.get(&pod.name) {
                    None => {
                        groups.missing.insert(pod.name.clone());
                    }
                    Some(metric) if resource == Some(Resource::Cpu) && !self.is_cpu_trusted(pod, *metric) => {
                        groups.unready.insert(pod.name.clone());
                    }
                    Some(_) => groups.ready += 1,
                }
            }
        }
        groups
    }

    fn is_cpu_trusted(&self, pod: &Pod, metric: PodMetric) -> bool {
        let (Some(ready), Some(start_ns)) = (pod.ready, pod.start_ns) else {
            return false;
        };
        let is_false = ready.status == ConditionStatus::False;
        let since_ns = ready.last_transition_ns;
        if start_ns + self.cpu_initialization_period_ns > self.now_ns {
            // Starting: ready, and sampled for a whole window since it became so.
            !is_false && metric.timestamp_ns >= since_ns + metric.window_ns
        } else {
            // Not ready and never ready: its first transition is at most the readiness delay after its start.
            !(is_false && start_ns + self.initial_readiness_delay_ns > since_ns)
        }
    }

    /// The count, if no pod has to be guessed.
    fn without_guessing(&self, current: i32, ratio: f64, groups: &Groups) -> Option<i32> {
        if is_up_with_unready(groups, ratio) || !groups.missing.is_empty() {
            None
        } else if self.tolerances.contains(ratio) {
            Some(current)
        } else {
            Some(go::int32((ratio * groups.ready as f64).ceil()))
        }
    }

    /// The count with guesses, unless they turn the direction around.
    fn after_guessing(&self, current: i32, before: f64, ratio: f64, samples: usize) -> i32 {
        let turns = (before < 1.0 && ratio > 1.0) || (before > 1.0 && ratio < 1.0);
        if self.tolerances.contains(ratio) || turns {
            return current;
        }
        let replicas = go::int32((ratio * samples as f64).ceil());
        if (ratio < 1.0 && replicas > current) || (ratio > 1.0 && replicas < current) {
            current
        } else {
            replicas
        }
    }

    /// `getUsageRatioReplicaCount`.
    fn of_ready_pods(&self, spec_replicas: i32, ratio: f64) -> Result<i32, String> {
        if spec_replicas == 0 {
            return Ok(go::int32(ratio.ceil()));
        }
        if self.tolerances.contains(ratio) {
            return Ok(spec_replicas);
        }
        if self.pods.is_empty() {
            return Err(format!("unable to calculate ready pods: {NO_PODS}"));
        }
        let ready = self.pods.iter().filter(|pod| pod.is_running_and_ready()).count();
        let replicas = ratio * ready as f64;
        if replicas > f64::from(i32::MAX) {
            Ok(i32::MAX)
        } else {
            Ok(go::int32(replicas.ceil()))
        }
    }

    fn unless_within(&self, status_replicas: i32, target_milli: i64, usage_milli: i64, wanted: i32) -> i32 {
        let ratio = usage_milli as f64 / (target_milli as f64 * f64::from(status_replicas));
        if self.tolerances.contains(ratio) {
            status_replicas
        } else {
            wanted
        }
    }
}

fn is_up_with_unready(groups: &Groups, ratio: f64) -> bool {
    !groups.unready.is_empty() && ratio > 1.0
}

/// Guesses against the direction: pods without a sample use `when_less` if the others use less than the target, and nothing if they use more.
fn guess(metrics: &mut PodMetrics, groups: &Groups, ratio: f64, when_less: impl Fn(&PodName) -> i64) {
    let mut set = |pod: &PodName, value_milli| {
        let sample = PodMetric {
            value_milli,
            timestamp_ns: 0,
            window_ns: 0,
        };
        metrics.insert(pod.clone(), sample);
    };
    if ratio < 1.0 {
        for pod in &groups.missing {
            set(pod, when_less(pod));
        }
    } else if ratio > 1.0 {
        for pod in groups.missing.iter().chain(&groups.unready) {
            set(pod, 0);
        }
    }
}
