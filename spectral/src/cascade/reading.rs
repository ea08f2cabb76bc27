//! What the cascade says of one snapshot.

use super::{
    CascadeSnapshot, WINDOW_VALUES, WholeGradient,
    kernel::Cascade,
    line::mean,
    nest::{Nest, NestLayout, nest},
    threshold::threshold,
    whole::whole_cascade,
};
use crate::{
    layers::{Reason, field::reading},
    random::SplitMix64,
};

/// The permutation of `nest_shuffled` is the same for every snapshot of as many values.
const SHUFFLE_SEED: u64 = 0;

reading! {
    /// A reading of the cascade instrument.
    CascadeReading {
        reason: Reason, "word", Ours, "Why values are missing.";
        windows: u64, "count", Ours, "R, the windows that were read.";
        threshold: f64, "1", Source, "theta, the 0.9-quantile of the magnitudes in units of their tensor's RMS.";
        nest_dimension: f64, "1", Ours,
            "D = 1 + b - b0: slope of the mean log cascade size over block sizes 128 to 4096, against iid Gaussian values. Not the papers' D(t): on modular addition it rises where fleet_dimension falls.";
        nest_se: f64, "1", Ours, "Standard error of nest_dimension: jackknife over windows.";
        nest_z: f64, "1", Ours, "(b - b0)/sd0, where the null is tabulated.";
        nest_shuffled: f64, "1", Ours,
            "nest_dimension after one seeded permutation: nest_shuffled - 1 is the tail part, nest_dimension - nest_shuffled the arrangement part.";
        phi: f64, "1", Source, "Mean cascade fraction s/N over the windows, N = N_K (4096).";
        branching: f64, "1", Source, "1 - mean(s0/s) over the windows with a cascade.";
        duration: f64, "sweeps", Source, "Mean number of sweeps T.";
        v_rel: f64, "1", Source, "Mean s/(T N).";
        whole_sites: u64, "count", Source, "N of the whole gradient, for fleet_dimension.";
        whole_ln_size: f64, "1", Source,
            "ln s of the whole gradient on a Barabasi-Albert graph (m = 2, alpha = 1, at most 20 N topplings).";
        whole_phi: f64, "1", Source, "s/N of the whole gradient.";
        whole_capped: bool, "flag", Source, "The whole gradient's cascade was stopped at 20 N topplings.";
    }
}

/// What the instrument says of a snapshot. A part that cannot be read is null, with the reason of the first such part; the
/// other part is read all the same.
#[must_use]
pub fn reading(snapshot: &CascadeSnapshot) -> CascadeReading {
    let mut reading = CascadeReading::default();
    if snapshot.windows.is_empty() && snapshot.whole.is_none() {
        reading.reason = Some(Reason::Empty);
    }
    if !snapshot.windows.is_empty() {
        reading.reason = read_windows(&snapshot.windows, &mut reading).err();
    }
    if let Some(whole) = &snapshot.whole {
        let reason = read_whole(whole, &mut reading).err();
        reading.reason = reading.reason.or(reason);
    }
    reading
}

/// Fills what the windows say, all or nothing.
fn read_windows(windows: &[Vec<f64>], reading: &mut CascadeReading) -> Result<(), Reason> {
    let mut values = windows.concat();
    // Of all values before anything else: bad values are bad in windows of any length.
    let threshold = threshold(&values)?;
    let length = windows[0].len();
    if windows.iter().any(|window| window.len() != length) {
        return Err(Reason::Inconsistent);
    }
    let layout =
        NestLayout::of(length).ok_or(if length < WINDOW_VALUES { Reason::TooSmall } else { Reason::Inconsistent })?;

    let found = nest(&values, layout, threshold);
    let dimension = |nest: &Nest| 1.0 + nest.slope - layout.null_slope;
    reading.windows = Some(windows.len() as u64);
    reading.threshold = Some(threshold);
    reading.nest_dimension = Some(dimension(&found));
    reading.nest_se = found.slope_se;
    reading.nest_z =
        (windows.len() == NestLayout::NULL_WINDOWS).then(|| (found.slope - layout.null_slope) / layout.null_sd);

    let sites = length as f64;
    let mean_of = |of: &dyn Fn(&Cascade) -> f64| mean(&found.largest.iter().map(of).collect::<Vec<_>>());
    reading.phi = Some(mean_of(&|cascade| cascade.topplings as f64 / sites));
    reading.duration = Some(mean_of(&|cascade| cascade.sweeps as f64));
    reading.v_rel = Some(mean_of(&|cascade| match cascade.sweeps {
        0 => 0.0,
        sweeps => cascade.topplings as f64 / (sweeps as f64 * sites),
    }));
    reading.branching = branching(&found.largest);

    SplitMix64::new(SHUFFLE_SEED).shuffle(&mut values);
    reading.nest_shuffled = Some(dimension(&nest(&values, layout, threshold)));
    Ok(())
}

/// 1 − mean(s0/s) over the windows with a cascade; none without any.
fn branching(cascades: &[Cascade]) -> Option<f64> {
    let started: Vec<f64> = cascades
        .iter()
        .filter(|cascade| cascade.topplings > 0)
        .map(|cascade| cascade.initial as f64 / cascade.topplings as f64)
        .collect();
    (!started.is_empty()).then(|| 1.0 - mean(&started))
}

/// Fills what the whole gradient says, all or nothing.
fn read_whole(whole: &WholeGradient, reading: &mut CascadeReading) -> Result<(), Reason> {
    match whole {
        WholeGradient::Entries(entries) => {
            let cascade = whole_cascade(entries)?;
            let (sites, size) = (entries.len() as u64, cascade.topplings as f64);
            reading.whole_sites = Some(sites);
            // The largest entry is never below the quantile: s is at least 1.
            reading.whole_ln_size = Some(size.ln());
            reading.whole_phi = Some(size / sites as f64);
            reading.whole_capped = Some(cascade.capped);
        }
        WholeGradient::Fraction { sites, phi } => {
            if *sites == 0 {
                return Err(Reason::Empty);
            }
            if !phi.is_finite() {
                return Err(Reason::NonFinite);
            }
            if *phi < 0.0 {
                return Err(Reason::Negative);
            }
            reading.whole_sites = Some(*sites);
            // No cascade, no logarithm. The sum of two, because a product might overflow.
            reading.whole_ln_size = (*phi > 0.0).then(|| phi.ln() + (*sites as f64).ln());
            reading.whole_phi = Some(*phi);
        }
    }
    Ok(())
}
