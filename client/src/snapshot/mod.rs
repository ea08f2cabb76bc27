//! Snapshots of layers: each borrows the caller's tensors until its frame is submitted.
//!
//! Lengths are mistakes of the caller. Values that are not finite are none: they are sent as they are, and the server
//! says why there is no reading.

mod cascade;
mod curvature;
mod dead_directions;
mod learning_cell;

use bytes::Bytes;
use gradwatch_proto::v1;
use gradwatch_spectral::layers::LayerInstrument;

pub use cascade::CascadeSnapshot;
pub use curvature::CurvatureSnapshot;
pub use dead_directions::{DeadDirectionsSnapshot, Reals};
pub use learning_cell::LearningCellSnapshot;

use crate::layer::Layer;

/// A snapshot of a layer, for one of the instruments.
#[derive(Clone, Debug)]
pub(crate) enum Snapshot<'a> {
    Cascade(CascadeSnapshot<'a>),
    Curvature(CurvatureSnapshot<'a>),
    DeadDirections(DeadDirectionsSnapshot<'a>),
    LearningCell(LearningCellSnapshot<'a>),
}

/// A part of a snapshot that cannot be, and why.
pub(crate) struct Fault {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

fn fault<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { field, problem: problem.into() })
}

impl Snapshot<'_> {
    pub(crate) fn instrument(&self) -> LayerInstrument {
        match self {
            Self::Cascade(_) => LayerInstrument::Cascade,
            Self::Curvature(_) => LayerInstrument::Curvature,
            Self::DeadDirections(_) => LayerInstrument::DeadDirections,
            Self::LearningCell(_) => LayerInstrument::LearningCell,
        }
    }

    /// What it is of, before the layer's name.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Cascade(_) => "the cascade snapshot of layer",
            Self::Curvature(_) => "the curvature snapshot of layer",
            Self::DeadDirections(_) => "the dead_directions snapshot of layer",
            Self::LearningCell(_) => "the learning_cell snapshot of layer",
        }
    }

    /// Finds every mistake of the snapshot without reading its tensors.
    pub(crate) fn check(&self, layer: &Layer) -> Result<(), Fault> {
        match self {
            Self::Cascade(snapshot) => snapshot.check(),
            Self::Curvature(snapshot) => snapshot.check(),
            Self::DeadDirections(snapshot) => snapshot.check(layer.width),
            Self::LearningCell(snapshot) => snapshot.check(layer.width),
        }
    }

    /// What travels of a snapshot that was checked. Computes what the instrument needs.
    pub(crate) fn to_wire(&self, layer: &Layer) -> v1::snapshot::Body {
        use v1::snapshot::Body;
        match self {
            Self::Cascade(snapshot) => Body::Cascade(snapshot.to_wire()),
            Self::Curvature(snapshot) => Body::Curvature(snapshot.to_wire()),
            Self::DeadDirections(snapshot) => Body::DeadDirections(snapshot.to_wire(layer.width)),
            Self::LearningCell(snapshot) => Body::LearningCell(snapshot.to_wire()),
        }
    }
}

/// A list that has values, but no more than `limit`.
fn check_count(field: &'static str, count: usize, limit: usize) -> Result<(), Fault> {
    if count == 0 {
        return fault(field, "is empty");
    }
    if count > limit { fault(field, format!("{count} values, at most {limit}")) } else { Ok(()) }
}

/// A list with as many values as `of` has.
fn check_length(field: &'static str, count: usize, expected: usize, of: &str) -> Result<(), Fault> {
    if count == expected { Ok(()) } else { fault(field, format!("{count} values, {of} needs {expected}")) }
}

/// Little-endian float32.
pub(crate) fn float_bytes(values: &[f32]) -> Bytes {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.into()
}
