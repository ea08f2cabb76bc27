//! Least squares of a line, and what else is counted over a list.

/// Fewest points that are fitted; with fewer there is a reason instead of a slope \[source\].
pub(super) const FEWEST_POINTS: usize = 5;

/// The line y = a + slope·x of plain least squares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) slope: f64,
    /// 1 − RSS/TSS; none when y does not vary.
    pub(super) r2: Option<f64>,
    /// Standard error of the slope, sqrt(RSS/(n − 2)/Σ(x − mean)²).
    pub(super) slope_se: f64,
    mean_x: f64,
    mean_y: f64,
}

impl Line {
    pub(super) fn at(&self, x: f64) -> f64 {
        self.mean_y + self.slope * (x - self.mean_x)
    }
}

/// Mean of a non-empty list. Exact when all values are the same, so that what does not vary has no variance.
pub(super) fn mean(values: &[f64]) -> f64 {
    values[0] + values.iter().map(|value| value - values[0]).sum::<f64>() / values.len() as f64
}

/// None for fewer than [`FEWEST_POINTS`] points, and when x does not vary.
pub(super) fn line(x: &[f64], y: &[f64]) -> Option<Line> {
    debug_assert_eq!(x.len(), y.len());
    if x.len() < FEWEST_POINTS {
        return None;
    }
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        xy += dx * dy;
        yy += dy * dy;
    }
    if xx == 0.0 {
        return None;
    }
    let mut line = Line { slope: xy / xx, r2: None, slope_se: 0.0, mean_x, mean_y };
    let rss: f64 = x.iter().zip(y).map(|(x, y)| (y - line.at(*x)).powi(2)).sum();
    line.r2 = (yy > 0.0).then(|| (1.0 - rss / yy).max(0.0));
    line.slope_se = (rss / (x.len() - 2) as f64 / xx).sqrt();
    Some(line)
}

/// Minus the slope of `y` on ln rank, rank 1, 2, … in the order given.
pub(super) fn decay(y: &[f64]) -> Option<Line> {
    let mut line = line(&log_ranks(y.len()), y)?;
    // Not −slope: a list that does not fall decays at 0, not at −0.
    line.slope = 0.0 - line.slope;
    Some(line)
}

/// ln 1, ln 2, …
pub(super) fn log_ranks(count: usize) -> Vec<f64> {
    (1..=count).map(|rank| (rank as f64).ln()).collect()
}

/// Puts the values in decreasing order.
pub(super) fn sort_decreasing(values: &mut [f64]) {
    values.sort_unstable_by(|a, b| b.total_cmp(a));
}

/// Median of the values; none of no value.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    sort_decreasing(&mut values);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(0.5 * upper + 0.5 * lower)
}

/// (Σx)²/Σx²; none when Σx² = 0. Taken relative to the largest value, so that no square overflows or vanishes.
pub(super) fn participation(values: &[f64]) -> Option<f64> {
    let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return None;
    }
    let (sum, squares) =
        values.iter().map(|value| value / largest).fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    Some(sum * sum / squares)
}
