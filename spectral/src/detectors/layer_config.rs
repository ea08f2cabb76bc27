//! Thresholds of the detectors over layer readings. The defaults are ours, not a source's.

use serde::{Deserialize, Serialize};

use super::config::{Check, confirms, not_negative};
use super::shift::ShiftRule;

/// Longest past that may be asked for, in readings: bounds the memory of a detector.
const MAX_PAST: u32 = 4096;

/// Thresholds of `cascade.shift`, for each of phi, nest_dimension and branching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShiftConfig {
    /// Spreads off the past's median that are an event.
    pub spread_factor: f64,
    /// Least distance from the past's median that is one: a past without spread must not make every rounding an event.
    pub least_change: f64,
    /// Readings in a row, on one side, that confirm it.
    pub confirm_readings: u32,
    /// Least readings of past.
    pub past_min_readings: u32,
    /// Most readings of past.
    pub past_readings: u32,
}

impl Default for ShiftConfig {
    fn default() -> Self {
        Self { spread_factor: 4.5, least_change: 0.001, confirm_readings: 3, past_min_readings: 32, past_readings: 256 }
    }
}

impl ShiftConfig {
    pub(crate) fn rule(&self) -> ShiftRule {
        ShiftRule {
            least_offset: self.least_change,
            sudden_offset: self.least_change,
            spread_factor: self.spread_factor,
            confirm: self.confirm_readings as usize,
            confirm_lasting: self.confirm_readings as usize,
            past_min: self.past_min_readings as usize,
            past_max: self.past_readings as usize,
            // A reading is no past of its own.
            guard: 1,
        }
    }

    pub(super) fn checks(&self) -> impl Iterator<Item = Check> + use<> {
        [
            (not_negative(self.spread_factor), "cascade.spread_factor", "must be at least 0"),
            (not_negative(self.least_change), "cascade.least_change", "must be at least 0"),
            (confirms(self.confirm_readings), "cascade.confirm_readings", "must be 1 to 1000"),
            ((2..=MAX_PAST).contains(&self.past_readings), "cascade.past_readings", "must be 2 to 4096"),
            (
                (2..=self.past_readings).contains(&self.past_min_readings),
                "cascade.past_min_readings",
                "must be at least 2 and at most cascade.past_readings",
            ),
        ]
        .into_iter()
    }
}

/// Thresholds of `dead_directions.count_change`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountChangeConfig {
    /// gap_nats above this makes a count of at least 1 believable.
    pub gap_above: f64,
    /// gap_nats below this makes a count of 0 believable; at most `gap_above`.
    pub gap_below: f64,
    /// Readings in a row that confirm a change.
    pub confirm_readings: u32,
}

impl Default for CountChangeConfig {
    fn default() -> Self {
        Self { gap_above: 3.0, gap_below: 2.0, confirm_readings: 3 }
    }
}

impl CountChangeConfig {
    pub(super) fn checks(&self) -> impl Iterator<Item = Check> + use<> {
        [
            (not_negative(self.gap_above), "dead_directions.gap_above", "must be at least 0"),
            (
                (0.0..=self.gap_above).contains(&self.gap_below),
                "dead_directions.gap_below",
                "must be at least 0 and at most dead_directions.gap_above",
            ),
            (confirms(self.confirm_readings), "dead_directions.confirm_readings", "must be 1 to 1000"),
        ]
        .into_iter()
    }
}

/// Thresholds of `curvature.shift`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExponentShiftConfig {
    /// Standard errors of the difference from the confirmed exponent that are an event.
    pub error_factor: f64,
    /// Least difference that is one.
    pub least_change: f64,
    /// Readings in a row, on one side, that confirm it.
    pub confirm_readings: u32,
}

impl Default for ExponentShiftConfig {
    fn default() -> Self {
        Self { error_factor: 3.0, least_change: 0.1, confirm_readings: 2 }
    }
}

impl ExponentShiftConfig {
    pub(super) fn checks(&self) -> impl Iterator<Item = Check> + use<> {
        [
            (not_negative(self.error_factor), "curvature.error_factor", "must be at least 0"),
            (not_negative(self.least_change), "curvature.least_change", "must be at least 0"),
            (confirms(self.confirm_readings), "curvature.confirm_readings", "must be 1 to 1000"),
        ]
        .into_iter()
    }
}
