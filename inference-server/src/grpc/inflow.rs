//! The body of a call on its way in. Its bytes take room among those of all requests before there is a message that could be counted, and a message
//! that has begun must come in time. Costs a look at each frame; room and a timer are taken for what does not come in one piece.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::admission::Room;
use crate::error::Error;
use crate::protocols::errors;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is sent in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// One message: nothing is done with it before the body has ended.
    Unary,
    /// Any number of messages, each of which is taken and counted for itself as soon as it is whole.
    Stream,
}

/// A body that is counted.
#[derive(Debug)]
pub struct Inflow {
    body: Incoming,
    calls: Calls,
    room: Room,
    /// Bytes that are held: of the body, or of the message of a stream that is not whole.
    held: u64,
    at: Position,
    within: Duration,
    /// Runs while something is waited for that has begun.
    late: Option<Pin<Box<Sleep>>>,
}

impl Inflow {
    /// A body of which nothing was read.
    pub fn new(body: Incoming, calls: Calls, room: Room, within: Duration) -> Self {
        Self {
            body,
            calls,
            room,
            held: 0,
            at: Position::default(),
            within,
            late: None,
        }
    }

    fn took(&mut self, data: &[u8]) -> Result<(), Error> {
        match self.calls {
            Calls::Unary => {
                self.held += data.len() as u64;
                // Now it becomes a message, which is counted before anything else is waited for.
                if self.body.is_end_stream() {
                    return Ok(());
                }
            }
            Calls::Stream => {
                self.held = self.at.advance(data);
                if self.held == 0 {
                    self.room.release();
                    self.late = None;
                    return Ok(());
                }
            }
        }
        self.room.grow(self.held)
    }

    fn is_waited_for(&self) -> bool {
        self.calls == Calls::Unary || self.held > 0
    }
}

impl Body for Inflow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let refused = |error: &Error| Some(Err(errors::grpc_status(error).into()));
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let taken = frame.data_ref().map_or(Ok(()), |data| this.took(data));
                Poll::Ready(match taken {
                    Ok(()) => Some(Ok(frame)),
                    Err(error) => refused(&error),
                })
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|frame| frame.map_err(Into::into))),
            Poll::Pending if this.is_waited_for() => {
                let within = this.within;
                let late = this.late.get_or_insert_with(|| Box::pin(sleep(within)));
                late.as_mut().poll(context).map(|()| refused(&Error::BodyTimeout))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes before each message: one of flags, four of its length.
const PREFIX_BYTES: usize = 5;

/// Where in its messages a stream is.
#[derive(Debug, Default)]
struct Position {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that are there; all of them while the message is read.
    prefix_bytes: usize,
    message_bytes: u64,
    /// Bytes of the message that are still to come.
    rest: u64,
}

impl Position {
    /// Goes on by these bytes; answers how many bytes there are of a message that is not whole.
    fn advance(&mut self, mut data: &[u8]) -> u64 {
        while !data.is_empty() {
            if self.prefix_bytes < PREFIX_BYTES {
                let (taken, after) = data.split_at(data.len().min(PREFIX_BYTES - self.prefix_bytes));
                self.prefix[self.prefix_bytes..][..taken.len()].copy_from_slice(taken);
                self.prefix_bytes += taken.len();
                data = after;
                let [_, length @ ..] = self.prefix;
                self.message_bytes = u64::from(u32::from_be_bytes(length));
                self.rest = self.message_bytes;
            } else {
                let taken = data.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX));
                self.rest -= taken as u64;
                data = &data[taken..];
            }
            if self.prefix_bytes == PREFIX_BYTES && self.rest == 0 {
                *self = Self::default();
            }
        }
        match self.prefix_bytes {
            PREFIX_BYTES => PREFIX_BYTES as u64 + self.message_bytes - self.rest,
            of_the_prefix => of_the_prefix as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_that_is_not_whole_is_held() {
        let mut at = Position::default();
        let message = |length: u8| [&[0, 0, 0, 0, length][..], &vec![7; usize::from(length)]].concat();
        assert_eq!(at.advance(&message(3)), 0);
        assert_eq!(at.advance(&[message(3), message(0), message(200)].concat()), 0);
        // Two messages and the beginning of a third, whose prefix comes in three pieces.
        assert_eq!(at.advance(&[message(3), message(9), vec![0, 0]].concat()), 2);
        assert_eq!(at.advance(&[0, 0]), 4);
        assert_eq!(at.advance(&[10]), 5);
        assert_eq!(at.advance(&[1; 9]), 14);
        assert_eq!(at.advance(&[1]), 0);
        // Byte by byte.
        let stream = [message(2), message(0), message(1)].concat();
        let held: Vec<u64> = stream.iter().map(|byte| at.advance(&[*byte])).collect();
        assert_eq!(held, [1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0]);
    }
}
