//! Learning cell (arXiv 2605.24710): what a two-layer block f(x) = (1/N) Σ a_i act(w_i·x) has learned, as atoms. Only the
//! abstract of the source is public; the estimators are ours.

mod reading;

pub use reading::{Activation, LearningCellReading};

/// A snapshot of a two-layer block.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningCellSnapshot {
    /// a_i, N of them.
    pub outer: Vec<f32>,
    /// w_i, N × width, row-major.
    pub inner: Vec<f32>,
    /// Length of w_i.
    pub width: usize,
    /// The activation.
    pub activation: Activation,
    /// Inputs to evaluate features on; without them inputs are taken as whitened Gaussian.
    pub probe: Option<ProbeBatch>,
}

/// Inputs, and what they should give.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeBatch {
    /// n × width, row-major.
    pub inputs: Vec<f32>,
    /// n targets, or none.
    pub targets: Vec<f32>,
}
