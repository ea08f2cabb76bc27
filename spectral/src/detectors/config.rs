//! Thresholds of the detectors. The defaults are ours, not a source's.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::layer_config::{CountChangeConfig, ExponentShiftConfig, ShiftConfig};
use super::shift::ShiftRule;

/// A threshold out of its range; the message names the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The field, as written in the configuration: `regime.confirm_readings`.
    pub field: &'static str,
    /// What it must be.
    pub problem: &'static str,
}

/// Every threshold of every detector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorConfig {
    /// `edge.regime`.
    pub regime: RegimeConfig,
    /// `edge.gap_opening` and `edge.gap_collapse`.
    pub gap: GapConfig,
    /// `edge.position_change`.
    pub position: PositionConfig,
    /// `edge.rotation`.
    pub rotation: RotationConfig,
    /// `update.spike`.
    pub spike: SpikeConfig,
    /// `cascade.shift`.
    pub cascade: ShiftConfig,
    /// `dead_directions.count_change`.
    pub dead_directions: CountChangeConfig,
    /// `curvature.shift`.
    pub curvature: ExponentShiftConfig,
}

/// What `edge.regime` compares a reading with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bands {
    /// ln dk against the run's own past.
    #[default]
    Adaptive,
    /// A0 against fixed bands, the reading of the paper. Stationary noise then reads `forgetting` for ever: never a
    /// default.
    Absolute,
}

impl Bands {
    /// `adaptive` or `absolute`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Absolute => "absolute",
        }
    }
}

impl FromStr for Bands {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::Adaptive, Self::Absolute].into_iter().find(|bands| bands.as_str() == text);
        found.ok_or_else(|| format!("unknown bands {text:?}; one of adaptive, absolute"))
    }
}

/// Thresholds of `edge.regime`. With x = ln dk, m and s the median and 1.4826·MAD of the plateau's past and
/// l = min(max(ln `transition_ratio`, `spread_factor`·s), ln `transition_ratio_max`): x − m < l is plateau,
/// < l + ln `forgetting_ratio` transition, else forgetting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegimeConfig {
    /// Own past, or fixed bands.
    pub bands: Bands,
    /// Least factor over the past's median that is a transition; > 1.
    pub transition_ratio: f64,
    /// Spreads above the median that are a transition.
    pub spread_factor: f64,
    /// Factor that always is a transition; at least `transition_ratio`.
    pub transition_ratio_max: f64,
    /// Further factor that is forgetting; > 1.
    pub forgetting_ratio: f64,
    /// Share of l by which boundaries are lower on the way back (of the band itself for absolute bands); in 0..1.
    pub hysteresis: f64,
    /// Least readings in a row that confirm a change.
    pub confirm_readings: u32,
    /// Readings in a row that confirm a change, in window lengths; the greater number holds.
    pub confirm_windows: f64,
    /// Least readings of past; fewer is `warming`.
    pub past_min_readings: u32,
    /// Most readings of past, in window lengths.
    pub past_windows: u32,
    /// Readings younger than ⌊W·this⌋ are no past yet: their windows overlap the present one.
    pub guard_windows: f64,
    /// A state held for this many window lengths becomes the new plateau.
    pub rebase_windows: u32,
    /// Its last readings that become the new past, in window lengths; at most `rebase_windows`.
    pub rebase_past_windows: u32,
    /// Absolute bands: A0 below this is plateau.
    pub absolute_plateau: f64,
    /// Absolute bands: A0 above this is forgetting.
    pub absolute_forgetting: f64,
}

impl Default for RegimeConfig {
    fn default() -> Self {
        Self {
            bands: Bands::Adaptive,
            transition_ratio: 3.0,
            spread_factor: 4.0,
            transition_ratio_max: 8.0,
            forgetting_ratio: 10.0,
            hysteresis: 0.2,
            confirm_readings: 3,
            confirm_windows: 0.5,
            past_min_readings: 10,
            past_windows: 8,
            guard_windows: 0.5,
            rebase_windows: 4,
            rebase_past_windows: 3,
            absolute_plateau: 0.1,
            absolute_forgetting: 10.0,
        }
    }
}

/// Thresholds of `edge.gap_opening` and `edge.gap_collapse`, for x = ln ratio_1 and x = ln(gap23_rel + `gap23_offset`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GapConfig {
    /// Least factor against the past's median that is an event; > 1.
    pub ratio: f64,
    /// Spreads off the median that are an event.
    pub spread_factor: f64,
    /// Least factor that `confirm_readings` confirm; a smaller one has to last. At least `ratio`.
    pub sudden_ratio: f64,
    /// Readings in a row, on one side, that confirm a change by `sudden_ratio`.
    pub confirm_readings: u32,
    /// ⌊W·this⌋ + 1 readings in a row, on one side, confirm a smaller one: with 1 or more no single update does.
    pub lasting_windows: f64,
    /// Least readings of past.
    pub past_min_readings: u32,
    /// Most readings of past, in window lengths.
    pub past_windows: u32,
    /// Readings younger than ⌊W·this⌋ are no past yet.
    pub guard_windows: f64,
    /// Added to gap23_rel before the logarithm, so that a gap near 0 does not count as a change; > 0.
    pub gap23_offset: f64,
}

impl Default for GapConfig {
    fn default() -> Self {
        Self {
            ratio: 2.0,
            spread_factor: 4.0,
            sudden_ratio: 2.5,
            confirm_readings: 3,
            lasting_windows: 1.0,
            past_min_readings: 10,
            past_windows: 8,
            guard_windows: 0.5,
            gap23_offset: 0.05,
        }
    }
}

/// Thresholds of `edge.position_change`: max(`confirm_readings`, ⌊W·`confirm_windows`⌋) readings confirm it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PositionConfig {
    /// Factor by which the new position's score must exceed the confirmed one's; at least 1.
    pub margin: f64,
    /// Least readings in a row.
    pub confirm_readings: u32,
    /// Readings in a row, in window lengths.
    pub confirm_windows: f64,
}

impl Default for PositionConfig {
    fn default() -> Self {
        Self { margin: 1.5, confirm_readings: 3, confirm_windows: 0.5 }
    }
}

/// Thresholds of `edge.rotation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RotationConfig {
    /// overlap_1 below this in one reading.
    pub overlap_below: f64,
    /// Median of the previous W overlaps above this.
    pub stable_above: f64,
    /// ratio_1 of the previous readings above this.
    pub ratio_above: f64,
    /// How many of them: ⌊W·this⌋ + 1. From 1 on a direction that a single update makes is not enough.
    pub stood_out_windows: f64,
    /// Readings of rest after an event, in window lengths.
    pub rest_windows: u32,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { overlap_below: 0.5, stable_above: 0.9, ratio_above: 2.0, stood_out_windows: 1.0, rest_windows: 1 }
    }
}

/// Thresholds of `update.spike`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpikeConfig {
    /// norm_z above this is an event.
    pub z_above: f64,
    /// Least factor over the median of the previous norms that is one; at least 1.
    pub ratio: f64,
    /// No further event until norm_z is below this; at most `z_above`.
    pub z_rearm: f64,
}

impl Default for SpikeConfig {
    fn default() -> Self {
        Self { z_above: 6.0, ratio: 3.0, z_rearm: 3.0 }
    }
}

/// Longest past or rest that may be asked for, in window lengths: bounds the memory of a detector.
const MAX_WINDOWS: u32 = 64;
/// Most readings in a row a confirmation may ask for.
const MAX_CONFIRM: u32 = 1000;

/// Whether a threshold holds what it must, its field, and what it must hold.
pub(super) type Check = (bool, &'static str, &'static str);

/// A number of readings in a row that a confirmation may ask for.
pub(super) fn confirms(readings: u32) -> bool {
    (1..=MAX_CONFIRM).contains(&readings)
}

/// A finite number of at least 0.
pub(super) fn not_negative(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

impl GapConfig {
    /// The rule for readings of one window length.
    pub(crate) fn rule(&self, window: usize) -> ShiftRule {
        ShiftRule {
            least_offset: self.ratio.ln(),
            sudden_offset: self.sudden_ratio.ln(),
            spread_factor: self.spread_factor,
            confirm: self.confirm_readings as usize,
            confirm_lasting: (self.confirm_readings as usize).max(share_of(window, self.lasting_windows) + 1),
            past_min: self.past_min_readings as usize,
            past_max: self.past_windows as usize * window,
            guard: share_of(window, self.guard_windows),
        }
    }
}

impl DetectorConfig {
    /// Checks every threshold.
    ///
    /// # Errors
    /// Names the first field out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { regime, gap, position, rotation, spike, cascade, dead_directions, curvature } = self;
        let above_one = |x: f64| x.is_finite() && x > 1.0;
        let windows = |n: u32| (1..=MAX_WINDOWS).contains(&n);
        let share = |x: f64| (0.0..=4.0).contains(&x);
        // A window has at least 3 rows, so this much past can always be gathered.
        let past = |least: u32, windows: u32| least >= 2 && least <= windows.saturating_mul(3);
        let checks = [
            (above_one(regime.transition_ratio), "regime.transition_ratio", "must be above 1"),
            (not_negative(regime.spread_factor), "regime.spread_factor", "must be at least 0"),
            (
                regime.transition_ratio_max.is_finite() && regime.transition_ratio_max >= regime.transition_ratio,
                "regime.transition_ratio_max",
                "must be at least regime.transition_ratio",
            ),
            (above_one(regime.forgetting_ratio), "regime.forgetting_ratio", "must be above 1"),
            ((0.0..1.0).contains(&regime.hysteresis), "regime.hysteresis", "must be at least 0 and below 1"),
            (confirms(regime.confirm_readings), "regime.confirm_readings", "must be 1 to 1000"),
            (share(regime.confirm_windows), "regime.confirm_windows", "must be 0 to 4"),
            (windows(regime.past_windows), "regime.past_windows", "must be 1 to 64"),
            (
                past(regime.past_min_readings, regime.past_windows),
                "regime.past_min_readings",
                "must be at least 2 and at most 3 · regime.past_windows",
            ),
            (share(regime.guard_windows), "regime.guard_windows", "must be 0 to 4"),
            (windows(regime.rebase_windows), "regime.rebase_windows", "must be 1 to 64"),
            (
                (1..=regime.rebase_windows).contains(&regime.rebase_past_windows),
                "regime.rebase_past_windows",
                "must be 1 to regime.rebase_windows",
            ),
            (not_negative(regime.absolute_plateau), "regime.absolute_plateau", "must be at least 0"),
            (
                regime.absolute_forgetting.is_finite() && regime.absolute_forgetting > regime.absolute_plateau,
                "regime.absolute_forgetting",
                "must be above regime.absolute_plateau",
            ),
            (above_one(gap.ratio), "gap.ratio", "must be above 1"),
            (not_negative(gap.spread_factor), "gap.spread_factor", "must be at least 0"),
            (
                gap.sudden_ratio.is_finite() && gap.sudden_ratio >= gap.ratio,
                "gap.sudden_ratio",
                "must be at least gap.ratio",
            ),
            (share(gap.lasting_windows), "gap.lasting_windows", "must be 0 to 4"),
            (confirms(gap.confirm_readings), "gap.confirm_readings", "must be 1 to 1000"),
            (windows(gap.past_windows), "gap.past_windows", "must be 1 to 64"),
            (
                past(gap.past_min_readings, gap.past_windows),
                "gap.past_min_readings",
                "must be at least 2 and at most 3 · gap.past_windows",
            ),
            (share(gap.guard_windows), "gap.guard_windows", "must be 0 to 4"),
            (gap.gap23_offset.is_finite() && gap.gap23_offset > 0.0, "gap.gap23_offset", "must be above 0"),
            (position.margin.is_finite() && position.margin >= 1.0, "position.margin", "must be at least 1"),
            (confirms(position.confirm_readings), "position.confirm_readings", "must be 1 to 1000"),
            (share(position.confirm_windows), "position.confirm_windows", "must be 0 to 4"),
            ((0.0..=1.0).contains(&rotation.overlap_below), "rotation.overlap_below", "must be 0 to 1"),
            ((0.0..=1.0).contains(&rotation.stable_above), "rotation.stable_above", "must be 0 to 1"),
            (not_negative(rotation.ratio_above), "rotation.ratio_above", "must be at least 0"),
            (share(rotation.stood_out_windows), "rotation.stood_out_windows", "must be 0 to 4"),
            (rotation.rest_windows <= MAX_WINDOWS, "rotation.rest_windows", "must be 0 to 64"),
            (spike.z_above.is_finite() && spike.z_above > 0.0, "spike.z_above", "must be above 0"),
            (spike.ratio.is_finite() && spike.ratio >= 1.0, "spike.ratio", "must be at least 1"),
            (
                spike.z_rearm.is_finite() && spike.z_rearm <= spike.z_above,
                "spike.z_rearm",
                "must be at most spike.z_above",
            ),
        ];
        let checks =
            checks.into_iter().chain(cascade.checks()).chain(dead_directions.checks()).chain(curvature.checks());
        match checks.into_iter().find(|(holds, _, _)| !holds) {
            Some((_, field, problem)) => Err(ConfigError { field, problem }),
            None => Ok(()),
        }
    }
}

/// ⌊W·share⌋ readings.
pub(super) fn share_of(window: usize, share: f64) -> usize {
    (window as f64 * share).floor() as usize
}
