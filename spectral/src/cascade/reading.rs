//! What the cascade says of one snapshot.

use crate::layers::{Reason, field::reading};

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
        phi: f64, "1", Source, "Mean cascade fraction s/N over the windows, N = 4096.";
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
