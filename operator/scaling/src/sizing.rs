//! Queueing arithmetic: how many replicas a rate needs so that few requests wait too long, and how many more a backlog needs.
//!
//! Symbols: `lambda` arrivals per second, `service` mean seconds in a slot, `slots` per replica, `a = lambda * service` offered load in slots, `slack`
//! seconds that a request may wait, `scv` squared coefficient of variation.

use crate::policy::{Balancing, REPLICAS_MAX};
use crate::units::replicas;

/// Points at which the distribution of service times is taken, each standing for an equal share of the requests.
const POINTS: usize = 8;
/// Quantiles of the standard normal distribution at the middles of those shares.
const NORMAL_AT_POINTS: [f64; POINTS] = [
    -1.534_120_544_352_546,
    -0.887_146_559_018_876,
    -0.488_776_411_114_669,
    -0.157_310_684_610_171,
    0.157_310_684_610_171,
    0.488_776_411_114_669,
    0.887_146_559_018_876,
    1.534_120_544_352_546,
];
/// Share of the promise that waiting may always use up: where the service alone breaks it, replicas cannot help, and must not be bought without end.
const WAITING_SHARE_MIN: f64 = 0.25;

/// What the sizing knows of a pool and its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// Mean seconds of a request in a slot.
    pub service_seconds: f64,
    /// Slots of one replica.
    pub slots: u32,
    /// `Ca² + Cs²`.
    scv_sum: f64,
    /// How requests reach replicas.
    balancing: Balancing,
    /// Seconds that a request may wait, for requests of each length.
    slack_seconds: [f64; POINTS],
    /// Share of requests that may be late because they waited.
    allowed_share: f64,
}

/// What a [`Server`] is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Mean seconds in a slot.
    pub service_seconds: f64,
    /// Squared coefficient of variation of that.
    pub service_scv: f64,
    /// Squared coefficient of variation of the times between arrivals.
    pub arrival_scv: f64,
    /// Promised seconds from arrival to answer.
    pub latency_seconds: f64,
    /// Share that may take longer, 0..1.
    pub late_share: f64,
}

impl Server {
    /// The sizing of a pool whose replicas have `slots`, for requests like this.
    ///
    /// Service times are taken as lognormal. A request of length `s` may wait `L - s`; one that is longer than `L` by itself is late anyway, and what
    /// such requests use of the promise is not left for waiting.
    pub fn new(request: &Request, slots: u32, balancing: Balancing) -> Self {
        let variance = libm::log(1.0 + request.service_scv.max(0.0));
        let sigma = libm::sqrt(variance);
        let (mean, latency) = (request.service_seconds, request.latency_seconds);
        let hopeless = if sigma > 0.0 {
            let z = (libm::log(latency / mean) + variance / 2.0) / sigma;
            0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
        } else if latency > mean {
            0.0
        } else {
            1.0
        };
        let lengths = NORMAL_AT_POINTS.map(|z| libm::exp(z * sigma - variance / 2.0));
        // So few points have not quite the mean that they stand for.
        let scale = POINTS as f64 / lengths.iter().sum::<f64>();
        Self {
            service_seconds: mean,
            slots,
            scv_sum: request.arrival_scv + request.service_scv,
            balancing,
            slack_seconds: lengths.map(|length| latency - mean * length * scale),
            allowed_share: (request.late_share - hopeless).max(WAITING_SHARE_MIN * request.late_share),
        }
    }

    /// Share of the requests that are late because they wait for `wait_seconds`.
    pub fn late_share_after(&self, wait_seconds: f64) -> f64 {
        let late = |slack: &&f64| (0.0..wait_seconds).contains(*slack);
        self.slack_seconds.iter().filter(late).count() as f64 / POINTS as f64
    }

    /// Share of requests that may be late because they wait.
    pub const fn allowed_share(&self) -> f64 {
        self.allowed_share
    }

    /// Requests per second that one replica can do.
    pub fn rate(&self) -> f64 {
        f64::from(self.slots) / self.service_seconds
    }
}

/// Probability that a request finds all of `servers` busy (Erlang's C) at an offered load of `a` servers; 1 where they cannot keep up.
///
/// By the recursion `B_0 = 1; B_k = a B_{k-1} / (k + a B_{k-1}); C = B_m / (1 - (a/m)(1 - B_m))`, which neither overflows nor cancels.
pub fn erlang_c(servers: u64, a: f64) -> f64 {
    let m = servers as f64;
    if a <= 0.0 {
        return if servers == 0 { 1.0 } else { 0.0 };
    }
    if a >= m {
        return 1.0;
    }
    let mut b = 1.0;
    for k in 1..=servers {
        b = a * b / (k as f64 + a * b);
        if b == 0.0 {
            return 0.0;
        }
    }
    b / (1.0 - a / m * (1.0 - b))
}

/// Share of requests that are late because they waited, with `n` replicas: the mean over service times `s` of
/// `C(m, a) exp(-2 (m/S - lambda) (L - s) / (Ca² + Cs²))`, the Allen-Cunneen form of Kingman's bound on the tail.
pub fn late_share(server: &Server, lambda: f64, n: u32) -> f64 {
    if n == 0 {
        return if lambda > 0.0 { 1.0 } else { 0.0 };
    }
    let (servers, lambda) = match server.balancing {
        Balancing::Central => (u64::from(n) * u64::from(server.slots), lambda),
        // Each replica is a queue of its own with its part of the arrivals.
        Balancing::Random => (u64::from(server.slots), lambda / f64::from(n)),
    };
    let waits = erlang_c(servers, lambda * server.service_seconds);
    if waits >= 1.0 {
        return 1.0;
    }
    let spare = servers as f64 / server.service_seconds - lambda;
    let decay = -2.0 * spare / server.scv_sum.max(f64::MIN_POSITIVE);
    let points = server.slack_seconds.iter().filter(|slack| **slack > 0.0);
    waits * points.map(|slack| libm::exp(decay * slack)).sum::<f64>() / POINTS as f64
}

/// Fewest replicas for which the late share is not above the promised one; [`REPLICAS_MAX`] where none would do.
pub fn replicas_for_rate(server: &Server, lambda: f64) -> u32 {
    if lambda <= 0.0 {
        return 0;
    }
    let is_enough = |n: u32| late_share(server, lambda, n) <= server.allowed_share;
    let least = replicas(lambda / server.rate()).clamp(1, REPLICAS_MAX);
    let mut high = least;
    while !is_enough(high) {
        if high >= REPLICAS_MAX {
            return REPLICAS_MAX;
        }
        high = (high + 1 + (high - least) * 2).min(REPLICAS_MAX);
    }
    let mut low = least;
    while low < high {
        let middle = low + (high - low) / 2;
        if is_enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// Largest rate that `n` replicas carry within the promise, to one part in 10⁴: the inverse of [`replicas_for_rate`].
pub fn rate_for_replicas(server: &Server, n: u32) -> f64 {
    if n == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, f64::from(n) * server.rate());
    while high - low > high * 1e-4 {
        let middle = f64::midpoint(low, high);
        if replicas_for_rate(server, middle) <= n {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// A backlog, and what is there to work it off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backlog {
    /// Requests that wait.
    pub queued: f64,
    /// Arrivals per second meanwhile.
    pub lambda: f64,
    /// Requests per second of what is ready.
    pub ready_rate: f64,
    /// Seconds until a replica that is made now is ready.
    pub start_seconds: f64,
    /// Seconds in which the backlog shall be gone after that.
    pub drain_seconds: f64,
    /// Requests that replicas on their way will have done by then.
    pub starting_work: f64,
}

/// Requests per second that are missing to work off a backlog within `start + drain` seconds; 0 if what is there suffices.
///
/// `x μ T = Q + λ (D + T) - μ (N (D + T) + Σ (D + T - e_i)⁺)`: replicas on their way count for the time that they will serve, so that the same
/// backlog does not ask for more at every tick.
pub fn missing_rate(backlog: &Backlog) -> f64 {
    let horizon = backlog.start_seconds + backlog.drain_seconds;
    let left = backlog.queued + backlog.lambda * horizon - backlog.ready_rate * horizon - backlog.starting_work;
    (left / backlog.drain_seconds).max(0.0)
}

/// Seconds that a request of mean length may wait. Never less than 5 % of the latency: where the service alone takes it all, replicas cannot help.
pub fn slack_seconds(latency_seconds: f64, service_seconds: f64) -> f64 {
    (latency_seconds - service_seconds).max(0.05 * latency_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(slack_over_service: f64) -> Request {
        Request {
            service_seconds: 0.5,
            service_scv: 0.0,
            arrival_scv: 1.75,
            latency_seconds: 0.5 * (1.0 + slack_over_service),
            late_share: 0.01,
        }
    }

    fn server(slack_over_service: f64) -> Server {
        Server::new(&request(slack_over_service), 4, Balancing::Central)
    }

    #[test]
    fn erlang_c_as_in_the_tables() {
        // Kleinrock, Queueing Systems I; C(1, a) = a.
        for (servers, a, expected) in [
            (1, 0.3, 0.3),
            (2, 1.0, 1.0 / 3.0),
            (5, 4.0, 0.554_1),
            (10, 8.0, 0.409_2),
            (100, 90.0, 0.216_9),
        ] {
            let c = erlang_c(servers, a);
            assert!((c - expected).abs() < 5e-4, "C({servers}, {a}) = {c}");
        }
        assert!((erlang_c(3, 3.0) - 1.0).abs() < f64::EPSILON);
        assert!(erlang_c(4_000_000, 10.0) < 1e-300);
    }

    /// For 4 slots, 1 % late, `Ca² + Cs²` = 1.75: replicas by offered load and by slack over service time.
    #[test]
    fn replicas_by_load_and_slack() {
        for (a, expected) in [
            (2.0, [2, 2, 1, 1]),
            (8.0, [4, 4, 3, 3]),
            (20.0, [8, 7, 6, 6]),
            (40.0, [14, 12, 11, 11]),
            (160.0, [45, 42, 41, 41]),
        ] {
            let found = [0.1, 0.5, 2.0, 10.0].map(|slack| replicas_for_rate(&server(slack), a / 0.5));
            assert_eq!(found, expected, "a = {a}");
        }
    }

    #[test]
    fn long_requests_may_wait_less() {
        let varied = Request {
            service_scv: 0.5,
            arrival_scv: 1.25,
            ..request(2.0)
        };
        let replicas = |request: &Request| replicas_for_rate(&Server::new(request, 4, Balancing::Central), 35.0);
        assert!(replicas(&varied) > replicas(&request(2.0)));
    }

    #[test]
    fn what_the_service_alone_breaks_is_not_bought_back() {
        let hopeless = Request {
            latency_seconds: 0.4,
            ..request(0.0)
        };
        let replicas = replicas_for_rate(&Server::new(&hopeless, 4, Balancing::Central), 35.0);
        assert!((5..20).contains(&replicas), "{replicas}");
    }

    #[test]
    fn random_balancing_needs_more() {
        let random = Server::new(&request(2.0), 4, Balancing::Random);
        for lambda in [4.0, 40.0, 400.0] {
            assert!(
                replicas_for_rate(&random, lambda) >= replicas_for_rate(&server(2.0), lambda),
                "{lambda}"
            );
        }
        assert!(replicas_for_rate(&random, 80.0) > replicas_for_rate(&server(2.0), 80.0));
    }

    #[test]
    fn the_inverse_is_one() {
        for n in [1, 2, 7, 40] {
            let rate = rate_for_replicas(&server(0.5), n);
            assert!(replicas_for_rate(&server(0.5), rate) <= n);
            assert!(replicas_for_rate(&server(0.5), rate * 1.001) > n, "{n}");
        }
    }

    #[test]
    fn absurd_rates_end() {
        for lambda in [1e12, 1e308, f64::MAX] {
            assert_eq!(replicas_for_rate(&server(0.5), lambda), REPLICAS_MAX);
        }
    }

    #[test]
    fn replicas_on_their_way_count() {
        let backlog = Backlog {
            queued: 100.0,
            lambda: 10.0,
            ready_rate: 10.0,
            start_seconds: 30.0,
            drain_seconds: 10.0,
            starting_work: 0.0,
        };
        assert!((missing_rate(&backlog) - 10.0).abs() < 1e-9);
        let started = Backlog {
            starting_work: 100.0,
            ..backlog
        };
        assert!(missing_rate(&started).abs() < 1e-9);
    }

    #[test]
    fn some_slack_is_always_left() {
        assert!((slack_seconds(1.0, 5.0) - 0.05).abs() < 1e-9);
        assert!((slack_seconds(1.0, 0.1) - 0.9).abs() < 1e-9);
    }
}
