//! The papers' D(t): cascade size against model width, over the runs of one family.

use serde::{Deserialize, Serialize};

use super::line::{LogFit, mean};
use crate::{layers::Reason, random::SplitMix64, statistics::bootstrap_interval};

/// Fewest widths of a published dimension.
const FEWEST_WIDTHS: usize = 4;
/// Lowest R² of a published dimension.
const LOWEST_R2: f64 = 0.9;
/// Bootstrap resamples.
const RESAMPLES: usize = 1000;
const BOOTSTRAP_SEED: u64 = 0;

/// The whole-gradient cascade of one run at the aligned step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FleetPoint {
    /// N, the run's parameter count.
    pub parameters: u64,
    /// Which run of that width. Several points of one run (a window of steps) count as one, their mean.
    pub run: u64,
    /// ln s: `whole_ln_size`.
    pub ln_size: f64,
}

/// How cascade size grows with width: s ~ N^D.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetDimension {
    /// Why there is no dimension.
    pub reason: Option<Reason>,
    /// Different parameter counts.
    pub widths: u64,
    /// Runs of all widths.
    pub runs: u64,
    /// Share of the variance over widths that the fit explains; null with fewer than two widths or equal sizes.
    pub r2: Option<f64>,
    /// D: slope of the mean of ln s on ln N \[source\]. Null with fewer than 4 widths or R² < 0.9.
    pub dimension: Option<f64>,
    /// Lower end of its 95 % interval: 2.5th percentile of 1,000 bootstrap resamples of the runs within each width. Null
    /// when a width has a single run, which cannot be resampled \[ours\].
    pub low: Option<f64>,
    /// Upper end, the 97.5th percentile.
    pub high: Option<f64>,
    /// D without one of the widths, each in turn; empty where D is null.
    pub leave_one_out: Vec<LeftOut>,
}

/// The dimension without one width.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// N of the width left out.
    pub parameters: u64,
    /// D over the others.
    pub dimension: f64,
}

/// `fleet_dimension` over the runs of one family at one aligned step \[source: slope, bootstrap over seeds and
/// leave-one-width-out\]. The order of the points changes nothing.
///
/// Not `nest_dimension`: on modular addition this one falls where that one rises.
#[must_use]
pub fn fleet_dimension(points: &[FleetPoint]) -> FleetDimension {
    let refused = |reason| FleetDimension { reason: Some(reason), ..Default::default() };
    if points.is_empty() {
        return refused(Reason::Empty);
    }
    if points.iter().any(|point| !point.ln_size.is_finite()) {
        return refused(Reason::NonFinite);
    }
    if points.iter().any(|point| point.parameters == 0) {
        return refused(Reason::Inconsistent);
    }
    let widths = by_width(points);
    let means: Vec<f64> = widths.iter().map(|width| mean(&width.runs)).collect();
    let found = FleetDimension {
        widths: widths.len() as u64,
        runs: widths.iter().map(|width| width.runs.len() as u64).sum(),
        ..Default::default()
    };
    if widths.len() < 2 {
        return FleetDimension { reason: Some(Reason::TooFewWidths), ..found };
    }
    let fit = fit_of(&widths);
    let r2 = fit.r2(&means);
    let reason = if widths.len() < FEWEST_WIDTHS {
        Some(Reason::TooFewWidths)
    } else if r2.is_none_or(|r2| r2 < LOWEST_R2) {
        Some(Reason::PoorFit)
    } else {
        None
    };
    if reason.is_some() {
        return FleetDimension { reason, r2, ..found };
    }
    let interval = bootstrap(&widths, &fit);
    FleetDimension {
        r2,
        dimension: Some(fit.slope(&means)),
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        leave_one_out: leave_one_out(&widths, &means),
        ..found
    }
}

/// The runs of one width.
#[derive(Debug, Clone)]
struct Width {
    parameters: u64,
    /// ln s of each run.
    runs: Vec<f64>,
}

/// Ascending in width, then run, whatever the order of the points: sums and draws depend on nothing else.
fn by_width(points: &[FleetPoint]) -> Vec<Width> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| (a.parameters, a.run).cmp(&(b.parameters, b.run)).then(a.ln_size.total_cmp(&b.ln_size)));
    let of_width = |points: &[FleetPoint]| Width {
        parameters: points[0].parameters,
        runs: points
            .chunk_by(|a, b| a.run == b.run)
            .map(|run| mean(&run.iter().map(|point| point.ln_size).collect::<Vec<_>>()))
            .collect(),
    };
    points.chunk_by(|a, b| a.parameters == b.parameters).map(of_width).collect()
}

fn fit_of<'a>(widths: impl IntoIterator<Item = &'a Width>) -> LogFit {
    LogFit::on(widths.into_iter().map(|width| width.parameters as f64))
}

/// 95 % percentile interval of the slope.
fn bootstrap(widths: &[Width], fit: &LogFit) -> Option<(f64, f64)> {
    if widths.iter().any(|width| width.runs.len() < 2) {
        return None;
    }
    let resampled_mean = |width: &Width, random: &mut SplitMix64| {
        let count = width.runs.len();
        (0..count).map(|_| width.runs[random.below(count)]).sum::<f64>() / count as f64
    };
    Some(bootstrap_interval(BOOTSTRAP_SEED, RESAMPLES, |random| {
        fit.slope(&widths.iter().map(|width| resampled_mean(width, random)).collect::<Vec<_>>())
    }))
}

fn leave_one_out(widths: &[Width], means: &[f64]) -> Vec<LeftOut> {
    let without = |left_out: usize| {
        let others = || (0..widths.len()).filter(|at| *at != left_out);
        let fit = fit_of(others().map(|at| &widths[at]));
        LeftOut {
            parameters: widths[left_out].parameters,
            dimension: fit.slope(&others().map(|at| means[at]).collect::<Vec<_>>()),
        }
    };
    (0..widths.len()).map(without).collect()
}
