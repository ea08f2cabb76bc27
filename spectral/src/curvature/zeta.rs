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

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    #[test]
    fn known_values() {
        let known = [
            (1.000_001, 1_000_000.577_215_737),
            (1.1, 10.584_448_464_950_81),
            (1.5, 2.612_375_348_685_488),
            (2.0, PI.powi(2) / 6.0),
            (3.0, 1.202_056_903_159_594_2),
            (4.0, PI.powi(4) / 90.0),
            (6.0, PI.powi(6) / 945.0),
            (10.0, PI.powi(10) / 93_555.0),
            (20.0, 1.000_000_953_962_033_9),
            (50.0, 1.000_000_000_000_000_9),
            (63.9, 1.0),
            (1e300, 1.0),
            (f64::INFINITY, 1.0),
        ];
        for (s, expected) in known {
            let value = zeta(s).unwrap();
            assert!((value / expected - 1.0).abs() < 5e-15, "zeta({s}) = {value}, not {expected}");
        }
    }

    #[test]
    fn agrees_with_the_plain_sum_between_them() {
        for s in [5.3, 7.7, 12.1, 33.3] {
            let plain: f64 = (1..20_000).rev().map(|k| f64::from(k).powf(-s)).sum();
            assert!((zeta(s).unwrap() - plain).abs() < 1e-14, "zeta({s})");
        }
    }

    #[test]
    fn there_is_none_at_and_below_the_pole() {
        for s in [1.0, 0.5, 0.0, -2.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(zeta(s), None, "zeta({s})");
        }
        assert!(zeta(1.0 + f64::EPSILON).unwrap().is_finite());
    }
}
