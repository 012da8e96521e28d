//! Upstream's tests of Knative's autoscaler, and properties that hold for everything.

mod autoscaler;
mod reconciler;
mod scaler;
mod windows;

use super::SECOND_NS;
use super::config::Config;

/// A time on a whole second, long after the epoch.
const START_NS: i64 = 1_000_000 * SECOND_NS;

/// `reconciler/autoscaling/resources` and `kpa` test with a target of 100 % by default.
fn test_config() -> Config {
    Config {
        container_concurrency_target_fraction: 1.0,
        ..Config::default()
    }
}
