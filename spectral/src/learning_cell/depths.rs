//! Up to which degree atoms must be looked at to be told apart, and to be weighed.

use faer::Mat;

use super::{activation::DEGREES, features::symmetric, norm, reading::Activation, spectrum};

/// Atoms with a smaller squared cosine are told apart.
const SEPARATE: f64 = 0.99;
/// Rank cut of unit-diagonal Gram matrices, times the number of atoms.
const RANK_CUT: f64 = 1e-6;
/// An atom with less of its squared norm in the degrees looked at is not there yet: float32 weights of norm 1 ± 6e−8 have
/// 2e−14 of it at degree 1 of He3, where exact ones have nothing.
const ABSENT: f64 = 1e-12;

/// Depths in degrees; none when not reached by 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depths {
    /// Least D whose degree-≤D kernel separates all atoms.
    pub(super) orbit: Option<u64>,
    /// Least D at which the truncated normalised Gram matrix has the rank of the whole one.
    pub(super) variety: Option<u64>,
}

/// Of atoms with these weights, under a whitened Gaussian \[ours\]. The degree-k part of ⟨act(w_i·x), act(w_j·x)⟩ is
/// k!·c_k(‖w_i‖)·c_k(‖w_j‖)·cos^k. A degree at which some atom has nothing yet is not one that shows them. The whole Gram matrix
/// is the closed form, so that atoms that degrees 0…9 cannot weigh have no variety depth.
pub(super) fn depths(activation: Activation, weights: &[&[f32]]) -> Depths {
    let count = weights.len();
    let norms: Vec<f64> = weights.iter().map(|row| norm(row)).collect();
    let cosine = |i: usize, j: usize| {
        let product: f64 = weights[i].iter().zip(weights[j]).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        let scale = norms[i] * norms[j];
        if i == j {
            1.0
        } else if scale > 0.0 {
            (product / scale).clamp(-1.0, 1.0)
        } else {
            0.0
        }
    };
    let cosines = symmetric(count, cosine);
    let form = activation.form();
    let whole = symmetric(count, |i, j| form.product(norms[i], norms[j], cosines[(i, j)]));
    let cut = RANK_CUT * count as f64;
    let full = normalised(&whole).and_then(|gram| spectrum::rank(&gram, |_| cut));

    let coefficients: Vec<[f64; DEGREES]> = norms.iter().map(|s| activation.hermite(*s)).collect();
    let mut truncated = Mat::<f64>::zeros(count, count);
    let mut depths = Depths { orbit: None, variety: None };
    for degree in 0..DEGREES {
        let parts: Vec<f64> = coefficients.iter().map(|row| row[degree]).collect();
        truncated += symmetric(count, |i, j| parts[i] * parts[j] * cosines[(i, j)].powi(degree as i32));
        let all_there = (0..count).all(|i| truncated[(i, i)] > ABSENT * whole[(i, i)]);
        let Some(gram) = normalised(&truncated).filter(|_| all_there) else { continue };
        if depths.orbit.is_none() && (0..count).all(|j| (0..j).all(|i| gram[(i, j)].powi(2) < SEPARATE)) {
            depths.orbit = Some(degree as u64);
        }
        if depths.variety.is_none() && full.is_some() && spectrum::rank(&gram, |_| cut) >= full {
            depths.variety = Some(degree as u64);
        }
    }
    depths
}

/// With ones on the diagonal; none when something there is not positive.
fn normalised(gram: &Mat<f64>) -> Option<Mat<f64>> {
    let scales: Vec<f64> = (0..gram.nrows()).map(|i| gram[(i, i)].sqrt()).collect();
    scales
        .iter()
        .all(|scale| *scale > 0.0)
        .then(|| symmetric(gram.nrows(), |i, j| if i == j { 1.0 } else { gram[(i, j)] / (scales[i] * scales[j]) }))
}
