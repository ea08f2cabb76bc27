//! Dead directions (arXiv 2606.21158, 2606.05957): directions of a layer along which per-sample gradients vanish.
//!
//! G = (1/n) Σ delta_i delta_iᵀ (width × width), delta_i the gradient of sample i's loss to the layer's pre-activation; X
//! the activations (n × width). Where a layer approaches a degenerate state, eigenvalues of G and singular values of X
//! fall together: how many do, and how far, is what the readings say. They need float64 and many more samples than the
//! layer is wide.
//!
//! A client makes a snapshot with [`gram_of_gradients`], [`remove_gauge`] and [`singular_values`].

mod eigenvalues;
mod gram;
mod history;
mod instrument;
mod reading;
mod singular_values;

use thiserror::Error;

use crate::edge::power_of_two_below;

pub use self::{
    eigenvalues::eigenvalues,
    gram::{gram_of_gradients, remove_gauge},
    history::History,
    instrument::reading,
    reading::{BatchKind, DeadDirectionsReading},
    singular_values::singular_values,
};

/// A snapshot of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadDirectionsSnapshot {
    /// Of G = (1/n) Σ delta_i delta_iᵀ, delta_i the gradient of sample i's loss to the layer's pre-activation.
    pub spectrum: Spectrum,
    /// Singular values of the n × width activation matrix X, decreasing; min(n, width) of them.
    pub singular_values: Vec<f64>,
    /// n.
    pub samples: u64,
    /// Width of the layer.
    pub width: u32,
    /// Which data the samples are.
    pub batch: BatchKind,
    /// The spectrum was computed in float32: small eigenvalues are rounding noise.
    pub is_float32: bool,
    /// Gauge directions that the client has projected out of G ([`remove_gauge`]). As many of the smallest eigenvalues
    /// are theirs, and are left out of every reading.
    pub gauge_removed: u32,
}

/// G, or what is needed of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Spectrum {
    /// Its eigenvalues, `width` of them in any order, those of removed gauge directions (0) among them.
    Eigenvalues(Vec<f64>),
    /// G itself, width × width, row-major; width at most 1,024.
    Gram(Vec<f64>),
}

/// Why a snapshot cannot be made from tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SampleError {
    /// Not whole rows, or none.
    #[error("{field}: {got} values are not whole rows of {width}")]
    Rows {
        /// What was given.
        field: &'static str,
        /// Values in it.
        got: usize,
        /// Values in a row.
        width: usize,
    },
    /// A matrix or vector of the wrong size.
    #[error("{field}: {got} values, {expected} expected")]
    Size {
        /// What was given.
        field: &'static str,
        /// Values in it.
        got: usize,
        /// Values it should have.
        expected: usize,
    },
    /// NaN or infinity, or values whose squares overflow float64.
    #[error("{field} holds a value that is not finite, or overflows")]
    NonFinite {
        /// What was given.
        field: &'static str,
    },
    /// A direction of length 0.
    #[error("direction is 0")]
    NoDirection,
    /// An iteration of the eigensolver did not converge.
    #[error("{field}: the decomposition did not converge")]
    NoConvergence {
        /// What was given.
        field: &'static str,
    },
}

/// Whole rows of `width`: their number, at least 1.
fn rows_of(field: &'static str, got: usize, width: usize) -> Result<usize, SampleError> {
    if width == 0 || got == 0 || !got.is_multiple_of(width) {
        return Err(SampleError::Rows { field, got, width });
    }
    Ok(got / width)
}

/// The largest magnitude, as a power of two not above it; none when all values are 0. Dividing by it is exact, and
/// keeps squares of huge and tiny values in range.
fn scale_of(field: &'static str, values: impl Iterator<Item = f64>) -> Result<Option<f64>, SampleError> {
    let mut largest = 0.0f64;
    for value in values {
        if !value.is_finite() {
            return Err(SampleError::NonFinite { field });
        }
        largest = largest.max(value.abs());
    }
    Ok((largest > 0.0).then(|| power_of_two_below(largest)))
}
