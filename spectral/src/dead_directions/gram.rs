//! The Gram matrix of per-sample gradients.

use faer::{
    Accum, Mat, MatRef, Par,
    linalg::matmul::triangular::{BlockStructure, matmul},
};

use super::{SampleError, rows_of};

/// Rows that are multiplied at a time: bounds the memory of a snapshot, whatever n is.
const BLOCK_ROWS: usize = 1024;

/// G = (1/n) Σ delta_i delta_iᵀ, width × width, row-major, accumulated in float64 \[source\]. `gradients` is n × width,
/// row-major; row i is the gradient of sample i's *own* loss (not divided by n) to the layer's pre-activation.
///
/// # Errors
/// Values that are not whole rows, a Gram matrix that is not finite.
pub fn gram_of_gradients<T: Copy + Into<f64>>(gradients: &[T], width: usize) -> Result<Vec<f64>, SampleError> {
    const FIELD: &str = "gradients";
    let rows = rows_of(FIELD, gradients.len(), width)?;
    let mut lower = Mat::<f64>::zeros(width, width);
    for block in gradients.chunks(BLOCK_ROWS * width) {
        let block: Vec<f64> = block.iter().map(|value| (*value).into()).collect();
        let block = MatRef::from_row_major_slice(&block, block.len() / width, width);
        matmul(
            lower.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            block.transpose(),
            BlockStructure::Rectangular,
            block,
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
    }
    let n = rows as f64;
    let gram: Vec<f64> = (0..width)
        .flat_map(|i| (0..width).map(move |j| (i.max(j), i.min(j))))
        .map(|(i, j)| lower[(i, j)] / n)
        .collect();
    if gram.iter().all(|entry| entry.is_finite()) { Ok(gram) } else { Err(SampleError::NonFinite { field: FIELD }) }
}

/// Projects a gauge direction u out of G: G ← P G P, P = 1 − u uᵀ/‖u‖² \[ours\]. A gauge direction is dead by construction,
/// not by learning: the vector of ones at softmax logits, 1/g after a LayerNorm with scale g. Directions that are removed
/// one after the other must be orthogonal. Their number goes into
/// [`gauge_removed`](super::DeadDirectionsSnapshot::gauge_removed).
///
/// # Errors
/// A direction that is 0, not finite or not of the width; a matrix of another size.
pub fn remove_gauge(gram: &mut [f64], direction: &[f64]) -> Result<(), SampleError> {
    let width = direction.len();
    let expected = width.saturating_mul(width);
    if gram.len() != expected {
        return Err(SampleError::Size { field: "gram", got: gram.len(), expected });
    }
    let Some(scale) = super::scale_of("direction", direction.iter().copied())? else {
        return Err(SampleError::NoDirection);
    };
    let norm = direction.iter().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt();
    let unit: Vec<f64> = direction.iter().map(|x| x / scale / norm).collect();
    let image: Vec<f64> = gram.chunks_exact(width).map(|row| row.iter().zip(&unit).map(|(g, u)| g * u).sum()).collect();
    let along: f64 = image.iter().zip(&unit).map(|(g, u)| g * u).sum();
    for (i, row) in gram.chunks_exact_mut(width).enumerate() {
        for (j, entry) in row.iter_mut().enumerate() {
            *entry += along * unit[i] * unit[j] - (unit[i] * image[j] + image[i] * unit[j]);
        }
    }
    Ok(())
}
