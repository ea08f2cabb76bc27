//! Functions of the last n values, oldest first. Sums go from the oldest to the newest, always: the same values give the
//! same bits.

/// Mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// Least.
pub(super) fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Greatest.
pub(super) fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Sample standard deviation; NaN of fewer than two.
pub(super) fn stddev(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().fold(0.0, |sum, value| sum + (value - mean) * (value - mean));
    if values.len() < 2 { f64::NAN } else { (squares / (values.len() - 1) as f64).sqrt() }
}

/// Least-squares slope per step.
pub(super) fn slope(steps: &[f64], values: &[f64]) -> f64 {
    let (mean_step, mean_value) = (mean(steps), mean(values));
    let (mut products, mut squares) = (0.0, 0.0);
    for (step, value) in steps.iter().zip(values) {
        products += (step - mean_step) * (value - mean_value);
        squares += (step - mean_step) * (step - mean_step);
    }
    products / squares
}

/// How many standard deviations of the values before it the newest is off their mean; NaN where they have none.
pub(super) fn zscore(values: &[f64]) -> f64 {
    let Some((newest, before)) = values.split_last() else { return f64::NAN };
    let spread = stddev(before);
    if spread > 0.0 { (newest - mean(before)) / spread } else { f64::NAN }
}

/// The q-quantile, interpolated linearly between the two nearest (type 7). Reorders the values.
pub(super) fn quantile(values: &mut [f64], q: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let place = (values.len() - 1) as f64 * q.clamp(0.0, 1.0);
    let below = place.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    if above.is_empty() { low } else { low + (place - place.floor()) * (min(above) - low) }
}

fn sum(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| sum + value)
}
