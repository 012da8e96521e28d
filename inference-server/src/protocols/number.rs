//! Numbers of a document: read once, then turned into the datatype that the model wants, correctly rounded or refused.

use std::fmt;

use half::{bf16, f16};

/// A number as its format holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number<'a> {
    /// A text.
    Decimal(Decimal<'a>),
    Integer(i128),
    Single(f32),
    Double(f64),
}

impl Number<'_> {
    /// The nearest double; `None` when it would be infinite and the number is not.
    pub fn to_f64(self) -> Option<f64> {
        match self {
            Self::Decimal(decimal) => decimal.to_f64(),
            Self::Integer(value) => Some(value as f64),
            Self::Single(value) => Some(value.into()),
            Self::Double(value) => Some(value),
        }
    }

    /// The nearest float; `None` when it would be infinite and the number is not.
    pub fn to_f32(self) -> Option<f32> {
        match self {
            Self::Decimal(decimal) => decimal.to_f32(),
            Self::Integer(value) => Some(value as f32),
            Self::Single(value) => Some(value),
            Self::Double(value) => Some(value as f32).filter(|single| single.is_finite() || !value.is_finite()),
        }
    }

    /// The nearest half-precision number; `None` when it would be infinite and the number is not.
    pub fn to_f16(self) -> Option<f16> {
        let value = self.to_f64()?;
        Some(f16::from_f64(value)).filter(|half| half.is_finite() || !value.is_finite())
    }

    /// The nearest brain float; `None` when it would be infinite and the number is not.
    pub fn to_bf16(self) -> Option<bf16> {
        let value = self.to_f64()?;
        Some(bf16::from_f64(value)).filter(|half| half.is_finite() || !value.is_finite())
    }

    /// The integer with this value (`3`, `3.0` and `3e0` are one); `None` when it is none or does not fit.
    pub fn to_integer(self) -> Option<i128> {
        let whole = |value: f64| (value.fract() == 0.0 && value.abs() < INTEGER_MAX).then_some(value as i128);
        match self {
            Self::Decimal(decimal) => decimal.to_integer(),
            Self::Integer(value) => Some(value),
            Self::Single(value) => whole(value.into()),
            Self::Double(value) => whole(value),
        }
    }
}

/// For messages: as written, cut where it is very long.
impl fmt::Display for Number<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal(decimal) => formatter.write_str(decimal.text.get(..SHOWN_MAX).unwrap_or(decimal.text)),
            Self::Integer(value) => value.fmt(formatter),
            Self::Single(value) => write!(formatter, "{value:?}"),
            Self::Double(value) => write!(formatter, "{value:?}"),
        }
    }
}

/// Characters of a number in a message.
const SHOWN_MAX: usize = 32;
/// 2^64: beyond it no datatype holds an integer.
const INTEGER_MAX: f64 = 18_446_744_073_709_551_616.0;

/// A number of a text, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal<'a> {
    /// As written.
    pub text: &'a str,
    pub negative: bool,
    /// All digits without the point; only the first 19 when `exact` is false.
    pub mantissa: u64,
    /// Power of ten by which the mantissa is multiplied.
    pub exponent: i32,
    /// Whether the mantissa holds every digit.
    pub exact: bool,
}

/// All integers of so many digits are doubles.
const SHORT_DIGITS_MAX: usize = 15;

/// The number of JSON's grammar that the text begins with, and its length, if it has no exponent and so few digits that mantissa and power of ten are exact
/// doubles (Clinger's fast path).
#[inline]
pub(super) fn short(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let unsigned = text.get(usize::from(negative)..)?;
    let (mut mantissa, mut digits, mut point) = (0u64, 0, None);
    for byte in unsigned {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            b'.' | b'e' | b'E' => return None,
            _ => break,
        }
    }
    let whole = point.unwrap_or(digits);
    let has_leading_zero = whole > 1 && unsigned.first() == Some(&b'0');
    if digits > SHORT_DIGITS_MAX || whole == 0 || point == Some(digits) || has_leading_zero {
        return None;
    }
    let value = mantissa as f64 / POWERS.get(digits - whole)?;
    let length = usize::from(negative) + digits + usize::from(point.is_some());
    Some((if negative { -value } else { value }, length))
}

/// The float nearest to a decimal number of which this is the nearest double. Rounding twice errs only when the first rounding lands on the middle between two
/// floats: then nothing is answered, and the text has to be read again.
pub(super) fn single(value: f64) -> Option<f32> {
    (value.to_bits() & 0x1fff_ffff != 0x1000_0000).then_some(value as f32)
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

impl Decimal<'_> {
    /// The nearest double; `None` when it would be infinite.
    fn to_f64(self) -> Option<f64> {
        let value = match self.simple_f64() {
            Some(value) => value,
            None => self.text.parse().ok()?,
        };
        value.is_finite().then_some(value)
    }

    /// The nearest float; `None` when it would be infinite.
    fn to_f32(self) -> Option<f32> {
        let value = match self.simple_f64().and_then(single) {
            Some(value) => value,
            None => self.text.parse().ok()?,
        };
        value.is_finite().then_some(value)
    }

    /// The integer with this value (`3`, `3.0` and `3e0` are one); `None` when it is none or does not fit.
    fn to_integer(self) -> Option<i128> {
        if self.mantissa == 0 && self.exact {
            return Some(0);
        }
        if !self.exact {
            return self.text.parse().ok();
        }
        let mut value = i128::from(self.mantissa);
        let mut exponent = self.exponent;
        while exponent < 0 && value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        let power = 10i128.checked_pow(u32::try_from(exponent).ok()?)?;
        let value = value.checked_mul(power)?;
        Some(if self.negative { -value } else { value })
    }

    /// Clinger's fast path: mantissa and power of ten are both exact doubles, so that one operation rounds once.
    fn simple_f64(self) -> Option<f64> {
        if !self.exact || self.mantissa > 1 << 53 {
            return None;
        }
        let power = POWERS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        let mantissa = self.mantissa as f64;
        let value = if self.exponent < 0 {
            mantissa / power
        } else {
            mantissa * power
        };
        Some(if self.negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::document::Document;
    use super::super::json::Reader;
    use super::Number;
    use half::f16;

    fn number(text: &str) -> super::Number<'_> {
        Reader::new(text).number().unwrap()
    }

    #[test]
    fn integers_are_exact_or_nothing() {
        assert_eq!(number("3.0").to_integer(), Some(3));
        assert_eq!(number("-3e2").to_integer(), Some(-300));
        assert_eq!(number("18446744073709551615").to_integer(), Some(u64::MAX.into()));
        assert_eq!(number("-9223372036854775808").to_integer(), Some(i64::MIN.into()));
        assert_eq!(number("1.5").to_integer(), None);
        assert_eq!(number("1e400").to_integer(), None);
        assert_eq!(number("-0").to_integer(), Some(0));
    }

    #[test]
    fn numbers_too_large_for_the_datatype_are_refused() {
        assert_eq!(number("1e400").to_f64(), None);
        assert_eq!(number("1e39").to_f32(), None);
        assert_eq!(number("70000").to_f16(), None);
        assert_eq!(number("1e-400").to_f64(), Some(0.0));
        assert_eq!(Number::Double(1e39).to_f32(), None);
        assert_eq!(Number::Double(f64::INFINITY).to_f32(), Some(f32::INFINITY));
        assert_eq!(Number::Single(70_000.0).to_f16(), None);
        assert_eq!(Number::Single(f32::INFINITY).to_f16(), Some(f16::INFINITY));
    }

    #[test]
    fn floats_with_an_integer_s_value_are_integers() {
        assert_eq!(Number::Single(-3.0).to_integer(), Some(-3));
        assert_eq!(Number::Double(1.5).to_integer(), None);
        assert_eq!(Number::Double(f64::NAN).to_integer(), None);
        assert_eq!(Number::Double(f64::INFINITY).to_integer(), None);
        assert_eq!(Number::Double(1e300).to_integer(), None);
    }

    proptest! {
        #[test]
        fn doubles_and_floats_are_rounded_as_the_standard_library_does(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?") {
            prop_assert_eq!(number(&text).to_f64().map(f64::to_bits), Some(text.parse::<f64>().unwrap()).filter(|v| v.is_finite()).map(f64::to_bits));
            prop_assert_eq!(number(&text).to_f32().map(f32::to_bits), Some(text.parse::<f32>().unwrap()).filter(|v| v.is_finite()).map(f32::to_bits));
        }

        #[test]
        fn what_is_printed_is_what_is_read(value in any::<f32>().prop_filter("finite", |v| v.is_finite()), integer in any::<i64>()) {
            prop_assert_eq!(number(&serde_json::to_string(&value).unwrap()).to_f32().map(f32::to_bits), Some(value.to_bits()));
            prop_assert_eq!(number(&integer.to_string()).to_integer(), Some(i128::from(integer)));
        }
    }
}
