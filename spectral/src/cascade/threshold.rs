//! The threshold: a quantile of the magnitudes themselves.

use crate::{layers::Reason, statistics::quantile};

/// theta is this quantile of the magnitudes \[source: the 90th percentile\].
const QUANTILE: f64 = 0.9;

/// A threshold below this counts as 0 \[ours\]. Near the end of float64's range what a toppling sends rounds to more than
/// the site had, and a cascade might not stop. No float32 that is not 0 comes near it.
const SMALLEST_THRESHOLD: f64 = 1e-280;

/// theta, the 0.9-quantile with linear interpolation between the two nearest magnitudes; or why these magnitudes cannot be
/// read. A sum that overflows is refused like infinity: no load ever exceeds the sum, so loads stay finite.
///
/// # Errors
/// `empty`, `non_finite`, `negative`, or `degenerate` when theta is 0.
pub fn threshold(magnitudes: &[f64]) -> Result<f64, Reason> {
    if magnitudes.is_empty() {
        return Err(Reason::Empty);
    }
    let total: f64 = magnitudes.iter().sum();
    // Twice: room for the rounding of the sum itself.
    if !(2.0 * total).is_finite() {
        return Err(Reason::NonFinite);
    }
    if magnitudes.iter().any(|magnitude| *magnitude < 0.0) {
        return Err(Reason::Negative);
    }
    let threshold = quantile(magnitudes, QUANTILE);
    if threshold < SMALLEST_THRESHOLD { Err(Reason::Degenerate) } else { Ok(threshold) }
}
