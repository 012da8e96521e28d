//! Knative's pod autoscaler (KPA): one-second statistics, a stable and a panic window, and scale to zero behind the activator.
//!
//! | module | source in knative/serving at 98e5ef90 (main, 2026-08-21, after 1.23.0) |
//! |---|---|
//! | [`config`] | `pkg/autoscaler/config`, `kpa/resources/decider.go`, `autoscaling/resources/target.go` |
//! | [`collector`], [`buckets`] | `pkg/autoscaler/metrics/collector.go` and `sample_size.go`, `pkg/autoscaler/aggregation/bucketing.go` |
//! | [`autoscaler`], [`delay`] | `pkg/autoscaler/scaling/autoscaler.go` and `multiscaler.go`, `pkg/autoscaler/aggregation/max` |
//! | [`scaler`], [`reconciler`] | `pkg/reconciler/autoscaling/kpa/scaler.go` and `kpa.go`, `pa_lifecycle.go` |
//!
//! How it runs: every second the queue proxies of a sample of pods ([`collector::sample_size`]) are scraped, and the activator pushes what it holds;
//! [`collector::Collector`] records both. Every 2 s ([`autoscaler::TICK_NS`]), and at once where [`autoscaler::is_poke`] says so,
//! [`autoscaler::Autoscaler::scale`] decides. When that changes something ([`autoscaler::DeciderStatus::update`]), pods become ready or a wait ends,
//! [`reconciler::reconcile`] writes.
//!
//! Where this differs from the source:
//! * windows keep their length: annotations are not changed on the fly (`ResizeWindow`);
//! * a scrape either succeeds or is missing; retries and the mesh are the caller's;
//! * the probe of the activator is an answer that the caller brings, and does not run on its own;
//! * writes succeed; times that the API stores are whole seconds, as they are there.

pub mod autoscaler;
pub mod buckets;
pub mod collector;
pub mod config;
pub mod delay;
pub mod reconciler;
pub mod scaler;

const SECOND_NS: i64 = 1_000_000_000;

/// What is left of a time in the API: whole seconds.
fn whole_seconds(time_ns: i64) -> i64 {
    time_ns.div_euclid(SECOND_NS) * SECOND_NS
}

#[cfg(test)]
mod tests;
