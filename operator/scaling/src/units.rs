//! Time and amounts: finite and non-negative by construction, so that no later stage has to ask.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: milliseconds since the Unix epoch. Always an argument, never read from a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(u64);

impl Moment {
    /// Milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Seconds from `earlier` to this; 0 where `earlier` is not earlier.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1000.0
    }

    /// This and so many seconds; what is negative or no number adds nothing.
    #[must_use]
    pub fn plus_seconds(self, seconds: f64) -> Self {
        // A cast from a float saturates, and makes 0 of NaN.
        Self(self.0.saturating_add((seconds * 1000.0).round().max(0.0) as u64))
    }

    /// Hours, minutes and seconds of the day, UTC: `14:07:30`.
    pub fn time_of_day(self) -> String {
        let second = self.0 / 1000 % 86_400;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// A rate, a count, a share or a duration: finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Amount(f64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0.0);

    /// `None` for what is negative, infinite or not a number.
    pub fn new(value: f64) -> Option<Self> {
        // Adding 0.0 makes 0.0 of -0.0: equal amounts have equal texts.
        (value.is_finite() && value >= 0.0).then_some(Self(value + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Amount {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("{value} is not a finite number of at least 0"))
    }
}

impl From<Amount> for f64 {
    fn from(amount: Amount) -> f64 {
        amount.0
    }
}

/// A number as it came in, which may be no number at all. JSON has no word for those, and a record must say them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw(pub f64);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(f64),
            Word(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Word(word) => word.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// `ceil` as a number of replicas; what no machine has is the most that can be said.
pub(crate) fn replicas(value: f64) -> u32 {
    // A cast from a float saturates; 1e-9 keeps 3.0000000001 from becoming 4.
    (value - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_finite_and_not_negative() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE] {
            assert_eq!(Amount::new(bad), None, "{bad}");
        }
        assert_eq!(
            Amount::new(-0.0).map(Amount::get).map(f64::to_bits),
            Some(0.0_f64.to_bits())
        );
    }

    #[test]
    fn what_is_no_number_survives_a_record() {
        for raw in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.25, 1e308] {
            let text = serde_json::to_string(&Raw(raw)).unwrap();
            let back: Raw = serde_json::from_str(&text).unwrap();
            assert!(
                back.0.to_bits() == raw.to_bits() || (back.0.is_nan() && raw.is_nan()),
                "{text}"
            );
        }
    }

    #[test]
    fn time_of_day_is_utc() {
        assert_eq!(Moment::from_millis(1_767_276_131_000).time_of_day(), "14:02:11");
    }

    #[test]
    fn replicas_saturate() {
        assert_eq!(replicas(f64::NAN), 0);
        assert_eq!(replicas(f64::INFINITY), u32::MAX);
        assert_eq!(replicas(3.000_000_000_1), 3);
        assert_eq!(replicas(3.001), 4);
    }
}
