//! Singular values of the activation matrix.

use faer::{
    Mat, Par, Spec,
    diag::Diag,
    dyn_stack::{MemBuffer, MemStack},
    linalg::svd::{ComputeSvdVectors, svd, svd_scratch},
};
use pulp::{Arch, Simd, WithSimd};

use super::{SampleError, rows_of, scale_of};
use crate::dot::dot_in_lanes;

const FIELD: &str = "activations";

/// Rows that are taken into R at a time: such a block stays in a processor's cache, and bounds the memory of a snapshot.
const BLOCK_ROWS: usize = 256;

/// Singular values of X (n × width, row-major), decreasing, min(n, width) of them \[source\].
///
/// Invariant: their error is a few rounding errors of the largest, not of its square. So they are those of the R of a QR
/// decomposition of X itself, never roots of eigenvalues of XᵀX, which lose everything below 1e−8 of the largest.
///
/// # Errors
/// Values that are not whole rows, NaN or infinity, a singular value beyond float64, no convergence.
pub fn singular_values<T: Copy + Into<f64>>(activations: &[T], width: usize) -> Result<Vec<f64>, SampleError> {
    let rows = rows_of(FIELD, activations.len(), width)?;
    let count = rows.min(width);
    let Some(scale) = scale_of(FIELD, activations.iter().map(|value| (*value).into()))? else {
        return Ok(vec![0.0; count]);
    };
    let mut r = vec![0.0; width * width];
    let mut columns = Vec::new();
    for rows in activations.chunks(BLOCK_ROWS * width) {
        let block_rows = rows.len() / width;
        columns.clear();
        columns.extend((0..width).flat_map(|j| rows.iter().skip(j).step_by(width)).map(|value| {
            let value: f64 = (*value).into();
            value / scale
        }));
        Arch::new().dispatch(TakeIn { r: &mut r, columns: &mut columns, block_rows, width });
    }
    let mut values = of_triangle(&r, width)?;
    values.truncate(count);
    for value in &mut values {
        *value *= scale;
    }
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(SampleError::NonFinite { field: FIELD }) }
}

/// R ← the R of the QR decomposition of [R; block], by one Householder reflection a column. A reflection touches one row
/// of R and the block, since the rest of R's column is 0. No column is ever given up as dependent: how small a singular
/// value may be is for the reading to say.
struct TakeIn<'a> {
    /// Upper triangular, width × width, row-major.
    r: &'a mut [f64],
    /// The block, column-major; destroyed.
    columns: &'a mut [f64],
    block_rows: usize,
    width: usize,
}

impl WithSimd for TakeIn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { r, columns, block_rows, width } = self;
        for k in 0..width {
            let (head, tail) = columns.split_at_mut((k + 1) * block_rows);
            let reflector = &head[k * block_rows..];
            let norm2 = dot_in_lanes(reflector, reflector);
            // Below, the column is 0 or under 1e−154 of the largest entry.
            if norm2 < f64::MIN_POSITIVE {
                continue;
            }
            let r_row = &mut r[k * width + k..(k + 1) * width];
            let (diagonal, r_rest) = r_row.split_at_mut(1);
            let norm = (diagonal[0] * diagonal[0] + norm2).sqrt();
            // The sign that adds magnitudes: no cancellation.
            let image = if diagonal[0] > 0.0 { -norm } else { norm };
            let first = diagonal[0] - image;
            let factor = -1.0 / (image * first);
            diagonal[0] = image;
            for (entry, column) in r_rest.iter_mut().zip(tail.chunks_exact_mut(block_rows)) {
                let along = factor * (first * *entry + dot_in_lanes(reflector, column));
                *entry -= along * first;
                for (x, v) in column.iter_mut().zip(reflector) {
                    *x -= along * v;
                }
            }
        }
    }
}

/// Singular values of an upper triangular matrix, row-major, decreasing.
fn of_triangle(r: &[f64], width: usize) -> Result<Vec<f64>, SampleError> {
    let matrix = Mat::from_fn(width, width, |i, j| r[i * width + j]);
    let mut values = Diag::zeros(width);
    let no = ComputeSvdVectors::No;
    let scratch = svd_scratch::<f64>(width, width, no, no, Par::Seq, Spec::default());
    svd(
        matrix.as_ref(),
        values.as_mut(),
        None,
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| SampleError::NoConvergence { field: FIELD })?;
    Ok(values.column_vector().iter().copied().collect())
}
