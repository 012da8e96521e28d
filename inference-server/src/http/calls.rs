//! The calls of one connection of HTTP/2, from their heads to the ends of their answers: a connection without any for a while is closed. HTTP/1.1 has a timer
//! of hyper's for that; of HTTP/2 hyper asks only whether its client still answers pings, which an idle client does for ever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};

use crate::clock;

/// What is known of a connection.
#[derive(Debug)]
pub struct Calls {
    is_http2: AtomicBool,
    under_way: AtomicUsize,
    begun: Instant,
    /// When the last call ended, in milliseconds since `begun`.
    ended_millis: AtomicU64,
}

impl Calls {
    /// Of a connection that begins now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            is_http2: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            begun: clock::now(),
            ended_millis: AtomicU64::new(0),
        })
    }

    /// The client has said that it speaks HTTP/2.
    pub fn are_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    /// A call begins, and ends when this is dropped.
    pub fn begin(self: &Arc<Self>) -> Call {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }

    /// Waits until there was no call for so long. For ever on other connections than those of HTTP/2.
    pub async fn idle(&self, for_long: Duration) {
        let mut left = for_long;
        loop {
            tokio::time::sleep(left).await;
            left = self.left(for_long, clock::now());
            if left.is_zero() {
                return;
            }
        }
    }

    /// How long it takes at least until there has been no call for so long.
    fn left(&self, for_long: Duration, now: Instant) -> Duration {
        if !self.is_http2.load(Ordering::Relaxed) || self.under_way.load(Ordering::Acquire) > 0 {
            return for_long;
        }
        let ended = Duration::from_millis(self.ended_millis.load(Ordering::Relaxed));
        for_long.saturating_sub(now.saturating_duration_since(self.begun + ended))
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        let age = clock::now().saturating_duration_since(self.0.begun);
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        // In this order: who sees that none is under way must see when the last one was.
        self.0.ended_millis.fetch_max(millis, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

/// An answer's body, whose end is that of its call.
#[derive(Debug)]
pub struct OfCall<B> {
    body: B,
    /// None over HTTP/1.1, where nobody counts.
    _call: Option<Call>,
}

impl<B> OfCall<B> {
    /// Together.
    pub fn new(body: B, call: Option<Call>) -> Self {
        Self { body, _call: call }
    }
}

impl<B: Body + Unpin> Body for OfCall<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn time_runs_from_the_end_of_the_last_call_and_not_while_there_is_one() {
        let calls = Calls::new();
        let after = |seconds: u64| calls.left(LONG, calls.begun + Duration::from_secs(seconds));
        // Nobody knows yet what it speaks, or it is HTTP/1.1.
        assert_eq!(after(100), LONG);
        calls.are_http2();
        assert_eq!(after(0), LONG);
        assert_eq!(after(7), Duration::from_secs(3));
        assert_eq!(after(100), Duration::ZERO);
        let (first, second) = (calls.begin(), calls.begin());
        drop(first);
        assert_eq!(after(100), LONG, "one is under way");
        drop(second);
        assert_eq!(after(100), Duration::ZERO);
        calls.ended_millis.store(95_000, Ordering::Relaxed);
        assert_eq!(after(100), Duration::from_secs(5));
    }
}
