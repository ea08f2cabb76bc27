//! Names, units and definitions of every scalar edge reading and every detector: what REST, `/docs` and rollups use.

use crate::detectors::Detector;

/// Where a definition comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The source's own definition.
    Source,
    /// Only found in the source's published code.
    SourceCode,
    /// Ours, where the source is silent or contradicts itself.
    Ours,
}

impl Tag {
    /// `source`, `source's code` or `ours`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::SourceCode => "source's code",
            Self::Ours => "ours",
        }
    }
}

/// One scalar reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name: `edge.ratio`, `update.norm_z`.
    pub name: &'static str,
    /// Name within a readings row and for `EdgeReading::value`: `ratio`, `norm_z`.
    pub short: &'static str,
    /// Unit; `1` for a pure number, `u` for the unit of a parameter update.
    pub unit: &'static str,
    /// One line.
    pub definition: &'static str,
    /// Where the definition comes from.
    pub tag: Tag,
    /// Whether rollups are kept.
    pub headline: bool,
}

/// One detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetectorInfo {
    /// Which.
    pub detector: Detector,
    /// Full name: `edge.regime`.
    pub name: &'static str,
    /// Default rule in one line.
    pub rule: &'static str,
}

macro_rules! metrics {
    ($($name:literal, $short:literal, $unit:literal, $tag:ident, $headline:literal, $definition:literal;)*) => {
        &[$(Metric {
            name: $name, short: $short, unit: $unit, definition: $definition, tag: Tag::$tag, headline: $headline,
        },)*]
    };
}

/// Every scalar edge reading. `sigma_j` is also served for j up to the window length.
pub const EDGE_METRICS: &[Metric] = metrics! {
    "edge.update_norm", "update_norm", "u", Ours, true, "Norm of the newest update.";
    "update.norm_z", "norm_z", "1", Ours, true,
        "(ln of the update norm - median) / max(1.4826 MAD, 0.1) over the previous 16 to 64 updates.";
    "edge.sigma_1", "sigma_1", "u", Source, false, "First singular value of the window of updates.";
    "edge.sigma_2", "sigma_2", "u", Source, false, "Second singular value of the window of updates.";
    "edge.sigma_3", "sigma_3", "u", Source, false, "Third singular value of the window of updates.";
    "edge.modes", "modes", "count", Source, false, "Non-zero modes: eigenvalues above W 1e-14 lambda_1.";
    "edge.position", "position", "count", SourceCode, true,
        "k*, rule mass: argmax (sigma_j / sum sigma) (sigma_j / sigma_{j+1}).";
    "edge.position_plain", "position_plain", "count", Source, false, "k*, rule plain: argmax sigma_j / sigma_{j+1}.";
    "edge.position_edge", "position_edge", "count", Ours, false,
        "Rule plain over positions whose lambda exceeds noise_edge_mean.";
    "edge.position_edge_published", "position_edge_published", "count", SourceCode, false,
        "Rule plain over positions whose lambda exceeds noise_edge.";
    "edge.ratio", "ratio", "1", Source, true, "Gap ratio sigma_k* / sigma_{k*+1}.";
    "edge.ratio_1", "ratio_1", "1", Source, true, "sigma_1 / sigma_2.";
    "edge.ratio_2", "ratio_2", "1", Source, true, "sigma_2 / sigma_3.";
    "edge.ratio_3", "ratio_3", "1", Source, true, "sigma_3 / sigma_4.";
    "edge.gap", "gap", "u", Source, true, "Gap g = sigma_k* - sigma_{k*+1}.";
    "edge.gap23", "gap23", "u^2", Source, true, "lambda_2 - lambda_3.";
    "edge.gap23_rel", "gap23_rel", "1", Ours, true, "(lambda_2 - lambda_3) / sum lambda.";
    "edge.gram_change", "gram_change", "u^2", Ours, true,
        "Frobenius norm of the exact change of X^T X between consecutive windows.";
    "edge.gram_change_spectral", "gram_change_spectral", "u^2", SourceCode, false,
        "Euclidean norm of the change of the spectrum: a lower bound of gram_change, blind to rotation.";
    "edge.adiabatic", "adiabatic", "1/eta", Source, true, "A = gram_change / (eta g^2), eta the learning rate.";
    "edge.instability", "instability", "1", Ours, true,
        "A0 = gram_change / g^2 = eta A; below 1 the subspace is stable, above 1 says nothing.";
    "edge.dk", "dk", "1", Ours, true, "Davis-Kahan ratio gram_change / (lambda_k* - lambda_{k*+1}).";
    "edge.alpha_1", "alpha_1", "1", Ours, false,
        "max(0, 1 - gram_change^2 / gap_1^2), gap_1 the distance of lambda_1 to its neighbour.";
    "edge.alpha_2", "alpha_2", "1", Ours, false, "The same for lambda_2: 0 in almost every real window.";
    "edge.alpha_3", "alpha_3", "1", Ours, false, "The same for lambda_3: 0 in almost every real window.";
    "edge.alpha_spectral_1", "alpha_spectral_1", "1", SourceCode, false, "alpha_1 with gram_change_spectral.";
    "edge.alpha_spectral_2", "alpha_spectral_2", "1", SourceCode, false, "alpha_2 with gram_change_spectral.";
    "edge.alpha_spectral_3", "alpha_spectral_3", "1", SourceCode, false, "alpha_3 with gram_change_spectral.";
    "edge.overlap_1", "overlap_1", "1", Source, false,
        "Absolute cosine of the first right singular vector with that of the window before.";
    "edge.overlap_2", "overlap_2", "1", Source, false, "The same for the second right singular vector.";
    "edge.overlap_3", "overlap_3", "1", Source, false, "The same for the third right singular vector.";
    "edge.drift", "drift", "u", Source, true, "Norm of the mean update of the window.";
    "edge.pc1", "pc1", "1", Source, true, "lambda_1 / sum lambda.";
    "edge.entropy_rank", "entropy_rank", "modes", Source, true, "exp(-sum q ln q), q = lambda / sum lambda.";
    "edge.participation", "participation", "modes", Source, true, "(sum lambda)^2 / sum lambda^2.";
    "edge.k95", "k95", "count", Source, false, "Modes that hold 95 % of sum lambda.";
    "edge.noise_edge", "noise_edge", "u^2", Source, false,
        "nu^2 p (1 + sqrt(W/p))^2, nu^2 from the lower half of lambda: for parity only, noise exceeds it in 98 %.";
    "edge.noise_edge_mean", "noise_edge_mean", "u^2", Ours, false,
        "mean(lambda) (1 + sqrt(W/p'))^2, 1/p' = 1/p + 1/d for sketched rows: noise exceeds it in about 10 %.";
    "edge.bbp_ratio", "bbp_ratio", "1", Source, false,
        "sigma_W / (nu (p (W-1))^(1/4)): vacuous by design, far above 1 also for pure noise.";
    "edge.gap_flow_rate", "gap_flow_rate", "1/step", Ours, false,
        "-a of the fit dg/dt = a g + b over the last 4W readings (at least max(10, 2W)), at the present k*.";
    "edge.gap_flow_equilibrium", "gap_flow_equilibrium", "u", Ours, false, "-b/a of that fit.";
    "edge.gap_flow_r2", "gap_flow_r2", "1", Ours, false, "R^2 of that fit.";
    "edge.gap_flow_curvature", "gap_flow_curvature", "u/step", Source, false,
        "-eta (h_k* - h_{k*+1}) (sigma_k* + sigma_{k*+1}) / 2, from curvatures h that the job sends.";
    "edge.gap_flow_damping", "gap_flow_damping", "u/step", Source, false,
        "-eta ((h_k* + h_{k*+1}) / 2 + omega) g, omega the weight decay.";
    "edge.gap_flow_driving", "gap_flow_driving", "u/step", Source, false,
        "eta W (G_k*^2 / sigma_k* - G_{k*+1}^2 / sigma_{k*+1}), from gradient projections G that the job sends.";
    "edge.gap_flow_r2_unit", "gap_flow_r2_unit", "1", Ours, false,
        "R^2 of dg/dt against the sum of these three, over the last 4W readings that have them (at least max(10, 2W)).";
    "edge.gap_flow_r2_free", "gap_flow_r2_free", "1", Ours, false,
        "The same with the least-squares coefficient of each.";
    "edge.loss_terms_1", "loss_terms_1", "(loss/u)^2", SourceCode, false,
        "alpha_1 G_1^train G_1^val, from gradient projections that the job sends.";
    "edge.loss_terms_2", "loss_terms_2", "(loss/u)^2", SourceCode, false, "The same for the second right singular vector.";
    "edge.loss_terms_3", "loss_terms_3", "(loss/u)^2", SourceCode, false, "The same for the third right singular vector.";
};

/// The catalogue entry of a full (`edge.ratio`) metric name.
pub fn edge_metric(name: &str) -> Option<&'static Metric> {
    EDGE_METRICS.iter().find(|metric| metric.name == name)
}

const fn info(detector: Detector, name: &'static str, rule: &'static str) -> DetectorInfo {
    DetectorInfo { detector, name, rule }
}

/// The detectors with their default rules. The thresholds are ours.
pub const DETECTORS: &[DetectorInfo] = &[
    info(
        Detector::EdgeRegime,
        "edge.regime",
        "ln dk above its past's median by l = min(max(ln 3, 4 spreads), ln 8): transition; by ln 10 more: forgetting; 20 % of l \
         lower on the way back; max(3, W/2) readings in a row confirm; a state held for 4W readings is the new plateau.",
    ),
    info(
        Detector::GapOpening,
        "edge.gap_opening",
        "ln ratio_1 or ln(gap23_rel + 0.05) above its past's median by more than max(ln 2.5, 4 spreads) for 3 readings, \
         or by more than max(ln 2, 4 spreads) for W + 1 readings.",
    ),
    info(
        Detector::GapCollapse,
        "edge.gap_collapse",
        "ln ratio_1 or ln(gap23_rel + 0.05) below its past's median by more than max(ln 2.5, 4 spreads) for 3 readings, \
         or by more than max(ln 2, 4 spreads) for W + 1 readings.",
    ),
    info(
        Detector::PositionChange,
        "edge.position_change",
        "One same k* other than the confirmed one, its score above 1.5 times the confirmed position's, for max(3, W/2) \
         readings in a row.",
    ),
    info(
        Detector::Rotation,
        "edge.rotation",
        "overlap_1 below 0.5 in one reading while each of the previous W + 1 ratio_1 > 2 and the median of the previous W \
         overlaps > 0.9; then W readings of rest.",
    ),
    info(
        Detector::UpdateSpike,
        "update.spike",
        "update.norm_z above 6 and the norm above 3 times the median of those before; one event until norm_z is below 3.",
    ),
    info(
        Detector::CascadeShift,
        "cascade.shift",
        "phi, nest_dimension or branching off the median of the 32 to 256 readings before by more than max(0.001, 4.5 spreads) \
         for 3 readings on one side.",
    ),
    info(
        Detector::DeadCountChange,
        "dead_directions.count_change",
        "One same count_gap other than the confirmed one for 3 readings in a row with the same kept; gap_nats > 3 for a count \
         of at least 1, gap_nats < 2 for 0.",
    ),
    info(
        Detector::CurvatureShift,
        "curvature.shift",
        "exponent off the confirmed one by more than max(0.1, 3 standard errors of the difference) for 2 readings on one side; \
         the newest is then confirmed.",
    ),
];
