//! How far s = alpha·gamma is from true, and how far it would be by chance.

use super::fit::{self, Line};
use crate::random::SplitMix64;

/// A Hessian decay below this has no relative error \[source\].
const LEAST_DECAY: f64 = 1e-12;

/// Permutations behind the null \[ours\].
const PERMUTATIONS: usize = 200;

/// Fixed, so that a reading is a function of its snapshot alone.
const SEED: u64 = 0;

/// |s − alpha·gamma|/s; none for s < 1e−12.
pub(super) fn transfer_error(hessian_decay: f64, exponent: f64, rank_decay: f64) -> Option<f64> {
    let error = (hessian_decay - exponent * rank_decay).abs() / hessian_decay;
    (hessian_decay >= LEAST_DECAY && error.is_finite()).then_some(error)
}

/// Median transfer error when the residuals of the exponent fit `line` of `y` on `x` are permuted over the directions:
/// the same power law and the same scatter, only without a bond between scatter and rank \[ours\]. A permutation
/// without an error (s < 1e−12) is left out.
pub(super) fn transfer_null(x: &[f64], y: &[f64], line: &Line, rank_decay: f64) -> Option<f64> {
    let mut residuals: Vec<f64> = x.iter().zip(y).map(|(x, y)| y - line.at(*x)).collect();
    let mut random = SplitMix64::new(SEED);
    let mut errors = Vec::with_capacity(PERMUTATIONS);
    for _ in 0..PERMUTATIONS {
        random.shuffle(&mut residuals);
        let mut drawn: Vec<f64> = x.iter().zip(&residuals).map(|(x, residual)| line.at(*x) + residual).collect();
        let exponent = fit::line(x, &drawn)?.slope;
        fit::sort_decreasing(&mut drawn);
        errors.extend(transfer_error(fit::decay(&drawn)?.slope, exponent, rank_decay));
    }
    fit::median(errors)
}
