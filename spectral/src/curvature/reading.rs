//! What the curvature instrument says of one snapshot.

use crate::layers::{
    Reason,
    field::{reading, words},
};

words! {
    /// A model of how singular values fall with their rank.
    RankModel {
        /// ln sigma_k linear in ln k.
        PowerLaw => "power_law",
        /// ln sigma_k linear in k.
        Exponential => "exponential",
        /// ln sigma_k quadratic in ln k.
        LogNormal => "log_normal",
    }
}

reading! {
    /// A reading of the curvature instrument. Its `exponent` is not what WeightWatcher or Cockpit call alpha.
    CurvatureReading {
        reason: Reason, "word", Ours, "Why values are missing.";
        directions: u64, "count", Source, "K, the directions that were sent.";
        k_eff: u64, "count", Source, "K_eff, the directions with sigma_k > 1e-5 sigma_1.";
        exponent: f64, "1", Source, "alpha: slope of ln h_k on ln sigma_k over k with h_k > 0.";
        exponent_r2: f64, "1", Source, "R^2 of that fit.";
        exponent_se: f64, "1", Ours, "Standard error of that slope.";
        rank_decay: f64, "1", Source, "gamma: minus the slope of ln sigma_k on ln k.";
        rank_decay_r2: f64, "1", Source, "R^2 of that fit.";
        hessian_decay: f64, "1", Source, "s: minus the slope of ln h_(j) on ln j, h > 0 sorted decreasing.";
        hessian_decay_r2: f64, "1", Source, "R^2 of that fit.";
        transfer_error: f64, "1", Source, "|s - alpha gamma|/s: nearly implied by a high exponent_r2, so never to be read without transfer_null.";
        transfer_null: f64, "1", Ours, "Median transfer_error after permuting the residuals of the exponent fit 200 times (seeded).";
        beta: f64, "1", Source, "Slope of ln Lambda_k on ln sigma_k.";
        phi_slope: f64, "1", Source, "Slope of ln Phi_k on ln sigma_k.";
        chi_slope: f64, "1", Source, "Slope of ln chi_k on ln sigma_k.";
        exponent_common: f64, "1", Source, "Slope of ln h_k on ln sigma_k over the same k: beta + phi_slope + chi_slope.";
        concentration: f64, "1", Ours, "Median over k of the sum of products over the product of the two Kronecker factors' means: near 1 the factors are independent (ratio: source).";
        participation: f64, "directions", Source, "(sum h)^2 / sum h^2, h of either sign.";
        participation_zeta_ratio: f64, "1", Source, "participation over zeta(ag)^2/zeta(2ag), ag = alpha gamma > 1: a bound only for exact power laws.";
        participation_gradient: f64, "directions", Source, "(sum sigma)^2 / sum sigma^2.";
        rank_model: RankModel, "word", Source, "Model of ln sigma with the lowest n ln(RSS/n) + p ln n.";
        negative: u64, "count", Source, "Directions with h_k <= 0: normal away from convergence.";
        r2_low: bool, "flag", Source, "exponent_r2 < 0.8.";
        preconditioner: Vec<f64>, "1", Source, "T(sigma_k; alpha) = sigma_k/(sigma_k^alpha + delta), delta = 0.1 sigma_1^alpha, for the K_eff directions by decreasing sigma: a suggestion for optimizers.";
    }
}
