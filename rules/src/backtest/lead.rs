//! How long before the truth a rule fired.

use gradwatch_spectral::statistics::{bootstrap_interval, quantile};
use serde::{Deserialize, Serialize};

/// Resamples of the runs.
const RESAMPLES: usize = 2_000;
/// Fixes the resamples: the same runs, the same interval.
const SEED: u64 = 0;

/// The median lead over the true positives, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// True positives.
    pub runs: usize,
    /// Their median lead; null of none.
    pub median: Option<f64>,
    /// Lower end of the 95 % interval: the 2.5th percentile of the medians of 2,000 resamples of the runs. Null of fewer than
    /// two.
    pub low: Option<f64>,
    /// Upper end: the 97.5th percentile.
    pub high: Option<f64>,
}

impl Lead {
    /// Of these leads.
    #[must_use]
    pub fn of(leads: &[u64]) -> Self {
        let leads: Vec<f64> = leads.iter().map(|lead| *lead as f64).collect();
        let runs = leads.len();
        let median = (runs > 0).then(|| quantile(&leads, 0.5));
        let interval = (runs > 1).then(|| {
            let mut resample = vec![0.0; runs];
            bootstrap_interval(SEED, RESAMPLES, |random| {
                resample.fill_with(|| leads[random.below(runs)]);
                quantile(&resample, 0.5)
            })
        });
        Self { runs, median, low: interval.map(|(low, _)| low), high: interval.map(|(_, high)| high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_between_and_few_runs_have_no_interval() {
        assert_eq!(Lead::of(&[]), Lead { runs: 0, median: None, low: None, high: None });
        assert_eq!(Lead::of(&[40]), Lead { runs: 1, median: Some(40.0), low: None, high: None });
        assert_eq!(Lead::of(&[7, 7, 7]), Lead { runs: 3, median: Some(7.0), low: Some(7.0), high: Some(7.0) });
        assert_eq!(Lead::of(&[10, 40, 20, 0]).median, Some(15.0));
    }

    #[test]
    fn the_interval_is_that_of_order_statistics() {
        // A resample's median of 1..=101 is at or below m iff at least 51 of 101 draws are: with probability 2.5 % at about
        // the 41st, 97.5 % at about the 61st order statistic (51 ± 1.96 · √101 / 2).
        let leads: Vec<u64> = (1..=101).collect();
        let lead = Lead::of(&leads);
        assert_eq!(lead.median, Some(51.0));
        let (Some(low), Some(high)) = (lead.low, lead.high) else { panic!("{lead:?}") };
        assert!((low - 41.2).abs() <= 1.5 && (high - 60.8).abs() <= 1.5, "{lead:?}");
        assert_eq!(Lead::of(&leads), lead, "the same runs give the same interval");
    }
}
