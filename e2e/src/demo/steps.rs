//! The kinds of load, each of which makes another signal the cause of scaling up, sized for the machine that the demo runs on.
use std::sync::Arc;
use std::time::Duration;

use crate::calibrate::Cost;
use crate::load::{Profile, Request, digits};
use crate::models::Classifier;

/// One kind of load, and what it has to show.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: &'static str,
    /// In words, for the live lines and the report.
    pub what: String,
    pub profile: Profile,
    /// The signal that must make the autoscaler scale up, as [`super::watch::ScaleUp`] names it.
    pub cause: &'static str,
    /// Ready replicas that must be reached.
    pub replicas: i32,
    /// How long it goes on once they are ready, so that the report shows what they do for the latency.
    pub hold: Duration,
}

/// Requests per second between the steps: low enough for one replica, and enough to notice if scaling down loses a request.
pub const TRICKLE: f64 = 20.0;

/// What runs between the steps.
pub fn trickle(classifier: &Classifier) -> Profile {
    Profile {
        rate: TRICKLE,
        requests: digits::single(classifier),
    }
}

/// Images of a request whose cost is measured.
pub const CALIBRATED_IMAGES: usize = 512;
/// Limits of a request: below, its cost is HTTP's; the batcher of examples/demo.yaml takes no more at once.
const IMAGES_MIN: usize = 32;
const IMAGES_MAX: usize = 1024;
/// Of examples/demo.yaml: cores that a replica has asked for and that it may use.
const CPU_REQUEST: f64 = 0.1;
const CPU_LIMIT: f64 = 0.2;

/// Images that take so many seconds of processor time, and requests of them per second that keep `cores` busy.
fn sized(cost: Cost, seconds: f64, cores: f64) -> (usize, f64) {
    let per_image = cost.cpu_seconds / CALIBRATED_IMAGES as f64;
    let images = ((seconds / per_image) as usize).clamp(IMAGES_MIN, IMAGES_MAX);
    (images, cores / (per_image * images as f64))
}

/// The three, for the targets in examples/demo.yaml: 100 requests/s, 70 % of 100m CPU, 8 waiting requests per replica. `cost` is that of
/// [`CALIBRATED_IMAGES`] images.
pub fn steps(classifier: &Classifier, cost: Cost) -> Vec<Step> {
    let step = |name, rate: f64, images: usize, cause, replicas| {
        let requests: Arc<[Request]> = if images == 1 {
            digits::single(classifier)
        } else {
            digits::batches(classifier, images)
        };
        let what = if images == 1 {
            format!("{rate} requests/s of one image")
        } else {
            let cores = rate * cost.cpu_seconds * images as f64 / CALIBRATED_IMAGES as f64;
            format!("{rate:.1} requests/s of {images} images, {:.0}m of CPU", cores * 1e3)
        };
        Step {
            name,
            what,
            profile: Profile { rate, requests },
            cause,
            replicas,
            hold: Duration::from_secs(15),
        }
    };
    // Few requests that are work, about 10 ms each: one replica does it without a queue, at more than 70 % of what it has asked for.
    let (cpu_images, cpu_rate) = sized(cost, 0.01, 1.25 * CPU_REQUEST);
    // More work, about 20 ms each, than one replica's limit allows: requests wait, and that is seen before the CPU figures are.
    let (queue_images, queue_rate) = sized(cost, 0.02, 1.5 * CPU_LIMIT);
    vec![
        // Cheap requests: 280/s are little work, and the rate alone asks for ceil(280 / 100) = 3.
        step("request rate", 280.0, 1, "RequestRate", 3),
        step("CPU", cpu_rate, cpu_images, "CPU", 2),
        step("queue depth", queue_rate, queue_images, "QueueDepth", 3),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{fixtures, paths};

    #[test]
    fn a_load_asks_for_the_same_processor_time_on_every_machine() {
        for milliseconds in [2.0, 3.0, 10.0, 40.0, 200.0] {
            let cost = Cost {
                cpu_seconds: milliseconds / 1e3,
                requests: 30,
            };
            for (seconds, cores) in [(0.01, 0.125), (0.02, 0.3)] {
                let (images, rate) = sized(cost, seconds, cores);
                let used = rate * cost.cpu_seconds * images as f64 / CALIBRATED_IMAGES as f64;
                assert!(
                    (used - cores).abs() < 1e-9,
                    "{images} images at {rate}/s use {used} cores"
                );
                // Otherwise the request rate would be the cause, at 100 per replica.
                assert!(rate < 100.0, "{milliseconds} ms: {rate}/s");
            }
        }
    }

    #[test]
    fn the_example_is_what_the_loads_are_for() {
        let text = std::fs::read_to_string(paths::source_dir().join("examples/demo.yaml")).unwrap();
        let predictor = fixtures::objects(&text).unwrap()[0]["spec"]["predictor"].clone();
        let resources = &predictor["model"]["resources"];
        assert_eq!(resources["requests"]["cpu"], format!("{:.0}m", CPU_REQUEST * 1e3));
        assert_eq!(resources["limits"]["cpu"], format!("{:.0}m", CPU_LIMIT * 1e3));
        assert_eq!(predictor["batcher"]["maxBatchSize"], json!(IMAGES_MAX));
    }
}
