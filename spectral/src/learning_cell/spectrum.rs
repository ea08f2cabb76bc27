//! Eigenvalues and ranks of small symmetric matrices.

use faer::{
    Mat, Par, Spec,
    dyn_stack::{MemBuffer, MemStack},
    linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch},
};

/// Ascending; none when the iteration does not converge or the matrix is not finite. Sequential: fixed bits.
pub(super) fn eigenvalues(matrix: &Mat<f64>) -> Option<Vec<f64>> {
    let n = matrix.nrows();
    let mut values = faer::diag::Diag::zeros(n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::No, Par::Seq, Spec::default());
    let mut workspace = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut workspace);
    self_adjoint_evd(matrix.as_ref(), values.as_mut(), None, Par::Seq, stack, Spec::default()).ok()?;
    let values: Vec<f64> = values.column_vector().iter().copied().collect();
    values.iter().all(|value| value.is_finite()).then_some(values)
}

/// Number of eigenvalues above a cut that may depend on the largest.
pub(super) fn rank(matrix: &Mat<f64>, cut: impl FnOnce(f64) -> f64) -> Option<usize> {
    let values = eigenvalues(matrix)?;
    let cut = cut(values.last().copied().unwrap_or(0.0));
    Some(values.iter().filter(|value| **value > cut).count())
}
