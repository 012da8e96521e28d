//! What the protocols need of a document, so that each is read once, in JSON and in msgpack alike.

use std::borrow::Cow;

use super::number::Number;
use crate::error::Error;

/// Nesting beyond this is refused: no tensor has more dimensions, and recursion stays shallow.
pub const DEPTH_MAX: usize = 64;
/// Keys in one object; more is refused, so that the search for duplicates stays short.
pub const KEYS_MAX: usize = 256;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Msgpack,
}

impl Format {
    /// The name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Msgpack => "msgpack",
        }
    }
}

/// What is wrong with the document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub format: Format,
    pub message: String,
    /// Byte offset in the document.
    pub at: usize,
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        let Malformed { format, message, at } = malformed;
        Self::Invalid(format!("invalid {} at byte {at}: {message}", format.name()))
    }
}

/// Either a malformed document or, from a callback, a value that does not fit.
pub type Result<T> = std::result::Result<T, Error>;

/// What stands at a place of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Boolean,
    Null,
    Number,
    /// The end, or what the format does not know.
    Nothing,
}

/// A reader that goes through a document once and hands out values where they stand. A clone is a place to come back to.
pub trait Document<'a>: Clone {
    /// The fewest bytes that one value of an array takes.
    const VALUE_BYTES_MIN: usize;

    /// What comes next; not consumed.
    fn kind(&mut self) -> Kind;

    /// Bytes not yet read: no array that follows can have more elements than fit into them.
    fn remaining(&self) -> usize;

    /// An error at the current place.
    fn malformed<T>(&self, message: impl Into<String>) -> Result<T>;

    /// Nothing may follow.
    fn end(&mut self) -> Result<()>;

    /// Reads an object; the callback reads the value of each key. A key that stands twice is refused: which one would count?
    fn object(&mut self, what: &str, field: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()>;

    /// Reads an array; the callback reads each element and is told its index. Answers the number of elements.
    fn array(&mut self, what: &str, element: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<usize>;

    /// Reads a string; borrowed where the document holds it as it is.
    fn string(&mut self, what: &str) -> Result<Cow<'a, str>>;

    /// `true` or `false`.
    fn boolean(&mut self) -> Result<bool>;

    /// The value of a number that is short enough to be an exact quotient of doubles, rounded once, as nearly all are that people send; nothing is read
    /// where it is not, or where there is no number. Faster than [`Document::number`], which reads all.
    fn short_number(&mut self) -> Option<f64> {
        None
    }

    /// A number of any kind.
    fn number(&mut self) -> Result<Number<'a>>;

    /// Skips a value of any kind.
    fn skip(&mut self) -> Result<()>;
}
