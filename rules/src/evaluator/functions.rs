//! Functions of the last n values, oldest first. What is added in which order depends on n alone: the same values give
//! the same bits.

/// Sums that are formed side by side, as additions wait for one another.
const LANES: usize = 4;

/// Mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    sum(values, |value| value) / values.len() as f64
}

/// Least.
pub(super) fn min(values: &[f64]) -> f64 {
    values.iter().fold(f64::INFINITY, |least, &value| if value < least { value } else { least })
}

/// Greatest.
pub(super) fn max(values: &[f64]) -> f64 {
    values.iter().fold(f64::NEG_INFINITY, |greatest, &value| if value > greatest { value } else { greatest })
}

/// Sample standard deviation; NaN of fewer than two.
pub(super) fn stddev(values: &[f64]) -> f64 {
    spread(values, mean(values))
}

fn spread(values: &[f64], mean: f64) -> f64 {
    let squares = sum(values, |value| (value - mean) * (value - mean));
    if values.len() < 2 { f64::NAN } else { (squares / (values.len() - 1) as f64).sqrt() }
}

/// Least-squares slope per step; NaN where all are of one step. Works in `steps`.
pub(super) fn slope(steps: &mut [f64], values: &[f64]) -> f64 {
    let (mean_step, mean_value) = (mean(steps), mean(values));
    let squares = sum(steps, |step| (step - mean_step) * (step - mean_step));
    for (step, value) in steps.iter_mut().zip(values) {
        *step = (*step - mean_step) * (value - mean_value);
    }
    sum(steps, |product| product) / squares
}

/// How many standard deviations of the values before it the newest is off their mean; NaN where they have none.
pub(super) fn zscore(values: &[f64]) -> f64 {
    let Some((newest, before)) = values.split_last() else { return f64::NAN };
    let mean = mean(before);
    let spread = spread(before, mean);
    if spread > 0.0 { (newest - mean) / spread } else { f64::NAN }
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

fn sum(values: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    let rest = rest.iter().fold(0.0, |sum, value| sum + term(*value));
    lanes.iter().fold(0.0, |sum, lane| sum + lane) + rest
}
