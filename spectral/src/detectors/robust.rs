//! Median and median absolute deviation.

/// Factor that turns the median absolute deviation of a Gaussian into its standard deviation.
pub(crate) const MAD_TO_SD: f64 = 1.4826;

/// Median and 1.4826·MAD of a set of finite values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Centre {
    pub(crate) median: f64,
    pub(crate) spread: f64,
}

impl Centre {
    /// None for an empty set.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        let median = median_of(&mut values)?;
        for value in &mut values {
            *value = (*value - median).abs();
        }
        let deviation = median_of(&mut values)?;
        Some(Self { median, spread: MAD_TO_SD * deviation })
    }
}

/// Mean of the two middle values (the middle one twice when their number is odd); reorders `values`.
pub(crate) fn median_of(values: &mut [f64]) -> Option<f64> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(count / 2, f64::total_cmp);
    let upper = *upper;
    let lower = if count % 2 == 1 { upper } else { below.iter().copied().fold(f64::NEG_INFINITY, f64::max) };
    Some(0.5 * (lower + upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_mean_of_the_middle_values() {
        assert_eq!(median_of(&mut []), None);
        assert_eq!(median_of(&mut [3.0]), Some(3.0));
        assert_eq!(median_of(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median_of(&mut [9.0, -1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(&mut [7.0, 1.0, 3.0, 2.0]), Some(2.5));
        let centre = Centre::of([1.0, 2.0, 3.0, 4.0, 100.0].into_iter());
        assert_eq!(centre, Some(Centre { median: 3.0, spread: MAD_TO_SD }));
    }
}
