//! What of the targets lies beyond a degree.

use super::ProbeBatch;

/// E[y²] − Σ_{k≤D} E_k, E_k = ‖P_k f*‖² the energy of the targets at degree k: without bias, from pairs of different samples,
/// y y' times the degree-k part of the Mehler kernel, the coefficient of t^k in (1−t²)^(−d/2)·exp((t x·x' − t²(‖x‖²+‖x'‖²)/2)/(1−t²))
/// \[ours\]. Noise of the targets is in it: E[y²] has it and no E_k does. May be negative by chance.
///
/// None without targets, and when the batch has fewer inputs than there are polynomials of degree ≤ D in so many inputs:
/// the estimate would be noise (its standard deviation is about sqrt(2·polynomials)/n of E[y²]).
pub(super) fn hermite_tail(probe: &ProbeBatch, width: usize, degree: usize) -> Option<f64> {
    let samples = probe.inputs.len() / width;
    let polynomials: f64 = (1..=degree).map(|k| (width + k) as f64 / k as f64).product();
    if probe.targets.is_empty() || samples < 2 || polynomials > samples as f64 * (1.0 + 1e-9) {
        return None;
    }
    let inputs: Vec<f64> = probe.inputs.iter().map(|entry| f64::from(*entry)).collect();
    let targets: Vec<f64> = probe.targets.iter().map(|entry| f64::from(*entry)).collect();
    let rows: Vec<&[f64]> = inputs.chunks_exact(width).collect();
    let squares: Vec<f64> = rows.iter().map(|row| row.iter().map(|entry| entry * entry).sum()).collect();
    let mut energy = 0.0;
    for i in 0..samples {
        for j in 0..i {
            let product: f64 = rows[i].iter().zip(rows[j]).map(|(x, y)| x * y).sum();
            energy += targets[i] * targets[j] * mehler_up_to(degree, width, product, squares[i] + squares[j]);
        }
    }
    let pairs = (samples * (samples - 1)) as f64 / 2.0;
    let mean_square = targets.iter().map(|target| target * target).sum::<f64>() / samples as f64;
    Some(mean_square - energy / pairs)
}

/// Sum of the coefficients of t^0 … t^degree. The logarithm of the kernel has the coefficients `product` at odd degrees and
/// d/k − squares/2 at even ones; those of exp(L) follow from k S_k = Σ_j j L_j S_{k−j}.
fn mehler_up_to(degree: usize, width: usize, product: f64, squares: f64) -> f64 {
    let mut terms = [1.0; super::activation::DEGREES];
    let mut sum = 1.0;
    for k in 1..=degree {
        let mut term = 0.0;
        for j in 1..=k {
            let logarithm = if j % 2 == 1 { product } else { width as f64 / j as f64 - squares / 2.0 };
            term += j as f64 * logarithm * terms[k - j];
        }
        terms[k] = term / k as f64;
        sum += terms[k];
    }
    sum
}
