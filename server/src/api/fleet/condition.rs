//! A condition on what a job sends, which tells when its clock is at zero: `scalar.NAME OP number`.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// What the name of a scalar stands behind.
const PREFIX: &str = "scalar.";

/// One comparison of a scalar with a number. NaN and infinity meet none: a run that diverged has not got there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    /// The scalar's own name.
    pub(super) scalar: String,
    comparison: Comparison,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Comparison {
    fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Above => ">",
            Self::Below => "<",
        }
    }
}

impl Condition {
    /// Whether a value meets it.
    pub(super) fn is_met(&self, value: f64) -> bool {
        value.is_finite()
            && match self.comparison {
                Comparison::AtLeast => value >= self.bound,
                Comparison::AtMost => value <= self.bound,
                Comparison::Above => value > self.bound,
                Comparison::Below => value < self.bound,
            }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} {} {}", self.scalar, self.comparison.as_str(), self.bound)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Condition {
    type Err = String;

    /// The error says at which character, counted from 1.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault =
            |before: &str, message: String| Err(format!("at character {}: {message}", before.chars().count() + 1));
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return fault("", format!("{text:?} does not begin with {PREFIX}"));
        };
        let Some(name_length) = rest.find(['<', '>']) else {
            return fault(text, "one of >=, <=, >, < is expected behind the scalar's name".into());
        };
        let (name, operation) = rest.split_at(name_length);
        if name.trim().is_empty() {
            return fault(PREFIX, "the name of a scalar is missing".into());
        }
        // It begins with one of the two that were looked for, which the longer ones begin with as well.
        let (comparison, number) = match (operation.strip_prefix(">="), operation.strip_prefix("<=")) {
            (Some(number), _) => (Comparison::AtLeast, number),
            (_, Some(number)) => (Comparison::AtMost, number),
            _ if operation.starts_with('>') => (Comparison::Above, &operation[1..]),
            _ => (Comparison::Below, &operation[1..]),
        };
        let start = &text[..text.len() - number.trim_start().len()];
        match number.trim().parse::<f64>() {
            Ok(bound) if bound.is_finite() => Ok(Self { scalar: name.trim().to_owned(), comparison, bound }),
            _ => fault(start, format!("{:?} is no finite number", number.trim())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_and_written() {
        for (text, written, met, unmet) in [
            ("scalar.test_accuracy >= 0.99", "scalar.test_accuracy >= 0.99", 0.99, 0.98),
            ("scalar.val.loss<1e-3", "scalar.val.loss < 0.001", 0.0, 0.001),
            ("scalar.a  b <= -2", "scalar.a  b <= -2", -2.0, f64::NEG_INFINITY),
            ("scalar.x>0", "scalar.x > 0", 1e300, f64::INFINITY),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!(condition.to_string(), written);
            assert_eq!(condition, written.parse().unwrap());
            assert!(condition.is_met(met) && !condition.is_met(unmet) && !condition.is_met(f64::NAN), "{text}");
        }
    }

    #[test]
    fn the_place_at_fault_is_named() {
        for (text, place, what) in [
            ("", 1, "scalar."),
            ("edge.ratio > 1", 1, "scalar."),
            ("scalar. > 1", 8, "name"),
            ("scalar.acc", 11, ">="),
            ("scalar.acc = 1", 15, ">="),
            ("scalar.größe > x", 16, "\"x\""),
            ("scalar.acc >= ", 15, "\"\""),
            ("scalar.acc >> 1", 13, "\"> 1\""),
            ("scalar.acc > inf", 14, "inf"),
            ("scalar.acc > NaN", 14, "NaN"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.starts_with(&format!("at character {place}: ")) && error.contains(what), "{text:?}: {error}");
        }
    }
}
