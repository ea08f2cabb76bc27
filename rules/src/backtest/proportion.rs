//! Shares of runs, with what so few runs leave open.

use serde::{Deserialize, Serialize};

/// Of a normal distribution 95 % lie within so many standard deviations.
const Z: f64 = 1.959_963_984_540_054;

/// A share, and its Wilson 95 % interval: shares that would not make this count surprising. Unlike count ± 2 standard errors
/// it holds for few runs, and for none or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// So many.
    pub count: usize,
    /// Of so many.
    pub of: usize,
    /// count / of; null of none.
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Proportion {
    /// `count` of `of`; `count` is not more.
    #[must_use]
    pub fn new(count: usize, of: usize) -> Self {
        if of == 0 {
            return Self { count, of, value: None, low: None, high: None };
        }
        let n = of as f64;
        let share = count as f64 / n;
        let weight = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / weight;
        let half = Z / weight * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        // Of none or all an end is exact, which rounding would miss.
        let low = if count == 0 { 0.0 } else { centre - half };
        let high = if count == of { 1.0 } else { centre + half };
        Self { count, of, value: Some(share), low: Some(low), high: Some(high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3; and two by hand.
        for (count, of, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (5, 10, 0.2366, 0.7634),
            (10, 10, 0.7225, 1.0),
        ] {
            let found = Proportion::new(count, of);
            let (Some(found_low), Some(found_high)) = (found.low, found.high) else { panic!("{found:?}") };
            assert!((found_low - low).abs() < 6e-5 && (found_high - high).abs() < 6e-5, "{found:?}");
            assert_eq!(found.value, Some(count as f64 / of as f64));
        }
    }

    #[test]
    fn of_none_nothing_is_known() {
        let none = Proportion::new(0, 0);
        assert_eq!((none.value, none.low, none.high), (None, None, None));
        assert_eq!(serde_json::to_value(none).unwrap()["value"], serde_json::Value::Null);
    }
}
