//! The layer instruments: cascade, curvature, dead directions and learning cell. Where the edge follows every update, they
//! read a *snapshot* that the job sends on a slow schedule, of one *layer*: the named part of the model that a snapshot
//! is of (for cascade any set of tensors).
//!
//! An instrument is a pure function from a snapshot to a reading. What it says only by comparing with earlier readings
//! of the layer is filled in by [`LayerFollowers`](crate::layer_followers::LayerFollowers).

pub(crate) mod field;
mod reason;

use serde::{Deserialize, Serialize};

pub use self::{
    field::{FieldInfo, FieldType, FieldValue},
    reason::Reason,
};
use crate::{
    cascade::CascadeReading, curvature::CurvatureReading, dead_directions::DeadDirectionsReading,
    learning_cell::LearningCellReading,
};

field::words! {
    /// An instrument that reads snapshots of layers.
    LayerInstrument {
        /// How far a gradient's load topples: arXiv 2604.16431.
        Cascade => "cascade",
        /// Curvature along a layer's gradient directions: arXiv 2606.02596.
        Curvature => "curvature",
        /// Directions of a layer that carry nothing: arXiv 2606.21158.
        DeadDirections => "dead_directions",
        /// What a two-layer block has learned, as atoms: arXiv 2605.24710.
        LearningCell => "learning_cell",
    }
}

impl LayerInstrument {
    /// The fields of its readings.
    pub fn fields(self) -> &'static [FieldInfo] {
        match self {
            Self::Cascade => CascadeReading::FIELDS,
            Self::Curvature => CurvatureReading::FIELDS,
            Self::DeadDirections => DeadDirectionsReading::FIELDS,
            Self::LearningCell => LearningCellReading::FIELDS,
        }
    }
}

/// What a layer instrument says of one snapshot. Null where a value is undefined; no number is ever NaN or infinite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LayerReading {
    /// Of [`LayerInstrument::Cascade`].
    Cascade(CascadeReading),
    /// Of [`LayerInstrument::Curvature`].
    Curvature(CurvatureReading),
    /// Of [`LayerInstrument::DeadDirections`].
    DeadDirections(DeadDirectionsReading),
    /// Of [`LayerInstrument::LearningCell`].
    LearningCell(LearningCellReading),
}

impl LayerReading {
    /// A reading that says nothing but why.
    pub fn refused(instrument: LayerInstrument, reason: Reason) -> Self {
        let reason = Some(reason);
        match instrument {
            LayerInstrument::Cascade => Self::Cascade(CascadeReading { reason, ..Default::default() }),
            LayerInstrument::Curvature => Self::Curvature(CurvatureReading { reason, ..Default::default() }),
            LayerInstrument::DeadDirections => {
                Self::DeadDirections(DeadDirectionsReading { reason, ..Default::default() })
            }
            LayerInstrument::LearningCell => Self::LearningCell(LearningCellReading { reason, ..Default::default() }),
        }
    }

    /// Whose reading it is.
    pub fn instrument(&self) -> LayerInstrument {
        match self {
            Self::Cascade(_) => LayerInstrument::Cascade,
            Self::Curvature(_) => LayerInstrument::Curvature,
            Self::DeadDirections(_) => LayerInstrument::DeadDirections,
            Self::LearningCell(_) => LayerInstrument::LearningCell,
        }
    }

    /// Why values are missing, where they are.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Cascade(reading) => reading.reason,
            Self::Curvature(reading) => reading.reason,
            Self::DeadDirections(reading) => reading.reason,
            Self::LearningCell(reading) => reading.reason,
        }
    }

    /// The values of the instrument's fields, in their order.
    pub fn values(&self) -> Vec<Option<FieldValue>> {
        match self {
            Self::Cascade(reading) => reading.values(),
            Self::Curvature(reading) => reading.values(),
            Self::DeadDirections(reading) => reading.values(),
            Self::LearningCell(reading) => reading.values(),
        }
    }

    /// The reverse of [`Self::values`]; none when a value is of another type than its field.
    pub fn from_values(
        instrument: LayerInstrument,
        values: impl IntoIterator<Item = Option<FieldValue>>,
    ) -> Option<Self> {
        match instrument {
            LayerInstrument::Cascade => CascadeReading::from_values(values).map(Self::Cascade),
            LayerInstrument::Curvature => CurvatureReading::from_values(values).map(Self::Curvature),
            LayerInstrument::DeadDirections => DeadDirectionsReading::from_values(values).map(Self::DeadDirections),
            LayerInstrument::LearningCell => LearningCellReading::from_values(values).map(Self::LearningCell),
        }
    }

    /// A field as a point of a chart; none when the reading has no such value, or the name is unknown.
    pub fn value(&self, field: &str) -> Option<f64> {
        let at = self.instrument().fields().iter().position(|it| it.name == field)?;
        self.values().swap_remove(at)?.as_number()
    }
}
