//! The network in float64 at one point on one batch: what every snapshot of the layer instruments is computed from.

use faer::linalg::matmul::matmul;
use faer::{Accum, ColRef, Mat, Par};

use crate::network::Weights;
use crate::table::Pair;

/// Pairs whose hidden derivatives are in memory at once.
const BLOCK: usize = 128;

/// Weights, activations, errors and gradients on a batch. Matrices have the hidden unit, or the output, as their row.
///
/// With z = W x and the error e = P V z² − t, the loss is the mean of ‖e‖² over the batch (see
/// [`Network`](crate::network::Network)).
#[derive(Debug)]
pub(crate) struct Evaluation<'a> {
    pub(crate) pairs: &'a [Pair],
    pub(crate) modulus: usize,
    pub(crate) width: usize,
    /// W transposed to width × 2M: column i is what input i brings.
    pub(crate) hidden: Mat<f64>,
    /// P V transposed to width × M: each unit's weights less their mean, which the network takes off its outputs.
    pub(crate) output: Mat<f64>,
    /// z² of each pair, width × pairs.
    pub(crate) squares: Mat<f64>,
    /// e of each pair, M × pairs. Each sums to zero.
    pub(crate) errors: Mat<f64>,
    /// d loss / d W, laid out as `hidden`.
    pub(crate) hidden_gradient: Mat<f64>,
    /// d loss / d V, laid out as `output`.
    pub(crate) output_gradient: Mat<f64>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(weights: &Weights, pairs: &'a [Pair]) -> Self {
        let (modulus, width) = (weights.modulus, weights.width);
        let float64 =
            |weights: &[f32], columns| Mat::from_fn(width, columns, |unit, i| f64::from(weights[i * width + unit]));
        let mut output = float64(&weights.output, modulus);
        for mut unit in output.row_iter_mut() {
            let mean = unit.as_ref().iter().sum::<f64>() / modulus as f64;
            unit.as_mut().iter_mut().for_each(|weight| *weight -= mean);
        }
        let mut evaluation = Self {
            pairs,
            modulus,
            width,
            hidden: float64(&weights.hidden, 2 * modulus),
            output,
            squares: Mat::zeros(width, pairs.len()),
            errors: Mat::zeros(modulus, pairs.len()),
            hidden_gradient: Mat::zeros(width, 2 * modulus),
            output_gradient: Mat::zeros(width, modulus),
        };
        evaluation.forward();
        evaluation.backward();
        evaluation
    }

    /// The columns of W whose sum is z.
    pub(crate) fn columns(&self, pair: Pair) -> (ColRef<'_, f64>, ColRef<'_, f64>) {
        (self.hidden.col(pair.a), self.hidden.col(self.modulus + pair.b))
    }

    fn forward(&mut self) {
        for (i, &pair) in self.pairs.iter().enumerate() {
            let (first, second) = (self.hidden.col(pair.a), self.hidden.col(self.modulus + pair.b));
            for (unit, square) in self.squares.col_mut(i).iter_mut().enumerate() {
                *square = (first[unit] + second[unit]).powi(2);
            }
        }
        matmul(&mut self.errors, Accum::Replace, self.output.transpose(), &self.squares, 1.0, Par::Seq);
        let uniform = 1.0 / self.modulus as f64;
        for (i, pair) in self.pairs.iter().enumerate() {
            // The target is the one-hot of the answer less its mean.
            self.errors.col_mut(i).iter_mut().for_each(|error| *error += uniform);
            self.errors[(pair.sum(self.modulus), i)] -= 1.0;
        }
    }

    fn backward(&mut self) {
        let scale = 1.0 / self.pairs.len() as f64;
        let errors = self.errors.transpose();
        matmul(&mut self.output_gradient, Accum::Replace, &self.squares, errors, 2.0 * scale, Par::Seq);
        for start in (0..self.pairs.len()).step_by(BLOCK) {
            let block = BLOCK.min(self.pairs.len() - start);
            let deltas = self.deltas(self.width, start, block);
            for (deltas, pair) in deltas.col_iter().zip(&self.pairs[start..]) {
                for column in [pair.a, self.modulus + pair.b] {
                    for (gradient, delta) in self.hidden_gradient.col_mut(column).iter_mut().zip(deltas.iter()) {
                        *gradient += scale * delta;
                    }
                }
            }
        }
    }

    /// Gradients of each single pair's ‖e‖² to z = 4 z ⊙ (P V)ᵀe, of the first `units` units on `count` pairs from `start` on:
    /// units × count.
    pub(crate) fn deltas(&self, units: usize, start: usize, count: usize) -> Mat<f64> {
        let mut deltas = Mat::zeros(units, count);
        let errors = self.errors.subcols(start, count);
        matmul(&mut deltas, Accum::Replace, self.output.subrows(0, units), errors, 4.0, Par::Seq);
        for (deltas, &pair) in deltas.col_iter_mut().zip(&self.pairs[start..]) {
            let (first, second) = self.columns(pair);
            for (unit, delta) in deltas.iter_mut().enumerate() {
                *delta *= first[unit] + second[unit];
            }
        }
        deltas
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::*;
    use crate::{dense, network::Network};

    #[test]
    fn gradients_are_those_that_the_network_trains_with() {
        let (weights, table) = dense::instance(24);
        let evaluation = Evaluation::new(&weights, table.train());
        let mut gradient = Weights::zeros(weights.modulus, weights.width);
        Network::new(Arch::new(), weights.modulus, weights.width).differentiate(&weights, table.train(), &mut gradient);
        let layers = [(&evaluation.hidden_gradient, &gradient.hidden), (&evaluation.output_gradient, &gradient.output)];
        for (computed, trained) in layers {
            let scale = computed.norm_max();
            assert!(scale > 1e-3, "nothing to compare: {scale}");
            for (computed, &trained) in computed.col_iter().flat_map(|column| column.iter()).zip(trained) {
                assert!((computed - f64::from(trained)).abs() < 1e-5 * scale, "{computed} instead of {trained}");
            }
        }
    }

    #[test]
    fn derivatives_to_a_unit_are_those_of_the_single_pairs_loss() {
        // Of one pair, a change of a unit's weight from its first summand is a change of the unit.
        const STEP: f64 = 1e-5;
        let (weights, table) = dense::instance(24);
        let evaluation = Evaluation::new(&weights, table.train());
        let deltas = evaluation.deltas(3, 0, table.train().len());
        assert_eq!((deltas.nrows(), deltas.ncols()), (3, table.train().len()));
        let (hidden, output) = (dense::float64(&weights.hidden), dense::float64(&weights.output));
        for unit in 0..3 {
            for (i, pair) in table.train().iter().enumerate().step_by(37) {
                let loss = |change: f64| {
                    let mut moved = hidden.clone();
                    moved[pair.a * weights.width + unit] += change;
                    dense::loss(&moved, &output, weights.modulus, &[*pair])
                };
                let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                assert!((deltas[(unit, i)] - difference).abs() < 1e-7, "{} {difference}", deltas[(unit, i)]);
            }
        }
    }
}
