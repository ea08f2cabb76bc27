//! Where pure noise would put the largest eigenvalue, and the ratio that can never fail.

/// Mean of the lower half of lambda, indices ⌊W/2⌋…: nu²·p, the noise level of the author's code.
fn lower_half_mean(lambda: &[f64]) -> f64 {
    let lower = &lambda[lambda.len() / 2..];
    lower.iter().sum::<f64>() / lower.len() as f64
}

/// nu² p (1 + sqrt(W/p))², nu² = mean of the lower half of lambda / p \[source\]. For parity only: pure noise exceeds
/// it in 98 % of windows.
pub(super) fn noise_edge(lambda: &[f64], parameter_count: u64) -> f64 {
    let aspect = lambda.len() as f64 / parameter_count as f64;
    lower_half_mean(lambda) * (1.0 + aspect.sqrt()).powi(2)
}

/// mean(lambda)·(1 + sqrt(W/p'))², 1/p' = 1/p + 1/d for sketched rows \[ours\]. Noise exceeds it in about 10 %.
pub(super) fn noise_edge_mean(lambda: &[f64], parameter_count: u64, sketch_dim: Option<u64>) -> f64 {
    let rows = lambda.len() as f64;
    let inverse = 1.0 / parameter_count as f64 + sketch_dim.map_or(0.0, |dim| 1.0 / dim as f64);
    lambda.iter().sum::<f64>() / rows * (1.0 + (rows * inverse).sqrt()).powi(2)
}

/// sigma_W/(nu (p(W−1))^¼) \[source\]; none when nu = 0. Vacuous by design: ≫ 1 for pure noise as well.
pub(super) fn bbp_ratio(lambda: &[f64], parameter_count: u64) -> Option<f64> {
    let p = parameter_count as f64;
    let nu = (lower_half_mean(lambda) / p).sqrt();
    let smallest = lambda.last()?.sqrt();
    (nu > 0.0).then(|| smallest / (nu * (p * (lambda.len() - 1) as f64).powf(0.25)))
}
