//! From a slice of a trace to what this machine can serve: its times are divided, and requests are left out until its busiest minute needs no more pods
//! than there may be. Pure.
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

/// Over which the load is taken that pods must be able to do.
const BUSY_SECONDS: f64 = 60.0;

/// A slice as it is replayed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Fitted {
    /// When requests are due, in seconds since the start.
    pub(super) times: Vec<f64>,
    pub(super) seconds: f64,
    /// By which the times were divided.
    pub(super) speed: f64,
    /// Share of the requests that was kept.
    pub(super) kept: f64,
}

impl Fitted {
    pub(super) fn due(&self) -> Vec<Duration> {
        self.times.iter().map(|time| Duration::from_secs_f64(*time)).collect()
    }

    /// As the simulator reads it; the run is as long as the slice, because the last row says how long a trace is.
    pub(super) fn to_csv(&self) -> String {
        let mut text = String::from("arrival_ms\n");
        for time in &self.times {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:.0}", time * 1e3);
        }
        text
    }
}

/// Fits `arrivals`, milliseconds within a slice of `slice_seconds`, into `seconds`: at most `pods` of them are needed in the busiest minute, at
/// `service_seconds` a request. What is short already is not stretched, and no request is added.
pub(super) fn fit(
    arrivals: &[u64],
    slice_seconds: f64,
    seconds: f64,
    (pods, service_seconds): (f64, f64),
    seed: u64,
) -> Fitted {
    let speed = (slice_seconds / seconds).max(1.0);
    let seconds = slice_seconds / speed;
    let times: Vec<f64> = arrivals.iter().map(|ms| *ms as f64 / 1e3 / speed).collect();
    let window = BUSY_SECONDS.min(seconds);
    let needed = busiest(&times, window) as f64 * service_seconds / window;
    let kept = if needed > pods { pods / needed } else { 1.0 };
    let mut chance = Xoshiro256PlusPlus::seed_from_u64(seed);
    let times = times.into_iter().filter(|_| chance.random::<f64>() < kept).collect();
    Fitted {
        times,
        seconds,
        speed,
        kept,
    }
}

/// Most requests in a window, of times that ascend.
fn busiest(times: &[f64], window: f64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (index, time) in times.iter().enumerate() {
        while times.get(first).is_some_and(|begin| *time - *begin >= window) {
            first += 1;
        }
        most = most.max(index + 1 - first);
    }
    most
}

/// Variance over mean of the requests per second: 1 for a Poisson process, more for bursts.
pub(super) fn dispersion(arrivals: &[u64], slice_seconds: u64) -> f64 {
    let mut counts = vec![0.0_f64; usize::try_from(slice_seconds).unwrap_or_default()];
    for ms in arrivals {
        if let Some(count) = usize::try_from(ms / 1000)
            .ok()
            .and_then(|second| counts.get_mut(second))
        {
            *count += 1.0;
        }
    }
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64;
    if mean > 0.0 { variance / mean } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many requests a second, evenly.
    fn even(rate: u64, seconds: u64) -> Vec<u64> {
        (0..rate * seconds).map(|number| number * 1000 / rate).collect()
    }

    #[test]
    fn times_are_divided_and_their_order_and_shape_stay() {
        let fitted = fit(&[0, 500, 60_000, 119_999], 120.0, 60.0, (5.0, 0.5), 1);
        assert_eq!(fitted.times, [0.0, 0.25, 30.0, 59.9995]);
        assert!((fitted.speed - 2.0).abs() < 1e-12 && (fitted.seconds - 60.0).abs() < 1e-12);
        assert!((fitted.kept - 1.0).abs() < 1e-12);
        // What is short is not stretched.
        let short = fit(&[0, 500], 30.0, 60.0, (5.0, 0.5), 1);
        assert_eq!((short.times, short.seconds), (vec![0.0, 0.5], 30.0));
    }

    #[test]
    fn the_busiest_minute_fits_into_the_pods() {
        // Ten times as much in one minute of ten: 40 requests a second, 0.5 s each, are 20 pods.
        let mut arrivals = even(4, 300);
        arrivals.extend(even(40, 60).iter().map(|ms| ms + 300_000));
        arrivals.extend(even(4, 240).iter().map(|ms| ms + 360_000));
        let fitted = fit(&arrivals, 600.0, 600.0, (5.0, 0.5), 7);
        assert!((fitted.kept - 0.25).abs() < 1e-9, "{}", fitted.kept);
        let busy = fitted
            .times
            .iter()
            .filter(|time| (300.0..360.0).contains(*time))
            .count();
        assert!((500..700).contains(&busy), "{busy} of 2400 at 0.25");
        assert!(fitted.times.is_sorted());
        // Compressed twice as much, half as many may stay.
        let half = fit(&arrivals, 600.0, 300.0, (5.0, 0.5), 7);
        assert!(half.kept < 0.23, "{}", half.kept);
    }

    #[test]
    fn a_seed_decides_which_requests_stay() {
        let arrivals = even(50, 60);
        let by = |seed| fit(&arrivals, 60.0, 60.0, (2.0, 0.5), seed).times;
        assert_eq!(by(1), by(1));
        assert_ne!(by(1), by(2));
    }

    #[test]
    fn the_simulator_reads_milliseconds() {
        let fitted = fit(&[0, 1501], 60.0, 60.0, (5.0, 0.5), 1);
        assert_eq!(fitted.to_csv(), "arrival_ms\n0\n1501\n");
        assert_eq!(fitted.due()[1], Duration::from_secs_f64(1.501));
    }

    #[test]
    fn bursts_are_more_dispersed_than_a_steady_load() {
        assert!(dispersion(&even(5, 100), 100) < 0.01);
        let burst: Vec<u64> = (0..500).map(|number| 50_000 + number).collect();
        assert!(dispersion(&burst, 100) > 400.0);
        assert!(dispersion(&[], 100) < 0.01);
    }
}
