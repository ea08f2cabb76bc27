//! Quantiles, and bootstrap intervals that are the same on every machine.

use crate::random::SplitMix64;

/// The quantile of finite values, linear between the two nearest: position share·(n − 1) in ascending order (type 7).
/// `values` is not empty, 0 ≤ share ≤ 1.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let position = share * (values.len() - 1) as f64;
    let below = position.floor();
    let mut values = values.to_vec();
    let (_, lower, above) = values.select_nth_unstable_by(below as usize, f64::total_cmp);
    let lower = *lower;
    let upper = above.iter().copied().min_by(f64::total_cmp).unwrap_or(lower);
    lower + (upper - lower) * (position - below)
}

/// 95 % percentile interval of a statistic over resamples. `statistic` draws a resample with the random numbers that it is
/// given, and answers its finite value.
#[must_use]
pub fn bootstrap_interval(seed: u64, resamples: usize, statistic: impl FnMut(&mut SplitMix64) -> f64) -> (f64, f64) {
    let mut random = SplitMix64::new(seed);
    let mut statistic = statistic;
    let values: Vec<f64> = (0..resamples).map(|_| statistic(&mut random)).collect();
    (quantile(&values, 0.025), quantile(&values, 0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_linear_between_the_nearest() {
        // numpy.quantile([4, 1, 3, 2], [0, .1, .5, .9, 1])
        for (share, expected) in [(0.0, 1.0), (0.1, 1.3), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)] {
            let found = quantile(&[4.0, 1.0, 3.0, 2.0], share);
            assert!((found - expected).abs() < 1e-12, "{share}: {found}");
        }
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
    }

    #[test]
    fn an_interval_of_a_mean_is_that_of_theory() {
        // The mean of 100 draws of 0 or 1 has the standard error 0.05: 1.96 of them to both sides of 0.5.
        let sample: Vec<f64> = (0..100).map(|i| f64::from(i % 2)).collect();
        let mean = |random: &mut SplitMix64| (0..100).map(|_| sample[random.below(100)]).sum::<f64>() / 100.0;
        let (low, high) = bootstrap_interval(0, 2_000, mean);
        assert!((low - 0.402).abs() < 0.011 && (high - 0.598).abs() < 0.011, "{low} {high}");
        assert_eq!(bootstrap_interval(0, 2_000, mean), (low, high));
    }
}
