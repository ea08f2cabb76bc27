//! The spectral edge of a window of updates (arXiv 2603.28964, 2603.15678): spectrum of the Gram matrix, the gap that
//! stands out in it, and how fast both move.
//!
//! X holds the last W rows, G = X Xᵀ, eigenvalues lambda_1 ≥ … ≥ lambda_W, singular values sigma_j = sqrt(lambda_j).
//! These statistics co-vary with regime changes in the authors' runs; they are readings, not predictions. A row that
//! merely repeats part of the row before (autocorrelated noise, rho = 0.9, no structure at all) already gives
//! `ratio_1` = 2.25 at W = 10 and 1.68 at W = 20.

mod flow_terms;
mod gap_flow;
mod instrument;
mod noise;
mod offline;
mod position;
mod reading;
mod spectrum;
mod stream;
mod terms;

pub(crate) use gap_flow::GapFlow;
pub use offline::{edge_readings, edge_readings_from_dots};
pub use position::PositionRule;
pub(crate) use position::mass_score;
pub use reading::EdgeReading;
pub(crate) use spectrum::power_of_two_below;
pub use stream::EdgeStream;
pub use terms::EdgeTerms;

use serde::{Deserialize, Serialize};

/// What the edge instrument must know of a stream besides its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeParams {
    /// Window length W in rows, 3..=64. 10 is the paper's; 20 has fewer false alarms (2605.08119).
    pub window: usize,
    /// Parameters of the group, p in the noise edges; at least 1.
    pub parameter_count: u64,
    /// Entries of a sketched row, or none when the rows are exact. Only `noise_edge_mean` uses it.
    pub sketch_dim: Option<u64>,
}

/// Position rules over a bare spectrum of singular values (descending), for tests against printed spectra:
/// (`position`, `position_plain`, `position_edge`, `position_edge_published`, `noise_edge`, `noise_edge_mean`).
#[doc(hidden)]
pub fn positions_of_sigma(
    sigma: &[f64],
    params: EdgeParams,
) -> (Option<u32>, Option<u32>, Option<u32>, Option<u32>, f64, f64) {
    let lambda: Vec<f64> = sigma.iter().map(|s| s * s).collect();
    let edge = noise::noise_edge(&lambda, params.parameter_count);
    let edge_mean = noise::noise_edge_mean(&lambda, params.parameter_count, params.sketch_dim);
    let found = position::positions(sigma, &lambda, edge, edge_mean);
    (found.mass, found.plain, found.edge, found.edge_published, edge, edge_mean)
}

/// alpha_j, j ≤ 3, for eigenvalues (descending) and a squared change: for tests against printed values.
#[doc(hidden)]
pub fn alpha_of_lambda(lambda: &[f64], change: f64) -> [Option<f64>; 3] {
    instrument::alpha(lambda, lambda.len(), change)
}
