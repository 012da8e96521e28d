//! The records of one service: closed segments, compressed, and an open one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use tidewright_scaling::record::Record;
use tidewright_scaling::units::Moment;

/// Fast, and a tenth of the text: records repeat each other.
const LEVEL: i32 = 3;
/// A segment is so many times as long as its first line, at least.
const START_SHARE: usize = 4;

#[derive(Debug)]
struct Segment {
    from: Moment,
    to: Moment,
    records: u64,
    packed: Arc<[u8]>,
}

#[derive(Debug, Default)]
struct Open {
    from: Moment,
    to: Moment,
    records: u64,
    lines: Vec<u8>,
    /// Bytes of the first line, which says what was remembered.
    start: usize,
}

/// A part of what is kept, as it was when it was asked for.
#[derive(Debug, Clone)]
pub enum Kept {
    /// A closed segment.
    Packed(Arc<[u8]>),
    /// The open one.
    Open(Vec<u8>),
}

impl Kept {
    /// JSON lines, one record each.
    ///
    /// # Errors
    /// The memory of the process is not what it was.
    pub fn lines(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Packed(packed) => zstd::decode_all(&*packed),
            Self::Open(lines) => Ok(lines),
        }
    }
}

/// One service's.
#[derive(Debug, Default)]
pub(super) struct Book {
    closed: VecDeque<Segment>,
    closed_bytes: usize,
    open: Open,
}

impl Book {
    pub(super) fn note(&mut self, record: &Record) -> io::Result<()> {
        if record.state.is_some() {
            self.close()?;
        } else if self.open.records == 0 {
            // Nothing could be made of it: what was remembered before it is not known.
            return Ok(());
        }
        let open = &mut self.open;
        if open.records == 0 {
            open.from = record.at;
        }
        serde_json::to_writer(&mut open.lines, record)?;
        open.lines.push(b'\n');
        open.to = record.at;
        open.records += 1;
        if open.records == 1 {
            open.start = open.lines.len();
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        if open.records == 0 {
            return Ok(());
        }
        let packed: Arc<[u8]> = zstd::encode_all(open.lines.as_slice(), LEVEL)?.into();
        self.closed_bytes += packed.len();
        self.closed.push_back(Segment {
            from: open.from,
            to: open.to,
            records: open.records,
            packed,
        });
        Ok(())
    }

    /// Whether the open segment has none, or enough. What a segment begins with may be larger than all that follows: it is not for one record.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        self.open.records == 0 || self.open.lines.len() >= bytes.max(START_SHARE * self.open.start)
    }

    /// The segments of this span; the first has the last decision at or before `from`, although it may be older, if there is one.
    pub(super) fn read(&self, from: Moment, to: Moment) -> Vec<Kept> {
        let is_open_first = self.open.records > 0 && self.open.from <= from;
        let before = self.closed.iter().rposition(|segment| segment.from <= from);
        let begin = if is_open_first {
            self.closed.len()
        } else {
            before.unwrap_or(0)
        };
        let touched = self.closed.iter().skip(begin).filter(|segment| segment.from <= to);
        let mut all: Vec<Kept> = touched
            .map(|segment| Kept::Packed(Arc::clone(&segment.packed)))
            .collect();
        let is_open_touched = self.open.records > 0 && self.open.from <= to;
        if is_open_touched {
            all.push(Kept::Open(self.open.lines.clone()));
        }
        all
    }

    pub(super) fn span(&self) -> Option<(Moment, Moment)> {
        let open = (self.open.records > 0).then_some(&self.open);
        let from = self
            .closed
            .front()
            .map(|segment| segment.from)
            .or(open.map(|open| open.from));
        let to = open
            .map(|open| open.to)
            .or(self.closed.back().map(|segment| segment.to));
        from.zip(to)
    }

    pub(super) fn records(&self) -> u64 {
        self.closed.iter().map(|segment| segment.records).sum::<u64>() + self.open.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.closed_bytes + self.open.lines.capacity()
    }

    /// When the oldest segment ended.
    pub(super) fn oldest_end(&self) -> Option<Moment> {
        let closed = self.closed.front().map(|segment| segment.to);
        closed.or((self.open.records > 0).then_some(self.open.to))
    }

    /// Lets the oldest segment go. The bytes that it took.
    pub(super) fn drop_oldest(&mut self) -> usize {
        match self.closed.pop_front() {
            Some(segment) => {
                self.closed_bytes -= segment.packed.len();
                segment.packed.len()
            }
            None => std::mem::take(&mut self.open).lines.capacity(),
        }
    }
}
