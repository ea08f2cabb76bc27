//! Detectors: causal state machines over readings.
//!
//! They see only the past, treat every run alike, and are pure functions of the reading sequence: the same readings give
//! the same detections, live or replayed, and a state saved and loaded continues with the same bits. Thresholds are
//! configuration ([`DetectorConfig`]); the defaults are ours. What a detector says is a report of a change, not a
//! prediction.

mod config;
mod count_change;
mod exponent_shift;
mod layer_config;
mod position;
mod regime;
pub(crate) mod robust;
mod rotation;
mod shift;
mod spike;

pub use config::{
    Bands, ConfigError, DetectorConfig, GapConfig, PositionConfig, RegimeConfig, RotationConfig, SpikeConfig,
};
pub use layer_config::{CountChangeConfig, ExponentShiftConfig, ShiftConfig};

pub(crate) use count_change::CountChange;
pub(crate) use exponent_shift::ExponentShift;
pub(crate) use position::PositionChange;
pub(crate) use regime::RegimeDetector;
pub(crate) use rotation::Rotation;
pub(crate) use shift::{Quantity, Shift};
pub(crate) use spike::Spike;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which detector spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Detector {
    /// The regime changed.
    #[serde(rename = "edge.regime")]
    EdgeRegime,
    /// The leading or the second gap opened.
    #[serde(rename = "edge.gap_opening")]
    GapOpening,
    /// The leading or the second gap closed.
    #[serde(rename = "edge.gap_collapse")]
    GapCollapse,
    /// The spectrum breaks at another position.
    #[serde(rename = "edge.position_change")]
    PositionChange,
    /// A stable leading direction was replaced.
    #[serde(rename = "edge.rotation")]
    Rotation,
    /// An update was far larger than those before it.
    #[serde(rename = "update.spike")]
    UpdateSpike,
    /// A gradient topples more or less than it did.
    #[serde(rename = "cascade.shift")]
    CascadeShift,
    /// Another number of directions of a layer is dead.
    #[serde(rename = "dead_directions.count_change")]
    DeadCountChange,
    /// A layer's curvature follows its gradient by another power.
    #[serde(rename = "curvature.shift")]
    CurvatureShift,
}

impl Detector {
    /// The name users see: `edge.regime`, `edge.gap_opening`, ….
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EdgeRegime => "edge.regime",
            Self::GapOpening => "edge.gap_opening",
            Self::GapCollapse => "edge.gap_collapse",
            Self::PositionChange => "edge.position_change",
            Self::Rotation => "edge.rotation",
            Self::UpdateSpike => "update.spike",
            Self::CascadeShift => "cascade.shift",
            Self::DeadCountChange => "dead_directions.count_change",
            Self::CurvatureShift => "curvature.shift",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state `edge.regime` says a run is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Regime {
    /// Not enough past to compare with.
    #[default]
    Warming,
    /// The window changes as much as it did before.
    Plateau,
    /// It changes clearly more.
    Transition,
    /// It changes more by another factor of ten.
    Forgetting,
}

impl Regime {
    /// Every regime.
    pub const ALL: [Self; 4] = [Self::Warming, Self::Plateau, Self::Transition, Self::Forgetting];

    /// `warming`, `plateau`, `transition` or `forgetting`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warming => "warming",
            Self::Plateau => "plateau",
            Self::Transition => "transition",
            Self::Forgetting => "forgetting",
        }
    }
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no regime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("regime: `{0}` is none of warming, plateau, transition, forgetting")]
pub struct UnknownRegime(String);

impl FromStr for Regime {
    type Err = UnknownRegime;

    fn from_str(text: &str) -> Result<Self, UnknownRegime> {
        Self::ALL.into_iter().find(|regime| regime.as_str() == text).ok_or_else(|| UnknownRegime(text.to_owned()))
    }
}

/// One thing a detector says: a transition or an event, at the step that confirmed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Who says it.
    pub detector: Detector,
    /// Optimizer step of the reading that confirmed it.
    pub step: u64,
    /// The regime left; only `edge.regime`.
    pub from: Option<Regime>,
    /// The regime entered; only `edge.regime`.
    pub to: Option<Regime>,
    /// Why.
    pub evidence: Evidence,
}

/// What a detection rests on. `values`, `reference`, `spread` and `threshold` are in the units of `quantity`; all finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Metric name of the reading: `edge.dk`, `edge.ratio_1`, `update.norm_z`, ….
    pub reading: Cow<'static, str>,
    /// What is compared, when it is not the reading itself: `ln edge.dk`.
    pub quantity: Cow<'static, str>,
    /// The values that confirmed it, oldest first.
    pub values: Vec<f64>,
    /// What they are compared with: the median of the past, the furthest point since the last event, the confirmed
    /// position. None for a rule with a fixed threshold.
    pub reference: Option<f64>,
    /// What the threshold is a multiple of, where it is one: 1.4826·MAD of the past, or the standard error of the
    /// difference.
    pub spread: Option<f64>,
    /// The distance from `reference` that was crossed; the value itself where there is no reference.
    pub threshold: f64,
    /// Window length W, rows; none for readings of layers, which have no window.
    pub window: Option<usize>,
    /// The same in optimizer steps; none before the update interval is known.
    pub window_steps: Option<u64>,
    /// Readings in a row that confirmed it.
    pub confirmed: u32,
}

/// What a single detector answers; the caller adds the step and the window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) detector: Detector,
    pub(crate) regimes: Option<(Regime, Regime)>,
    pub(crate) reading: &'static str,
    pub(crate) quantity: &'static str,
    pub(crate) values: Vec<f64>,
    pub(crate) reference: Option<f64>,
    pub(crate) spread: Option<f64>,
    pub(crate) threshold: f64,
    pub(crate) confirmed: u32,
}

impl Finding {
    pub(crate) fn into_detection(self, step: u64, window: Option<usize>, window_steps: Option<u64>) -> Detection {
        Detection {
            detector: self.detector,
            step,
            from: self.regimes.map(|(from, _)| from),
            to: self.regimes.map(|(_, to)| to),
            evidence: Evidence {
                reading: Cow::Borrowed(self.reading),
                quantity: Cow::Borrowed(self.quantity),
                values: self.values,
                reference: self.reference,
                spread: self.spread,
                threshold: self.threshold,
                window,
                window_steps,
                confirmed: self.confirmed,
            },
        }
    }
}
