//! A JSON reader that goes through a body once and hands out values where they stand: no tree, no copy of what is not needed, bounded depth.

use std::borrow::Cow;

use super::document::{DEPTH_MAX, Document, Format, KEYS_MAX, Kind, Malformed, Result};
use super::number::{self, Decimal, Number};

/// Where we are in the text.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// The body as text; an error when it is not UTF-8.
pub fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|error| {
        Malformed {
            format: Format::Json,
            message: "not UTF-8".to_owned(),
            at: error.valid_up_to(),
        }
        .into()
    })
}

impl<'a> Reader<'a> {
    /// At the start of the text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The next byte that is no white space; not consumed. `0` at the end (a NUL byte is never valid outside a string).
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    /// Consumes the byte if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, name: &str) -> Result<()> {
        if self.take(byte) {
            Ok(())
        } else {
            self.malformed(format!("expected {name}"))
        }
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            self.malformed(format!("nested deeper than {DEPTH_MAX}"))
        } else {
            Ok(())
        }
    }

    fn escape(&mut self) -> Result<char> {
        let byte = self.text.as_bytes().get(self.at).copied().unwrap_or(0);
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => {
                self.at -= 1;
                return self.malformed("an unknown escape");
            }
        })
    }

    /// After `\u`: four hex digits, and a second escape after the first half of a pair.
    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            if self.text.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                return self.malformed("half of a surrogate pair");
            }
            self.at += 2;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return self.malformed("half of a surrogate pair");
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        match char::from_u32(code) {
            Some(character) => Ok(character),
            None => self.malformed("half of a surrogate pair"),
        }
    }

    fn hex4(&mut self) -> Result<u32> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => self.malformed("expected four hex digits"),
        }
    }

    fn literal(&mut self, word: &str) -> bool {
        let found = self
            .text
            .as_bytes()
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word.as_bytes()));
        self.at += if found { word.len() } else { 0 };
        found
    }
}

impl<'a> Document<'a> for Reader<'a> {
    /// A digit and a comma.
    const VALUE_BYTES_MIN: usize = 2;

    fn kind(&mut self) -> Kind {
        match self.peek() {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => Kind::Nothing,
        }
    }

    fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    fn malformed<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Malformed {
            format: Format::Json,
            message: message.into(),
            at: self.at,
        }
        .into())
    }

    fn end(&mut self) -> Result<()> {
        self.peek();
        if self.remaining() == 0 {
            Ok(())
        } else {
            self.malformed("text after the end of the document")
        }
    }

    fn object(&mut self, what: &str, mut field: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        if !self.take(b'{') {
            return self.malformed(format!("expected an object ({what})"));
        }
        self.enter()?;
        let mut keys: Vec<Cow<'a, str>> = Vec::new();
        if !self.take(b'}') {
            loop {
                self.peek();
                let key = self.string("a key")?;
                if keys.contains(&key) {
                    return self.malformed(format!("the key {key:?} stands twice"));
                }
                if keys.len() == KEYS_MAX {
                    return self.malformed(format!("more than {KEYS_MAX} keys in one object"));
                }
                self.expect(b':', "':' after the key")?;
                field(self, &key)?;
                keys.push(key);
                if self.take(b'}') {
                    break;
                }
                self.expect(b',', "',' or '}'")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, what: &str, mut element: impl FnMut(&mut Self, usize) -> Result<()>) -> Result<usize> {
        if !self.take(b'[') {
            return self.malformed(format!("expected an array ({what})"));
        }
        self.enter()?;
        let mut count = 0;
        if !self.take(b']') {
            loop {
                element(self, count)?;
                count += 1;
                if self.take(b']') {
                    break;
                }
                self.expect(b',', "',' or ']'")?;
            }
        }
        self.depth -= 1;
        Ok(count)
    }

    fn string(&mut self, what: &str) -> Result<Cow<'a, str>> {
        if !self.take(b'"') {
            return self.malformed(format!("expected a string ({what})"));
        }
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    let rest = self.text.get(copied..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(mut text) => {
                            text.push_str(rest);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_with(String::new);
                    text.push_str(self.text.get(copied..self.at).unwrap_or_default());
                    self.at += 1;
                    let character = self.escape()?;
                    owned.get_or_insert_with(String::new).push(character);
                    copied = self.at;
                }
                Some(0..=0x1f) => return self.malformed("a control character in a string"),
                Some(_) => self.at += 1,
                None => return self.malformed("a string without an end"),
            }
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        self.peek();
        if self.literal("true") {
            Ok(true)
        } else if self.literal("false") {
            Ok(false)
        } else {
            self.malformed("expected true or false")
        }
    }

    #[inline]
    fn short_number(&mut self) -> Option<f64> {
        self.peek();
        let (value, length) = number::short(self.text.as_bytes().get(self.at..)?)?;
        self.at += length;
        Some(value)
    }

    /// A number by JSON's grammar: no `NaN`, no leading zero, no plus sign.
    fn number(&mut self) -> Result<Number<'a>> {
        self.peek();
        let bytes = self.text.as_bytes();
        let start = self.at;
        let negative = bytes.get(self.at) == Some(&b'-');
        self.at += usize::from(negative);
        let mut digits = Digits::default();
        let first = bytes.get(self.at).copied().unwrap_or(0);
        let whole = digits.run(bytes, &mut self.at);
        if whole == 0 || (first == b'0' && whole > 1) {
            self.at = start;
            return self.malformed("expected a number");
        }
        let mut exponent = 0i32;
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            let fraction = digits.run(bytes, &mut self.at);
            if fraction == 0 {
                return self.malformed("expected a digit after the point");
            }
            exponent = i32::try_from(fraction).map_or(i32::MIN / 2, |count| -count);
        }
        if matches!(bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            let minus = bytes.get(self.at) == Some(&b'-');
            self.at += usize::from(matches!(bytes.get(self.at), Some(b'+' | b'-')));
            let mut power = Digits::default();
            if power.run(bytes, &mut self.at) == 0 {
                return self.malformed("expected a digit in the exponent");
            }
            let power = i32::try_from(power.value).map_or(i32::MAX / 4, |value| value.min(i32::MAX / 4));
            exponent = exponent.saturating_add(if minus { -power } else { power });
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        Ok(Number::Decimal(Decimal {
            text,
            negative,
            mantissa: digits.value,
            exponent,
            exact: digits.exact(),
        }))
    }

    fn skip(&mut self) -> Result<()> {
        match self.peek() {
            b'{' => {
                // Keys of what is not understood are not compared: the object is dropped as a whole.
                self.at += 1;
                self.enter()?;
                if !self.take(b'}') {
                    loop {
                        self.peek();
                        self.string("a key")?;
                        self.expect(b':', "':' after the key")?;
                        self.skip()?;
                        if self.take(b'}') {
                            break;
                        }
                        self.expect(b',', "',' or '}'")?;
                    }
                }
                self.depth -= 1;
                Ok(())
            }
            b'[' => self.array("a value", |reader, _| reader.skip()).map(|_| ()),
            b'"' => self.string("a value").map(|_| ()),
            b't' | b'f' => self.boolean().map(|_| ()),
            b'n' if self.literal("null") => Ok(()),
            _ => self.number().map(|_| ()),
        }
    }
}

/// Decimal digits read so far.
#[derive(Default)]
struct Digits {
    value: u64,
    /// Digits that count, without leading zeros.
    significant: u32,
}

impl Digits {
    /// 19 digits always fit 64 bits.
    const FIT: u32 = 19;

    fn exact(&self) -> bool {
        self.significant <= Self::FIT
    }

    /// Reads digits and answers how many.
    fn run(&mut self, bytes: &[u8], at: &mut usize) -> usize {
        let start = *at;
        while let Some(digit) = bytes.get(*at).filter(|byte| byte.is_ascii_digit()) {
            let digit = u64::from(digit - b'0');
            if self.significant > 0 || digit > 0 {
                self.significant += 1;
                if self.significant <= Self::FIT {
                    self.value = self.value * 10 + digit;
                }
            }
            *at += 1;
        }
        *at - start
    }
}
