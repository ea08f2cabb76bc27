//! What is wrong with an input.

use crate::layers::Reason;

/// Why a snapshot, or the tensors one is made from, cannot be read. The message names the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CurvatureError {
    /// Nothing there.
    #[error("{field}: must not be empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// The length does not fit the other fields.
    #[error("{field}: has {got} values, the other fields ask for {expected}")]
    Length {
        /// The field.
        field: &'static str,
        /// Its length.
        got: usize,
        /// The length that would fit.
        expected: usize,
    },
    /// NaN or infinity.
    #[error("{field}[{index}]: must be a finite number")]
    NonFinite {
        /// The field.
        field: &'static str,
        /// Place of the first such value.
        index: usize,
    },
    /// Below zero, where only the other side makes sense.
    #[error("{field}[{index}]: must not be negative")]
    Negative {
        /// The field.
        field: &'static str,
        /// Place of the first such value.
        index: usize,
    },
    /// A shape whose number of entries does not fit the machine's address space.
    #[error("rows, cols: {rows} x {cols} is too large")]
    TooLarge {
        /// Rows as given.
        rows: usize,
        /// Columns as given.
        cols: usize,
    },
    /// The singular value decomposition did not converge.
    #[error("{field}: its singular value decomposition did not converge")]
    NoConvergence {
        /// The matrix.
        field: &'static str,
    },
}

impl CurvatureError {
    /// The word for it in a reading.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Empty { .. } => Reason::Empty,
            Self::Length { .. } | Self::TooLarge { .. } => Reason::Inconsistent,
            Self::NonFinite { .. } => Reason::NonFinite,
            Self::Negative { .. } => Reason::Negative,
            Self::NoConvergence { .. } => Reason::Failed,
        }
    }
}

pub(super) fn check_filled(field: &'static str, length: usize) -> Result<(), CurvatureError> {
    if length == 0 { Err(CurvatureError::Empty { field }) } else { Ok(()) }
}

pub(super) fn check_length(field: &'static str, got: usize, expected: usize) -> Result<(), CurvatureError> {
    if got == expected { Ok(()) } else { Err(CurvatureError::Length { field, got, expected }) }
}

pub(super) fn check_finite<T: Copy + Into<f64>>(field: &'static str, values: &[T]) -> Result<(), CurvatureError> {
    match values.iter().position(|value| !Into::<f64>::into(*value).is_finite()) {
        Some(index) => Err(CurvatureError::NonFinite { field, index }),
        None => Ok(()),
    }
}
