//! Eigenvalues of a symmetric matrix.

use faer::{
    Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch},
};

use super::{SampleError, scale_of};

const FIELD: &str = "gram";

/// Eigenvalues, ascending, of (G + Gᵀ)/2, G width × width, row-major. Their error is a few rounding errors of the largest,
/// so small ones may come out negative. Sequential: the same matrix gives the same bits on the same processor.
///
/// # Errors
/// A matrix of another size, NaN or infinity, an eigenvalue beyond float64, no convergence.
pub fn eigenvalues(gram: &[f64], width: usize) -> Result<Vec<f64>, SampleError> {
    let expected = width.saturating_mul(width);
    if gram.len() != expected {
        return Err(SampleError::Size { field: FIELD, got: gram.len(), expected });
    }
    let Some(scale) = scale_of(FIELD, gram.iter().copied())? else {
        return Ok(vec![0.0; width]);
    };
    let mean = |i: usize, j: usize| 0.5 * (gram[i * width + j] / scale + gram[j * width + i] / scale);
    // The solver reads the lower triangle only.
    let matrix = Mat::from_fn(width, width, |i, j| if i >= j { mean(i, j) } else { 0.0 });
    let mut values = Diag::zeros(width);
    let scratch = self_adjoint_evd_scratch::<f64>(width, ComputeEigenvectors::No, Par::Seq, Spec::default());
    self_adjoint_evd(
        matrix.as_ref(),
        values.as_mut(),
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| SampleError::NoConvergence { field: FIELD })?;
    let values: Vec<f64> = values.column_vector().iter().map(|value| value * scale).collect();
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(SampleError::NonFinite { field: FIELD }) }
}
