//! `for` and `keep_firing_for`: a number of readings, or a time such as `10m`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
    ser::Error as _,
};

/// A stretch of consecutive readings, or of time on the server's clock. Written as a number, or as a text such as `10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// So many evaluations one after the other.
    Readings(u32),
    /// So many microseconds between the first and the last, by when the server received their steps.
    Microseconds(i64),
}

/// The most readings.
pub const MAX_HOLD_READINGS: u32 = 10_000;

const SECOND_US: i64 = 1_000_000;
/// From long to short.
const UNITS: [(char, i64); 4] =
    [('d', 86_400 * SECOND_US), ('h', 3_600 * SECOND_US), ('m', 60 * SECOND_US), ('s', SECOND_US)];
const MAX_DAYS: i64 = 30;

const WANTED: &str =
    "a number of readings (1 to 10000), or a time of at most 30 days such as 30s, 10m, 2h, 1d or 1h30m";

impl Hold {
    fn readings<E: de::Error>(readings: u64) -> Result<Self, E> {
        match u32::try_from(readings) {
            Ok(readings) if (1..=MAX_HOLD_READINGS).contains(&readings) => Ok(Self::Readings(readings)),
            _ => Err(E::custom(format!("{readings} is out of range; write {WANTED}"))),
        }
    }

    /// Reads `1h30m`: each unit once at most, the longest first.
    fn time(text: &str) -> Option<Self> {
        let mut units = UNITS.iter();
        let mut total = 0_i64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let count: i64 = rest.get(..digits)?.parse().ok()?;
            let unit = rest[digits..].chars().next()?;
            let (_, unit_us) = units.by_ref().find(|(letter, _)| *letter == unit)?;
            total = total.checked_add(count.checked_mul(*unit_us)?)?;
            rest = &rest[digits + unit.len_utf8()..];
        }
        (1..=MAX_DAYS * UNITS[0].1).contains(&total).then_some(Self::Microseconds(total))
    }
}

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rest = match *self {
            Self::Readings(readings) => return serializer.serialize_u32(readings),
            Self::Microseconds(us) if us > 0 && us % SECOND_US == 0 => us,
            Self::Microseconds(us) => return Err(S::Error::custom(format!("{us} µs are not whole seconds"))),
        };
        let mut text = String::new();
        for (letter, unit_us) in UNITS {
            if rest >= unit_us {
                text.push_str(&format!("{}{letter}", rest / unit_us));
                rest %= unit_us;
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HoldVisitor)
    }
}

struct HoldVisitor;

impl Visitor<'_> for HoldVisitor {
    type Value = Hold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WANTED)
    }

    fn visit_u64<E: de::Error>(self, readings: u64) -> Result<Hold, E> {
        Hold::readings(readings)
    }

    fn visit_i64<E: de::Error>(self, readings: i64) -> Result<Hold, E> {
        u64::try_from(readings)
            .map_or_else(|_| Err(E::custom(format!("{readings} is out of range; write {WANTED}"))), Hold::readings)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Hold, E> {
        Hold::time(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_read_and_written() {
        for (json, hold, back) in [
            ("1", Hold::Readings(1), "1"),
            ("10000", Hold::Readings(10_000), "10000"),
            ("\"30s\"", Hold::Microseconds(30_000_000), "\"30s\""),
            ("\"10m\"", Hold::Microseconds(600_000_000), "\"10m\""),
            ("\"90m\"", Hold::Microseconds(5_400_000_000), "\"1h30m\""),
            ("\"1h30m\"", Hold::Microseconds(5_400_000_000), "\"1h30m\""),
            ("\"1d0h5s\"", Hold::Microseconds(86_405_000_000), "\"1d5s\""),
            ("\"30d\"", Hold::Microseconds(2_592_000_000_000), "\"30d\""),
        ] {
            assert_eq!(serde_json::from_str::<Hold>(json).unwrap(), hold, "{json}");
            assert_eq!(serde_json::to_string(&hold).unwrap(), back, "{json}");
        }
    }

    #[test]
    fn wrong_holds_are_refused_with_what_would_be_right() {
        for json in [
            "0",
            "-1",
            "10001",
            "1.5",
            "true",
            "null",
            "[]",
            "\"\"",
            "\"3\"",
            "\"0s\"",
            "\"-5m\"",
            "\"10 m\"",
            "\"1m1h\"",
            "\"1m1m\"",
            "\"31d\"",
            "\"30d1s\"",
            "\"5w\"",
            "\"m\"",
            "\"99999999999999999999s\"",
            "\"9223372036854775807d\"",
            "\"5µ\"",
        ] {
            let error = serde_json::from_str::<Hold>(json).unwrap_err().to_string();
            assert!(error.contains("such as 30s, 10m"), "{json}: {error}");
        }
        assert!(serde_json::to_string(&Hold::Microseconds(1)).is_err());
    }
}
