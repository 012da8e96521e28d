//! The access log: a line for one request in so many, and for each that the server failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What filters call these lines: `log.filter: "info,access=off"`.
const TARGET: &str = "access";

/// Which requests get a line.
#[derive(Debug)]
pub struct AccessLog {
    one_in: u64,
    seen: AtomicU64,
}

impl AccessLog {
    /// 0: none.
    pub fn new(one_in: u32) -> Self {
        Self {
            one_in: u64::from(one_in),
            seen: AtomicU64::new(0),
        }
    }

    /// Notes a request that has ended.
    pub fn note(&self, route: &str, method: &str, code: u16, took: Duration) {
        if self.is_wanted(code) {
            let millis = took.as_secs_f64() * 1e3;
            tracing::info!(target: TARGET, method, route, code, millis, "request");
        }
    }

    fn is_wanted(&self, code: u16) -> bool {
        if self.one_in == 0 {
            return false;
        }
        // Every so many, not each with a chance: the share is exact, and costs one addition.
        let is_its_turn = self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in);
        is_its_turn || code >= 500
    }
}

#[cfg(test)]
mod tests {
    use super::AccessLog;

    #[test]
    fn one_in_so_many_and_every_failure_of_the_server() {
        let lines = |one_in: u32, code: u16| {
            let log = AccessLog::new(one_in);
            (0..100).filter(|_| log.is_wanted(code)).count()
        };
        assert_eq!((lines(0, 200), lines(0, 500)), (0, 0));
        assert_eq!((lines(1, 200), lines(10, 200), lines(1000, 200)), (100, 10, 1));
        assert_eq!((lines(10, 404), lines(10, 429), lines(10, 499)), (10, 10, 10));
        assert_eq!((lines(10, 500), lines(10, 503), lines(10, 504)), (100, 100, 100));
    }
}
