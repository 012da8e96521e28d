//! The statistics extension: what became of the requests of a model, and where their time went.

use serde::Serialize;

use super::pb;
use crate::metrics::ModelMetrics;
use crate::metrics::summed::Sum;

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Serialize)]
struct Duration {
    count: u64,
    ns: u64,
}

impl From<Sum> for Duration {
    fn from(Sum { count, nanos }: Sum) -> Self {
        Self { count, ns: nanos }
    }
}

impl From<Duration> for pb::StatisticDuration {
    fn from(Duration { count, ns }: Duration) -> Self {
        Self { count, ns }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
struct InferStatistics {
    success: Duration,
    fail: Duration,
    queue: Duration,
    compute_input: Duration,
    compute_infer: Duration,
    compute_output: Duration,
}

/// Runs of one size. How long their inputs and outputs took is not known by size, and therefore not said.
#[derive(Debug, Clone, Copy, Serialize)]
struct BatchStatistics {
    batch_size: u64,
    compute_infer: Duration,
}

/// Statistics of one model since the server started.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatistics<'a> {
    name: &'a str,
    version: &'a str,
    /// When a run last ended, in milliseconds since 1970; 0: there was none yet.
    last_inference: u64,
    /// Items that were answered.
    inference_count: u64,
    /// Runs of the model.
    execution_count: u64,
    inference_stats: InferStatistics,
    /// By items of a run, the smallest first.
    batch_stats: Vec<BatchStatistics>,
}

/// Statistics of models.
#[derive(Debug, Serialize)]
pub struct Statistics<'a> {
    pub model_stats: Vec<ModelStatistics<'a>>,
}

impl<'a> ModelStatistics<'a> {
    /// What has been counted until now. The times of `compute_infer` are of runs, which several requests may share; all others are of requests.
    pub fn new(name: &'a str, version: &'a str, metrics: &ModelMetrics) -> Self {
        let runs = metrics.inference.sums.get();
        let seen = metrics.runs.get();
        let of_size = |(size, sum): (usize, Sum)| BatchStatistics {
            batch_size: size as u64,
            compute_infer: sum.into(),
        };
        Self {
            name,
            version,
            last_inference: seen.last_millis,
            inference_count: metrics.items(),
            execution_count: runs.count,
            inference_stats: InferStatistics {
                success: metrics.duration.sums.get().into(),
                fail: metrics.failed.get().into(),
                queue: metrics.queue.sums.get().into(),
                compute_input: metrics.preprocess.sums.get().into(),
                compute_infer: runs.into(),
                compute_output: metrics.postprocess.sums.get().into(),
            },
            batch_stats: seen.by_size.into_iter().map(of_size).collect(),
        }
    }
}

impl From<BatchStatistics> for pb::InferBatchStatistics {
    fn from(statistics: BatchStatistics) -> Self {
        Self {
            batch_size: statistics.batch_size,
            compute_infer: Some(statistics.compute_infer.into()),
            ..Self::default()
        }
    }
}

impl From<ModelStatistics<'_>> for pb::ModelStatistics {
    fn from(statistics: ModelStatistics<'_>) -> Self {
        let stats = statistics.inference_stats;
        Self {
            name: statistics.name.to_owned(),
            version: statistics.version.to_owned(),
            last_inference: statistics.last_inference,
            inference_count: statistics.inference_count,
            execution_count: statistics.execution_count,
            inference_stats: Some(pb::InferStatistics {
                success: Some(stats.success.into()),
                fail: Some(stats.fail.into()),
                queue: Some(stats.queue.into()),
                compute_input: Some(stats.compute_input.into()),
                compute_infer: Some(stats.compute_infer.into()),
                compute_output: Some(stats.compute_output.into()),
            }),
            batch_stats: statistics.batch_stats.into_iter().map(Into::into).collect(),
        }
    }
}
