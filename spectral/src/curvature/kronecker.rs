//! What the exponent is made of, by the Kronecker factors of the curvature.

use super::fit;
use super::kept::KeptDirections;
use super::{CurvatureReading, Kronecker};
use crate::layers::Reason;

/// Fills in the slopes of ln Lambda_k, ln Phi_k, ln chi_k and ln h_k on ln sigma_k, over the k with h, Lambda, Phi > 0 and
/// k ≤ min(K_eff, #ld, #la). Lambda = ld·la, Phi = (uᵀC_delta u/ld)(vᵀC_A v/la), chi = h/(Phi·Lambda) \[source\].
///
/// Invariant: one set of directions and one regressor for all four, so that the first three sum to the fourth.
///
/// A factor that is not positive is rounding noise, and a product of two such is not positive either \[ours\].
pub(super) fn account(
    reading: &mut CurvatureReading,
    kept: &KeptDirections,
    kronecker: &Kronecker,
) -> Result<(), Reason> {
    let (output, input) = (decreasing(&kronecker.output_eigenvalues), decreasing(&kronecker.input_eigenvalues));
    let mut places = Vec::new();
    let (mut sigma, mut lambda, mut phi, mut chi, mut curvature) = (vec![], vec![], vec![], vec![], vec![]);
    for (k, (ld, la)) in output.iter().zip(&input).enumerate().take(kept.count()) {
        let h = kept.curvature[k];
        let output_factor = kronecker.output_factor[kept.place[k]];
        let input_factor = kronecker.input_factor[kept.place[k]];
        if [h, *ld, *la, output_factor, input_factor].iter().any(|factor| *factor <= 0.0) {
            continue;
        }
        // Sums of logarithms: a product of such factors may overflow or vanish.
        let ln_lambda = ld.ln() + la.ln();
        let ln_product = output_factor.ln() + input_factor.ln();
        places.push(k);
        sigma.push(kept.sigma[k].ln());
        lambda.push(ln_lambda);
        phi.push(ln_product - ln_lambda);
        chi.push(h.ln() - ln_product);
        curvature.push(h.ln());
    }
    if places.len() < fit::FEWEST_POINTS {
        return Err(Reason::TooFewKroneckerDirections);
    }
    if kept.are_one_tie(&places) {
        return Err(Reason::DuplicateSingularValues);
    }
    let slope = |y: &[f64]| fit::line(&sigma, y).map(|line| line.slope);
    reading.beta = slope(&lambda);
    reading.phi_slope = slope(&phi);
    reading.chi_slope = slope(&chi);
    reading.exponent_common = slope(&curvature);
    Ok(())
}

/// Median over the kept k of (1/B) Σ_i (u_kᵀ delta_i)² (v_kᵀ a_i)² over u_kᵀC_delta u_k · v_kᵀC_A v_k \[the ratio:
/// source; its median: ours\].
pub(super) fn concentration(kept: &KeptDirections, kronecker: &Kronecker) -> Option<f64> {
    if kronecker.sum_of_products.is_empty() {
        return None;
    }
    let ratio = |at: &usize| {
        let (output, input) = (kronecker.output_factor[*at], kronecker.input_factor[*at]);
        let ratio = kronecker.sum_of_products[*at] / output / input;
        (output > 0.0 && input > 0.0 && ratio.is_finite()).then_some(ratio)
    };
    fit::median(kept.place.iter().filter_map(ratio).collect())
}

fn decreasing(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    fit::sort_decreasing(&mut values);
    values
}
