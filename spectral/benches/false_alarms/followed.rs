//! What detectors said of one run.

use std::ops::Range;

use gradwatch_spectral::detectors::{Detector, Regime};

use crate::support::median;

/// One run's readings and alarms.
#[derive(Clone, Default)]
pub(crate) struct Followed {
    /// Readings that detectors were shown.
    pub(crate) readings: u64,
    /// Of those, how many were in each regime.
    pub(crate) in_regime: [u64; Regime::ALL.len()],
    /// Who spoke, and at which reading.
    pub(crate) alarms: Vec<(Detector, usize)>,
    /// What a planted change multiplies the median of ratio_1 and of dk by, once it fills the window.
    pub(crate) ratio_factor: Option<f64>,
    pub(crate) dk_factor: Option<f64>,
}

/// The median of what lies in one range over that of what lies in another.
pub(crate) fn factor(values: &[Option<f64>], before: Range<usize>, after: Range<usize>) -> Option<f64> {
    let middle = |range: Range<usize>| {
        let values: Vec<f64> = values.get(range)?.iter().copied().flatten().collect();
        (!values.is_empty()).then(|| median(values))
    };
    Some(middle(after)? / middle(before)?)
}

impl Followed {
    /// Readings from the start of `within` to the first alarm in it of one of `detectors`.
    pub(crate) fn delay(&self, within: Range<usize>, detectors: &[Detector]) -> Option<usize> {
        let found = self.alarms.iter().find(|(detector, at)| detectors.contains(detector) && within.contains(at))?;
        Some(found.1 - within.start)
    }
}
