//! One reading of the edge instrument.

use serde::{Deserialize, Serialize};

/// What the edge instrument says of one window at one step.
///
/// Null (none), never 0 or infinity, where a value is undefined; no field is ever NaN or infinite:
/// - everything but `update_norm` (and `norm_z`) in a window of fewer than W rows;
/// - everything but `sigma`, `update_norm` and `drift` (0) when lambda_1 = 0;
/// - `gram_change`, `gram_change_spectral`, `adiabatic`, `instability`, `dk`, `alpha`, `alpha_spectral` and `overlap` in
///   the first full window; `alpha_j` and `overlap_j` beyond `modes`; `ratio_3` for W < 4;
/// - `adiabatic` alone when the learning rate is 0 or unknown; `adiabatic`, `instability` and `dk` when the gap is 0;
/// - the flow's terms and `loss_terms` where the job did not send what they are made of, see [`Self::add_terms`].
///
/// Units: sigma and gap are those of the update norm, lambda those of its square. Positions are 1-based.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeReading {
    /// Declared window length W, rows.
    pub window: usize,
    /// Rows in the window, at most W; fewer while it fills.
    pub rows: u32,
    /// ‖delta_t‖ of the newest row \[ours\].
    pub update_norm: f64,
    /// (ln‖delta_t‖ − median)/max(1.4826·MAD, 0.1) over the previous 16 to 64 updates \[ours\]; filled by `Followers`.
    pub norm_z: Option<f64>,
    /// sigma_1 ≥ … ≥ sigma_W \[source\].
    pub sigma: Option<Vec<f64>>,
    /// Non-zero modes: eigenvalues above W·1e−14·lambda_1.
    pub modes: Option<u32>,
    /// k*, rule `mass`: argmax (sigma_j/Σ sigma)·(sigma_j/sigma_{j+1}) \[source's code\].
    pub position: Option<u32>,
    /// Rule `plain`: argmax sigma_j/sigma_{j+1} \[source, abstract\].
    pub position_plain: Option<u32>,
    /// Rule `plain` over positions whose lambda exceeds `noise_edge_mean` \[ours\].
    pub position_edge: Option<u32>,
    /// Rule `plain` over positions whose lambda exceeds `noise_edge` \[source's code\].
    pub position_edge_published: Option<u32>,
    /// sigma_k*/sigma_{k*+1} \[source\].
    pub ratio: Option<f64>,
    /// sigma_1/sigma_2 \[source\].
    pub ratio_1: Option<f64>,
    /// sigma_2/sigma_3 \[source\].
    pub ratio_2: Option<f64>,
    /// sigma_3/sigma_4 \[source\].
    pub ratio_3: Option<f64>,
    /// g = sigma_k* − sigma_{k*+1} \[source\].
    pub gap: Option<f64>,
    /// lambda_2 − lambda_3 \[source\].
    pub gap23: Option<f64>,
    /// (lambda_2 − lambda_3)/Σ lambda \[ours\].
    pub gap23_rel: Option<f64>,
    /// ‖ΔG‖_F, the exact change of XᵀX between consecutive windows \[ours\].
    pub gram_change: Option<f64>,
    /// sqrt(Σ (lambda_j(t) − lambda_j(t−1))²) \[source's code\]: a lower bound, blind to rotation.
    pub gram_change_spectral: Option<f64>,
    /// A = ‖ΔG‖_F/(eta g²) \[source\].
    pub adiabatic: Option<f64>,
    /// A0 = ‖ΔG‖_F/g² = eta·A \[ours\].
    pub instability: Option<f64>,
    /// ‖ΔG‖_F/(lambda_k* − lambda_{k*+1}), the Davis–Kahan ratio \[ours\].
    pub dk: Option<f64>,
    /// max(0, 1 − gram_change²/gap_j²), j = 1..3 \[ours\].
    pub alpha: Option<[Option<f64>; 3]>,
    /// max(0, 1 − gram_change_spectral²/gap_j²), j = 1..3 \[source's code\].
    pub alpha_spectral: Option<[Option<f64>; 3]>,
    /// |⟨v_j(t−1), v_j(t)⟩|, j = 1..3 \[source\].
    pub overlap: Option<[Option<f64>; 3]>,
    /// Whether `overlap_j` means nothing because lambda_j is nearly equal to a neighbour in either window: the two differ
    /// by less than 1e−6 of lambda_1.
    pub overlap_unresolved: [bool; 3],
    /// sqrt(max(0, Σ_ij G_ij))/W, the norm of the mean update \[source\].
    pub drift: Option<f64>,
    /// lambda_1/Σ lambda \[source\].
    pub pc1: Option<f64>,
    /// exp(−Σ q ln q), q = lambda/Σ lambda \[source\].
    pub entropy_rank: Option<f64>,
    /// (Σ lambda)²/Σ lambda² \[source\].
    pub participation: Option<f64>,
    /// Modes that hold 95 % of Σ lambda \[source\].
    pub k95: Option<u32>,
    /// nu² p (1 + sqrt(W/p))² \[source\]: for parity only, pure noise exceeds it in 98 % of windows.
    pub noise_edge: Option<f64>,
    /// mean(lambda)(1 + sqrt(W/p'))² \[ours\].
    pub noise_edge_mean: Option<f64>,
    /// sigma_W/(nu (p(W−1))^¼) \[source\]: vacuous by design.
    pub bbp_ratio: Option<f64>,
    /// −a of dg/dt = a·g + b over the last 4W readings, per optimizer step \[fit ours\]; filled by `Followers`.
    pub gap_flow_rate: Option<f64>,
    /// −b/a, the gap the flow tends to \[fit ours\]; filled by `Followers`.
    pub gap_flow_equilibrium: Option<f64>,
    /// R² of that fit \[fit ours\]; filled by `Followers`.
    pub gap_flow_r2: Option<f64>,
    /// −eta(h_k* − h_{k*+1})·(sigma_k* + sigma_{k*+1})/2, the part of dg/dt that the loss's curvature makes \[source\]; of what
    /// the job sent, like the next two.
    pub gap_flow_curvature: Option<f64>,
    /// −eta((h_k* + h_{k*+1})/2 + omega)·g, omega the weight decay \[source\].
    pub gap_flow_damping: Option<f64>,
    /// eta·W(G_k*²/sigma_k* − G_{k*+1}²/sigma_{k*+1}) \[source\].
    pub gap_flow_driving: Option<f64>,
    /// R² of dg/dt against the sum of the three terms, over the last 4W readings that have them and a dg/dt, those at the
    /// present position \[fit ours\]; filled by `Followers` where the reading has the terms.
    pub gap_flow_r2_unit: Option<f64>,
    /// The same with the terms' least-squares coefficients \[fit ours\].
    pub gap_flow_r2_free: Option<f64>,
    /// alpha_j·G_j^train·G_j^val, j = 1..3, of what the job sent \[source's code\].
    pub loss_terms: Option<[Option<f64>; 3]>,
}

impl EdgeReading {
    /// A reading of a window with `rows` rows that so far knows nothing but its newest update's norm.
    pub(super) fn empty(window: usize, rows: u32, update_norm: f64) -> Self {
        Self {
            window,
            rows,
            update_norm,
            norm_z: None,
            sigma: None,
            modes: None,
            position: None,
            position_plain: None,
            position_edge: None,
            position_edge_published: None,
            ratio: None,
            ratio_1: None,
            ratio_2: None,
            ratio_3: None,
            gap: None,
            gap23: None,
            gap23_rel: None,
            gram_change: None,
            gram_change_spectral: None,
            adiabatic: None,
            instability: None,
            dk: None,
            alpha: None,
            alpha_spectral: None,
            overlap: None,
            overlap_unresolved: [false; 3],
            drift: None,
            pc1: None,
            entropy_rank: None,
            participation: None,
            k95: None,
            noise_edge: None,
            noise_edge_mean: None,
            bbp_ratio: None,
            gap_flow_rate: None,
            gap_flow_equilibrium: None,
            gap_flow_r2: None,
            gap_flow_curvature: None,
            gap_flow_damping: None,
            gap_flow_driving: None,
            gap_flow_r2_unit: None,
            gap_flow_r2_free: None,
            loss_terms: None,
        }
    }

    /// Whether the window still fills: fewer than W rows.
    pub fn is_warming(&self) -> bool {
        (self.rows as usize) < self.window
    }

    /// A scalar reading by its short catalogue name: `ratio`, `alpha_1`, `overlap_3`, `norm_z`; also `sigma_j` for every
    /// j = 1..W. None when the reading has no such value, or the name is unknown.
    pub fn value(&self, metric: &str) -> Option<f64> {
        let count = |n: Option<u32>| n.map(f64::from);
        match metric {
            "update_norm" => Some(self.update_norm),
            "norm_z" => self.norm_z,
            "modes" => count(self.modes),
            "position" => count(self.position),
            "position_plain" => count(self.position_plain),
            "position_edge" => count(self.position_edge),
            "position_edge_published" => count(self.position_edge_published),
            "ratio" => self.ratio,
            "ratio_1" => self.ratio_1,
            "ratio_2" => self.ratio_2,
            "ratio_3" => self.ratio_3,
            "gap" => self.gap,
            "gap23" => self.gap23,
            "gap23_rel" => self.gap23_rel,
            "gram_change" => self.gram_change,
            "gram_change_spectral" => self.gram_change_spectral,
            "adiabatic" => self.adiabatic,
            "instability" => self.instability,
            "dk" => self.dk,
            "drift" => self.drift,
            "pc1" => self.pc1,
            "entropy_rank" => self.entropy_rank,
            "participation" => self.participation,
            "k95" => count(self.k95),
            "noise_edge" => self.noise_edge,
            "noise_edge_mean" => self.noise_edge_mean,
            "bbp_ratio" => self.bbp_ratio,
            "gap_flow_rate" => self.gap_flow_rate,
            "gap_flow_equilibrium" => self.gap_flow_equilibrium,
            "gap_flow_r2" => self.gap_flow_r2,
            "gap_flow_curvature" => self.gap_flow_curvature,
            "gap_flow_damping" => self.gap_flow_damping,
            "gap_flow_driving" => self.gap_flow_driving,
            "gap_flow_r2_unit" => self.gap_flow_r2_unit,
            "gap_flow_r2_free" => self.gap_flow_r2_free,
            _ => self.indexed(metric),
        }
    }

    /// `alpha_j`, `alpha_spectral_j`, `overlap_j`, `loss_terms_j`, `sigma_j`.
    fn indexed(&self, metric: &str) -> Option<f64> {
        let (name, index) = metric.rsplit_once('_')?;
        let at = index.parse::<usize>().ok()?.checked_sub(1)?;
        match name {
            "alpha" => *self.alpha.as_ref()?.get(at)?,
            "alpha_spectral" => *self.alpha_spectral.as_ref()?.get(at)?,
            "overlap" => *self.overlap.as_ref()?.get(at)?,
            "loss_terms" => *self.loss_terms.as_ref()?.get(at)?,
            "sigma" => self.sigma.as_ref()?.get(at).copied(),
            _ => None,
        }
    }
}
