//! The access log: a line for one request in so many, and for each that the server failed.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;

use crate::error::clip;
use crate::trace;

/// What filters call these lines: `log.filter: "info,access=off"`.
const TARGET: &str = "access";
/// How a proxy names a request, where it does.
const REQUEST_ID: &str = "x-request-id";
const TRACE_ID_CHARS: usize = 32;

/// Which requests get a line.
#[derive(Debug)]
pub struct AccessLog {
    one_in: u64,
    seen: AtomicU64,
}

/// What is known of one request besides its route and its end. Gathers nothing where there is no log; where there is one, which lines it will have is
/// known at the end.
#[derive(Debug, Default)]
pub struct Details(Option<Box<Known>>);

#[derive(Debug, Default)]
struct Known {
    model: Option<String>,
    version: Option<String>,
    id: Option<String>,
    trace: Option<String>,
    received_bytes: u64,
    sent_bytes: u64,
    error: Option<String>,
}

impl Details {
    /// What the head says: the request's name and trace.
    pub fn head(&mut self, headers: &HeaderMap) {
        self.know(|known| {
            let text = |name: &str| headers.get(name)?.to_str().ok();
            known.id = text(REQUEST_ID).map(clip);
            known.trace = text(trace::TRACEPARENT).and_then(trace_id).map(str::to_owned);
        });
    }

    /// Which model is asked.
    pub fn model(&mut self, name: &str, version: &str) {
        self.know(|known| {
            // What the caller wrote, until the model is found.
            known.model = Some(clip(name));
            known.version = (!version.is_empty()).then(|| clip(version));
        });
    }

    /// How the caller names the request, in it: goes before a proxy's name for it.
    pub fn id(&mut self, id: &str) {
        self.know(|known| {
            if !id.is_empty() {
                known.id = Some(clip(id));
            }
        });
    }

    /// Bytes of its body, as they are read: decoded.
    pub fn received(&mut self, bytes: u64) {
        self.know(|known| known.received_bytes = bytes);
    }

    /// Bytes of the answer's body, as they are sent: encoded.
    pub fn sent(&mut self, bytes: impl FnOnce() -> u64) {
        self.know(|known| known.sent_bytes = bytes());
    }

    /// Why there is no answer.
    pub fn error(&mut self, error: &impl Display) {
        self.know(|known| known.error = Some(clip(&error.to_string())));
    }

    fn know(&mut self, tell: impl FnOnce(&mut Known)) {
        if let Some(known) = &mut self.0 {
            tell(known);
        }
    }
}

/// The trace that a `traceparent` names.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    let is_one = id.len() == TRACE_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then_some(id)
}

impl AccessLog {
    /// 0: none.
    pub fn new(one_in: u32) -> Self {
        Self {
            one_in: u64::from(one_in),
            seen: AtomicU64::new(0),
        }
    }

    /// For a request that has come.
    pub fn details(&self) -> Details {
        Details((self.one_in > 0).then(Box::default))
    }

    /// Notes a request that has ended.
    pub fn note(&self, route: &str, method: &str, code: u16, took: Duration, details: &Details) {
        if !self.is_wanted(code) {
            return;
        }
        let Some(known) = &details.0 else { return };
        let millis = took.as_secs_f64() * 1e3;
        let traced = trace::exemplar().map(|id| id.0);
        tracing::info!(
            target: TARGET,
            method,
            route,
            code,
            millis,
            model = known.model.as_deref(),
            version = known.version.as_deref(),
            id = known.id.as_deref(),
            trace = traced.as_deref().or(known.trace.as_deref()),
            received_bytes = known.received_bytes,
            sent_bytes = known.sent_bytes,
            error = known.error.as_deref(),
            "request"
        );
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
    use super::{AccessLog, trace_id};

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

    #[test]
    fn a_trace_is_known_by_a_whole_number_of_its_own() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(&format!("00-{id}-b7ad6b7169203331-01")), Some(id));
        for wrong in [
            "",
            "00",
            "00-0af7-b7ad6b7169203331-01",
            &format!("00-{}\n-b-01", &id[1..]),
        ] {
            assert_eq!(trace_id(wrong), None, "{wrong:?}");
        }
    }
}
