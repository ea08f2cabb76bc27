//! What only the job can know about the edge: curvatures of the loss and projections of its gradients, and the terms of
//! the gap's flow and of the loss that they make (2603.28964, Theorem 14.2).

use super::EdgeReading;

/// Curvatures and projections along the right singular vectors v_j of one window, as the job measured them. All finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeTerms {
    /// k, 1-based and below W: what they are about. They are used where it is the reading's `position`.
    pub position: u32,
    /// h_k and h_{k+1}, h_j = v_jᵀ H v_j.
    pub curvatures: Option<[f64; 2]>,
    /// G_k and G_{k+1}, G_j = ⟨v_j, ∇L⟩.
    pub projections: Option<[f64; 2]>,
    /// G_j of the training and of the validation gradient, j = 1 to 3.
    pub loss_projections: Option<[[f64; 3]; 2]>,
}

impl EdgeReading {
    /// Adds the terms to a reading that `EdgeStream` has made: `gap_flow_curvature`, `gap_flow_damping`,
    /// `gap_flow_driving` and `loss_terms`. `learning_rate` (eta) and `weight_decay` (omega) are those of the newest row.
    ///
    /// Terms about another position than the reading's say nothing about its gap and are left out. A term is null where
    /// what it is made of was not sent, where eta is unknown (the damping also where omega is), and where it is not
    /// finite.
    pub fn add_terms(&mut self, terms: &EdgeTerms, learning_rate: Option<f64>, weight_decay: Option<f64>) {
        let k = terms.position as usize;
        if self.position != Some(terms.position) || k == 0 {
            return;
        }
        if let (Some(alpha), Some([training, validation])) = (self.alpha, terms.loss_projections) {
            let product = |j: usize| alpha[j].map(|alpha| alpha * training[j] * validation[j]).and_then(finite);
            self.loss_terms = Some(std::array::from_fn(product));
        }
        let Some(&[sigma, next_sigma]) = self.sigma.as_deref().and_then(|sigma| sigma.get(k - 1..=k)?.first_chunk())
        else {
            return;
        };
        let Some(eta) = learning_rate.and_then(finite) else { return };
        let gap = sigma - next_sigma;
        if let Some([h, next_h]) = terms.curvatures {
            self.gap_flow_curvature = finite(-eta * (h - next_h) * (0.5 * (sigma + next_sigma)));
            self.gap_flow_damping = weight_decay.and_then(|omega| finite(-eta * (0.5 * (h + next_h) + omega) * gap));
        }
        if let Some([projection, next_projection]) = terms.projections {
            let difference = projection * projection / sigma - next_projection * next_projection / next_sigma;
            self.gap_flow_driving = finite(eta * self.window as f64 * difference);
        }
    }

    /// The three terms of the gap's flow, where all are defined, and their position.
    pub(crate) fn flow_terms(&self) -> Option<(u32, [f64; 3])> {
        Some((self.position?, [self.gap_flow_curvature?, self.gap_flow_damping?, self.gap_flow_driving?]))
    }
}

/// The value, unless it is NaN or infinite.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
