//! What a client computes before and after its Hessian-vector products.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Mat, MatRef, Par, Spec};

use super::error::{check_filled, check_finite, check_length};
use super::{CurvatureError, Kronecker};

/// The leading singular triplets of a gradient, sigma decreasing. A pair (u_k, v_k) is unique up to a common sign, which
/// no reading depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientDirections {
    /// sigma_k, k = 1…K.
    pub sigma: Vec<f64>,
    /// u_k, one for each sigma, as long as the gradient has rows.
    pub u: Vec<Vec<f64>>,
    /// v_k, one for each sigma, as long as the gradient has columns.
    pub v: Vec<Vec<f64>>,
}

impl GradientDirections {
    /// u_k v_kᵀ, row-major, k from 0: the direction whose Hessian-vector product gives h_k. It has norm 1.
    ///
    /// # Panics
    /// When there is no such k.
    pub fn rank_one(&self, k: usize) -> Vec<f64> {
        self.u[k].iter().flat_map(|u| self.v[k].iter().map(move |v| u * v)).collect()
    }
}

/// The `count` leading singular triplets of a gradient of `rows` x `cols`, row-major, or as many as it has. A convolution
/// is to be flattened to out x (in·kh·kw) first. The same entries give the same bits: one thread, in float64.
///
/// # Errors
/// [`CurvatureError`] when `rows`, `cols` or `count` is 0, the gradient has another number of entries or one that is not
/// finite, or the decomposition does not converge.
pub fn gradient_directions<T: Copy + Into<f64>>(
    rows: usize,
    cols: usize,
    gradient: &[T],
    count: usize,
) -> Result<GradientDirections, CurvatureError> {
    check_filled("rows", rows)?;
    check_filled("cols", cols)?;
    check_filled("count", count)?;
    let matrix = matrix("gradient", rows, cols, gradient)?;
    let size = rows.min(cols);
    let (mut s, mut u, mut v) = (faer::diag::Diag::zeros(size), Mat::zeros(rows, size), Mat::zeros(cols, size));
    let thin = ComputeSvdVectors::Thin;
    let scratch = svd_scratch::<f64>(rows, cols, thin, thin, Par::Seq, Spec::default());
    svd(
        matrix.as_ref(),
        s.as_mut(),
        Some(u.as_mut()),
        Some(v.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Spec::default(),
    )
    .map_err(|_| CurvatureError::NoConvergence { field: "gradient" })?;
    let kept = 0..size.min(count);
    let columns = |m: &Mat<f64>| kept.clone().map(|k| m.col(k).iter().copied().collect()).collect();
    let s = s.column_vector();
    Ok(GradientDirections { sigma: kept.clone().map(|k| s[k]).collect(), u: columns(&u), v: columns(&v) })
}

/// The Kronecker ingredients along `directions`, from `samples` per-sample errors delta_i (the gradient of sample i's own
/// loss to the layer's output, not divided by the batch) and inputs a_i, row-major, one sample a row. For a
/// convolution a row is a sample at a place, its patch unfolded.
///
/// # Errors
/// [`CurvatureError`] when there is no sample, a matrix has another number of entries or one that is not finite, or a
/// decomposition does not converge.
pub fn kronecker<T: Copy + Into<f64>>(
    directions: &GradientDirections,
    samples: usize,
    errors: &[T],
    inputs: &[T],
) -> Result<Kronecker, CurvatureError> {
    check_filled("samples", samples)?;
    let count = directions.sigma.len();
    check_filled("directions.sigma", count)?;
    let errors = matrix("errors", samples, common_length("directions.u", &directions.u, count)?, errors)?;
    let inputs = matrix("inputs", samples, common_length("directions.v", &directions.v, count)?, inputs)?;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / samples as f64;
    let mut found = Kronecker {
        output_eigenvalues: eigenvalues("errors", errors.as_ref(), count)?,
        input_eigenvalues: eigenvalues("inputs", inputs.as_ref(), count)?,
        ..Kronecker::default()
    };
    for (u, v) in directions.u.iter().zip(&directions.v) {
        let (along_u, along_v) = (squared_products(errors.as_ref(), u), squared_products(inputs.as_ref(), v));
        found.output_factor.push(mean(&mut along_u.iter().copied()));
        found.input_factor.push(mean(&mut along_v.iter().copied()));
        found.sum_of_products.push(mean(&mut along_u.iter().zip(&along_v).map(|(a, b)| a * b)));
    }
    Ok(found)
}

fn matrix<T: Copy + Into<f64>>(
    field: &'static str,
    rows: usize,
    cols: usize,
    entries: &[T],
) -> Result<Mat<f64>, CurvatureError> {
    let expected = rows.checked_mul(cols).ok_or(CurvatureError::TooLarge { rows, cols })?;
    check_length(field, entries.len(), expected)?;
    check_finite(field, entries)?;
    Ok(Mat::from_fn(rows, cols, |i, j| entries[i * cols + j].into()))
}

/// The length of `count` vectors that must all have the same.
fn common_length(field: &'static str, vectors: &[Vec<f64>], count: usize) -> Result<usize, CurvatureError> {
    check_length(field, vectors.len(), count)?;
    let length = vectors.first().map_or(0, Vec::len);
    check_filled(field, length)?;
    vectors.iter().try_for_each(|vector| check_length(field, vector.len(), length))?;
    Ok(length)
}

/// (x_iᵀ direction)² for every row x_i.
fn squared_products(rows: MatRef<'_, f64>, direction: &[f64]) -> Vec<f64> {
    // Column by column, as the entries lie.
    let mut products = vec![0.0; rows.nrows()];
    for (column, factor) in rows.col_iter().zip(direction) {
        for (product, x) in products.iter_mut().zip(column.iter()) {
            *product += x * factor;
        }
    }
    products.iter().map(|product| product * product).collect()
}

/// The `count` largest eigenvalues of (1/B) Σ x_i x_iᵀ over the B rows x_i, as squared singular values: never negative, and
/// small ones keep their digits.
fn eigenvalues(field: &'static str, rows: MatRef<'_, f64>, count: usize) -> Result<Vec<f64>, CurvatureError> {
    let (samples, width) = rows.shape();
    let mut s = faer::diag::Diag::zeros(samples.min(width));
    let no = ComputeSvdVectors::No;
    let scratch = svd_scratch::<f64>(samples, width, no, no, Par::Seq, Spec::default());
    svd(rows, s.as_mut(), None, None, Par::Seq, MemStack::new(&mut MemBuffer::new(scratch)), Spec::default())
        .map_err(|_| CurvatureError::NoConvergence { field })?;
    Ok(s.column_vector().iter().take(count).map(|s| s * s / samples as f64).collect())
}
