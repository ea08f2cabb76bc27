//! Which model describes best how the singular values fall.

use super::{RankModel, fit};

/// A mean square residual below this is rounding noise and counts as this \[source\].
const LEAST_MEAN_SQUARE: f64 = 1e-24;

/// The model of y = ln sigma_k, k = 1…n, with the lowest n·ln(RSS/n) + p·ln n; the earlier of those that tie. None for
/// fewer than 5 values.
pub(super) fn rank_model(y: &[f64]) -> Option<RankModel> {
    let n = y.len() as f64;
    let log_rank = fit::log_ranks(y.len());
    let rank: Vec<f64> = (1..=y.len()).map(|k| k as f64).collect();
    let power_law = residuals(&log_rank, y)?;
    let exponential = residuals(&rank, y)?;
    // The quadratic fit in two steps: what the line leaves of y, on what the line leaves of (ln k)².
    let square: Vec<f64> = log_rank.iter().map(|x| x * x).collect();
    let log_normal = residuals(&residuals(&log_rank, &square)?, &power_law)?;
    let criterion = |residuals: &[f64], parameters: f64| {
        let mean_square = residuals.iter().map(|r| r * r).sum::<f64>() / n;
        n * mean_square.max(LEAST_MEAN_SQUARE).ln() + parameters * n.ln()
    };
    let mut best = (RankModel::PowerLaw, criterion(&power_law, 2.0));
    for (model, value) in
        [(RankModel::Exponential, criterion(&exponential, 2.0)), (RankModel::LogNormal, criterion(&log_normal, 3.0))]
    {
        if value < best.1 {
            best = (model, value);
        }
    }
    Some(best.0)
}

fn residuals(x: &[f64], y: &[f64]) -> Option<Vec<f64>> {
    let line = fit::line(x, y)?;
    Some(x.iter().zip(y).map(|(x, y)| y - line.at(*x)).collect())
}
