//! Square networks without biases, small enough to train in a test.

use crate::support::Random;

/// A (m × k) times B (k × n), row-major.
pub(crate) fn times(a: &[f64], b: &[f64], k: usize, n: usize) -> Vec<f64> {
    let mut product = vec![0.0; a.len() / k * n];
    for (row, out) in a.chunks_exact(k).zip(product.chunks_exact_mut(n)) {
        for (x, b_row) in row.iter().zip(b.chunks_exact(n)) {
            for (out, y) in out.iter_mut().zip(b_row) {
                *out += x * y;
            }
        }
    }
    product
}

/// Transposed, `n` columns.
pub(crate) fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    (0..n).flat_map(|j| a.iter().skip(j).step_by(n).copied()).collect()
}

/// A random orthogonal matrix: Gram–Schmidt, twice.
pub(crate) fn orthogonal(random: &mut Random, width: usize) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = Vec::new();
    while rows.len() < width {
        let mut row = random.direction(width);
        for _ in 0..2 {
            for other in &rows {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let norm = crate::support::norm(&row);
            row.iter_mut().for_each(|x| *x /= norm);
        }
        rows.push(row);
    }
    rows.concat()
}

/// a_l = f(a_{l−1} W_lᵀ), l = 1…L, the last layer linear; the loss of a sample is ½‖a_L − y‖².
pub(crate) struct Network {
    pub(crate) width: usize,
    /// W_1…W_L, width × width, row-major.
    pub(crate) weights: Vec<Vec<f64>>,
    pub(crate) is_tanh: bool,
}

/// Activations a_0…a_L and gradients delta_1…delta_L to the pre-activations (index 0 empty), n × width each.
pub(crate) struct Pass {
    pub(crate) activations: Vec<Vec<f64>>,
    pub(crate) gradients: Vec<Vec<f64>>,
}

impl Network {
    /// Every layer diag(1, …, 1, t, …, t) with `dead` times t: canonically aligned.
    pub(crate) fn bridge(width: usize, depth: usize, dead: usize, t: f64) -> Self {
        let mut layer = vec![0.0; width * width];
        for i in 0..width {
            layer[i * width + i] = if i < width - dead { 1.0 } else { t };
        }
        Self { width, weights: vec![layer; depth], is_tanh: false }
    }

    pub(crate) fn pass(&self, inputs: &[f64], targets: &[f64]) -> Pass {
        let (width, depth) = (self.width, self.weights.len());
        let mut activations = vec![inputs.to_vec()];
        for (layer, weight) in self.weights.iter().enumerate() {
            let mut next = times(&activations[layer], &transposed(weight, width), width, width);
            if self.is_tanh && layer + 1 < depth {
                next.iter_mut().for_each(|x| *x = x.tanh());
            }
            activations.push(next);
        }
        let mut gradients = vec![Vec::new(); depth + 1];
        gradients[depth] = activations[depth].iter().zip(targets).map(|(a, y)| a - y).collect();
        for layer in (1..depth).rev() {
            let mut back = times(&gradients[layer + 1], &self.weights[layer], width, width);
            if self.is_tanh {
                back.iter_mut().zip(&activations[layer]).for_each(|(delta, a)| *delta *= 1.0 - a * a);
            }
            gradients[layer] = back;
        }
        Pass { activations, gradients }
    }

    /// Gradient descent over batches of consecutive samples, with weight decay.
    pub(crate) fn train(&mut self, inputs: &[f64], targets: &[f64], steps: usize) {
        const BATCH: usize = 128;
        const RATE: f64 = 0.1;
        const DECAY: f64 = 0.02;
        let width = self.width;
        let batches = inputs.len() / (BATCH * width);
        for step in 0..steps {
            let at = step % batches * BATCH * width;
            let batch = at..at + BATCH * width;
            let pass = self.pass(&inputs[batch.clone()], &targets[batch]);
            for (layer, weight) in self.weights.iter_mut().enumerate() {
                let gradient =
                    times(&transposed(&pass.gradients[layer + 1], width), &pass.activations[layer], BATCH, width);
                for (w, g) in weight.iter_mut().zip(&gradient) {
                    *w = *w * (1.0 - RATE * DECAY) - RATE * g / BATCH as f64;
                }
            }
        }
    }
}
