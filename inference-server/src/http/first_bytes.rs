//! A connection that must say something: until its first bytes tell which protocol it speaks, nobody else's limit runs. The timers of HTTP/1.1 and of
//! HTTP/2 begin when that is known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::calls::Calls;

/// What a client of HTTP/2 begins with (RFC 9113, 3.4); whoever differs from it speaks HTTP/1.1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stream, with a limit on the time that passes before its protocol is known.
#[derive(Debug)]
pub struct FirstBytes<S> {
    stream: S,
    /// Runs until the protocol is known.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface that have come.
    seen: usize,
    /// Is told if it is HTTP/2.
    calls: Arc<Calls>,
}

impl<S> FirstBytes<S> {
    /// Nothing has come yet, and so much may pass.
    pub fn new(stream: S, within: Duration, calls: Arc<Calls>) -> Self {
        Self {
            stream,
            waiting: Some(Box::pin(sleep(within))),
            seen: 0,
            calls,
        }
    }

    /// Whether the protocol is known after these bytes.
    fn is_told_by(&mut self, bytes: &[u8]) -> bool {
        let rest = PREFACE.get(self.seen..).unwrap_or_default();
        let alike = bytes.iter().zip(rest).take_while(|(given, due)| given == due).count();
        self.seen += alike;
        if self.seen == PREFACE.len() {
            self.calls.are_http2();
            return true;
        }
        alike < bytes.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some(waiting) = &mut this.waiting else { return read };
        match read {
            Poll::Pending => match waiting.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(read) => {
                let bytes = buffer.filled().get(before..).unwrap_or_default();
                // Its end is told as well.
                if bytes.is_empty() || this.is_told_by(bytes) {
                    this.waiting = None;
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstBytes<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const WITHIN: Duration = Duration::from_millis(40);

    /// What a read after `first` says when nothing follows for ten times as long.
    async fn silence_after(first: &[u8]) -> Option<io::ErrorKind> {
        let (mut client, server) = duplex(256);
        let mut server = FirstBytes::new(server, WITHIN, Calls::new());
        client.write_all(first).await.unwrap();
        let mut buffer = vec![0; first.len()];
        server.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, first);
        let read = tokio::time::timeout(10 * WITHIN, server.read(&mut [0; 1])).await;
        read.ok().map(|read| read.unwrap_err().kind())
    }

    #[tokio::test]
    async fn whoever_does_not_say_what_he_speaks_is_let_go() {
        for first in [&b""[..], b"P", b"PRI ", &PREFACE[..23]] {
            assert_eq!(silence_after(first).await, Some(io::ErrorKind::TimedOut), "{first:?}");
        }
        // From here on the limits of the protocol hold.
        for first in [&b"G"[..], b"PO", b"PRI x", PREFACE, &[PREFACE, b"more"].concat()] {
            assert_eq!(silence_after(first).await, None, "{first:?}");
        }
    }
}
