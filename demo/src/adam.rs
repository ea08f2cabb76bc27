//! Adam with coupled L2 weight decay.

use pulp::Arch;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f32 = 1e-8;

/// Adam (Kingma and Ba 2015, algorithm 1) in float32 for one tensor. As in `torch.optim.Adam`, the penalty's gradient
/// `weight_decay`·theta is added to the loss's gradient before the moments, unlike AdamW.
#[derive(Debug, Clone)]
pub(crate) struct Adam {
    learning_rate: f32,
    weight_decay: f32,
    steps: i32,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl Adam {
    pub(crate) fn new(len: usize, learning_rate: f32, weight_decay: f32) -> Self {
        Self { learning_rate, weight_decay, steps: 0, first_moment: vec![0.0; len], second_moment: vec![0.0; len] }
    }

    /// One step of all `weights` along `gradient`, which must have the length the optimiser was made for.
    pub(crate) fn step(&mut self, arch: Arch, weights: &mut [f32], gradient: &[f32]) {
        debug_assert_eq!(weights.len(), self.first_moment.len());
        debug_assert_eq!(gradient.len(), self.first_moment.len());
        self.steps = self.steps.saturating_add(1);
        // In float64, as 1 − beta_2^t loses half its digits in float32 during the first steps.
        let step_size = (f64::from(self.learning_rate) / (1.0 - BETA_1.powi(self.steps))) as f32;
        let second_scale = (1.0 / (1.0 - BETA_2.powi(self.steps)).sqrt()) as f32;
        let (beta_2, one_minus_beta_1, one_minus_beta_2) =
            (BETA_2 as f32, (1.0 - BETA_1) as f32, (1.0 - BETA_2) as f32);
        let weight_decay = self.weight_decay;
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        arch.dispatch(
            #[inline(always)]
            || {
                for ((weight, &gradient), (first, second)) in weights.iter_mut().zip(gradient).zip(moments) {
                    let gradient = gradient + weight_decay * *weight;
                    *first += one_minus_beta_1 * (gradient - *first);
                    *second = beta_2 * *second + one_minus_beta_2 * gradient * gradient;
                    *weight -= step_size * *first / (second.sqrt() * second_scale + EPSILON);
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm as the paper prints it, in float64.
    fn reference(weight: f64, gradients: &[f64], learning_rate: f64, weight_decay: f64) -> f64 {
        let (mut theta, mut m, mut v) = (weight, 0.0, 0.0);
        for (t, gradient) in (1..).zip(gradients) {
            let g = gradient + weight_decay * theta;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            theta -= learning_rate * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
        }
        theta
    }

    #[test]
    fn follows_the_published_algorithm() {
        let gradients = [[0.3, -2e-4], [-0.1, 1e-3], [0.7, -5e-4], [0.2, 3e-4]];
        for weight_decay in [0.0, 0.1] {
            let mut adam = Adam::new(2, 1e-2, weight_decay);
            let mut weights = [0.5f32, -0.25];
            for gradient in gradients {
                adam.step(Arch::new(), &mut weights, &gradient.map(|g| g as f32));
            }
            for i in 0..2 {
                let column: Vec<f64> = gradients.iter().map(|row| row[i]).collect();
                let expected = reference([0.5, -0.25][i], &column, 1e-2, f64::from(weight_decay));
                assert!((f64::from(weights[i]) - expected).abs() < 1e-6, "{} {expected}", weights[i]);
            }
        }
    }

    #[test]
    fn the_first_step_has_the_size_of_the_learning_rate_whatever_the_gradient() {
        let mut weights = [1.0f32, 1.0];
        Adam::new(2, 0.01, 0.0).step(Arch::new(), &mut weights, &[1e-3, -50.0]);
        assert!((weights[0] - 0.99).abs() < 1e-6 && (weights[1] - 1.01).abs() < 1e-6, "{weights:?}");
    }
}
