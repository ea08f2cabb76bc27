//! Riemann's zeta function for real arguments above 1.

/// Terms that are summed one by one.
const TERMS: u32 = 16;

/// B_2j/(2j)! for j = 1…8, of the Euler–Maclaurin formula.
const BERNOULLI: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30_240.0,
    -1.0 / 1_209_600.0,
    1.0 / 47_900_160.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 74_724_249_600.0,
    -3_617.0 / 10_670_622_842_880_000.0,
];

/// Above this exponent zeta(s) − 1 − 2^−s is below the precision of a float64.
const LARGE: f64 = 64.0;

/// zeta(s) = Σ k^−s for real s > 1, by the Euler–Maclaurin formula, to a few units in the last place. None for any other
/// s.
///
/// ```
/// let zeta2 = gradwatch_spectral::curvature::zeta(2.0).unwrap();
/// assert!((zeta2 - std::f64::consts::PI.powi(2) / 6.0).abs() < 1e-15);
/// ```
pub fn zeta(s: f64) -> Option<f64> {
    if s.is_nan() || s <= 1.0 {
        return None;
    }
    if s > LARGE {
        return Some(1.0 + (-s).exp2());
    }
    let n = f64::from(TERMS);
    let power = n.powf(-s);
    // From the smallest to the largest: the corrections, the integral of the rest, the terms themselves.
    let mut correction = 0.0;
    // s(s+1)…(s+2j−2)·n^(−s−2j+1)
    let mut derivative = s * power / n;
    for (j, bernoulli) in (1..).zip(BERNOULLI) {
        correction += bernoulli * derivative;
        let at = s + 2.0 * f64::from(j);
        derivative *= (at - 1.0) * at / (n * n);
    }
    let rest = correction + 0.5 * power + n * power / (s - 1.0);
    Some((1..TERMS).rev().fold(rest, |sum, k| sum + f64::from(k).powf(-s)))
}
