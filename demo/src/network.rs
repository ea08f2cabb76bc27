//! The network y = P V (W x)² on pairs of one-hots, its squared error and its gradient.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::Arch;

use crate::random::SplitMix64;
use crate::table::Pair;

/// Examples worked on at once: their hidden activations (width × this, float32) stay in the second-level cache between the
/// products that use them.
const BLOCK: usize = 128;

/// The two weight matrices (or, as a gradient, their derivatives).
///
/// x is the concatenation of the one-hots of a and b, so W x is the sum of two columns of W. Both matrices are therefore kept
/// with the hidden unit as the fastest index:
/// - `hidden`, W: weight from input i to unit h at `i * width + h`, inputs 0..M for a, M..2M for b;
/// - `output`, V: weight from unit h to output c at `c * width + h`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    pub(crate) modulus: usize,
    pub(crate) width: usize,
    pub(crate) hidden: Vec<f32>,
    pub(crate) output: Vec<f32>,
}

impl Weights {
    pub(crate) fn zeros(modulus: usize, width: usize) -> Self {
        let (hidden, output) = (vec![0.0; 2 * modulus * width], vec![0.0; modulus * width]);
        Self { modulus, width, hidden, output }
    }

    /// Uniform with variance 1/(inputs of the layer), that is, in ±√(3/inputs) (LeCun et al., "Efficient BackProp",
    /// 1998).
    pub(crate) fn random(modulus: usize, width: usize, random: &mut SplitMix64) -> Self {
        let mut weights = Self::zeros(modulus, width);
        let bound = |inputs: usize| (3.0 / inputs as f32).sqrt();
        let (hidden_bound, output_bound) = (bound(2 * modulus), bound(width));
        weights.hidden.iter_mut().for_each(|weight| *weight = random.symmetric(hidden_bound));
        weights.output.iter_mut().for_each(|weight| *weight = random.symmetric(output_bound));
        weights
    }

    /// The two columns of W whose sum is W x.
    #[inline(always)]
    fn columns(&self, pair: Pair) -> (&[f32], &[f32]) {
        let column = |i: usize| &self.hidden[i * self.width..(i + 1) * self.width];
        (column(pair.a), column(self.modulus + pair.b))
    }

    /// The same two columns, mutable.
    #[inline(always)]
    fn columns_mut(&mut self, pair: Pair) -> (&mut [f32], &mut [f32]) {
        let (first, second) = self.hidden.split_at_mut(self.modulus * self.width);
        let range = |i: usize| i * self.width..(i + 1) * self.width;
        (&mut first[range(pair.a)], &mut second[range(pair.b)])
    }

    /// V transposed: width × M.
    fn output_transposed(&self) -> MatRef<'_, f32> {
        MatRef::from_column_major_slice(&self.output, self.width, self.modulus)
    }
}

/// How well the network does on a set of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// Squared error, summed over outputs, the mean over pairs.
    pub(crate) loss: f64,
    /// Share of pairs whose largest output is the right one.
    pub(crate) accuracy: f64,
}

/// Scratch memory of forward and backward passes. Everything runs on the calling thread in a fixed order, so results do not
/// depend on timing.
#[derive(Debug)]
pub(crate) struct Network {
    arch: Arch,
    /// (W x)² of a block, width × BLOCK.
    squares: Vec<f32>,
    /// Derivative of the loss by `squares`.
    squares_gradient: Vec<f32>,
    /// Outputs of a block, M × BLOCK; after [`Self::score`] their errors.
    outputs: Vec<f32>,
}

impl Network {
    pub(crate) fn new(arch: Arch, modulus: usize, width: usize) -> Self {
        let activations = || vec![0.0; width * BLOCK];
        Self { arch, squares: activations(), squares_gradient: activations(), outputs: vec![0.0; modulus * BLOCK] }
    }

    /// Loss and accuracy alone.
    pub(crate) fn evaluate(&mut self, weights: &Weights, pairs: &[Pair]) -> Fit {
        let mut score = Score::default();
        for block in pairs.chunks(BLOCK) {
            self.forward(weights, block);
            self.score(weights.modulus, block, &mut score);
        }
        score.fit(pairs.len())
    }

    /// Loss and accuracy, and the loss's gradient written to `gradient`.
    pub(crate) fn differentiate(&mut self, weights: &Weights, pairs: &[Pair], gradient: &mut Weights) -> Fit {
        let mut score = Score::default();
        // d loss / d y = 2 (y − t) / pairs; a further factor 2 comes with the square of W x.
        let scale = 2.0 / pairs.len() as f32;
        gradient.hidden.fill(0.0);
        for (i, block) in pairs.chunks(BLOCK).enumerate() {
            self.forward(weights, block);
            self.score(weights.modulus, block, &mut score);
            let accumulate = if i == 0 { Accum::Replace } else { Accum::Add };
            self.backward(weights, block, scale, gradient, accumulate);
        }
        score.fit(pairs.len())
    }

    /// Fills `squares` and `outputs` (not yet centred) for one block of at most BLOCK pairs.
    fn forward(&mut self, weights: &Weights, block: &[Pair]) {
        let width = weights.width;
        let squares = &mut self.squares;
        self.arch.dispatch(
            #[inline(always)]
            || {
                for (&pair, squares) in block.iter().zip(squares.chunks_exact_mut(width)) {
                    let (first, second) = weights.columns(pair);
                    for ((square, first), second) in squares.iter_mut().zip(first).zip(second) {
                        let sum = first + second;
                        *square = sum * sum;
                    }
                }
            },
        );
        matmul(
            columns_mut(&mut self.outputs, weights.modulus, block.len()),
            Accum::Replace,
            weights.output_transposed().transpose(),
            columns(&self.squares, width, block.len()),
            1.0,
            Par::Seq,
        );
    }

    /// Centres the outputs of the block, counts hits, and leaves the errors y − t in `outputs`.
    fn score(&mut self, modulus: usize, block: &[Pair], score: &mut Score) {
        let uniform = 1.0 / modulus as f32;
        for (&pair, outputs) in block.iter().zip(self.outputs.chunks_exact_mut(modulus)) {
            let answer = pair.sum(modulus);
            let best = outputs.iter().enumerate().max_by(|(_, x), (_, y)| x.total_cmp(y)).map(|(c, _)| c);
            score.hits += u64::from(best == Some(answer));
            let mean = outputs.iter().sum::<f32>() * uniform;
            // The target is the one-hot of the answer less its mean, 1/M.
            outputs.iter_mut().for_each(|output| *output += uniform - mean);
            outputs[answer] -= 1.0;
            score.squared_error += outputs.iter().map(|&error| f64::from(error) * f64::from(error)).sum::<f64>();
        }
    }

    /// Adds the gradient of one block whose `squares` and errors are in place.
    ///
    /// The errors of a pair sum to zero, as outputs and targets do, so centring needs no derivative of its own: P is a
    /// projection and P(y − t) = y − t.
    fn backward(&mut self, weights: &Weights, block: &[Pair], scale: f32, gradient: &mut Weights, accumulate: Accum) {
        let (width, modulus) = (weights.width, weights.modulus);
        let errors = columns(&self.outputs, modulus, block.len());
        matmul(
            MatMut::from_column_major_slice_mut(&mut gradient.output, width, modulus),
            accumulate,
            columns(&self.squares, width, block.len()),
            errors.transpose(),
            scale,
            Par::Seq,
        );
        matmul(
            columns_mut(&mut self.squares_gradient, width, block.len()),
            Accum::Replace,
            weights.output_transposed(),
            errors,
            2.0 * scale,
            Par::Seq,
        );
        let squares_gradient = &self.squares_gradient;
        self.arch.dispatch(
            #[inline(always)]
            || {
                for (&pair, derivatives) in block.iter().zip(squares_gradient.chunks_exact(width)) {
                    let (first, second) = weights.columns(pair);
                    let (first_gradient, second_gradient) = gradient.columns_mut(pair);
                    let sums = first.iter().zip(second).map(
                        #[inline(always)]
                        |(first, second)| first + second,
                    );
                    let targets = first_gradient.iter_mut().zip(second_gradient);
                    for ((sum, derivative), (first, second)) in sums.zip(derivatives).zip(targets) {
                        let change = sum * derivative;
                        *first += change;
                        *second += change;
                    }
                }
            },
        );
    }
}

/// Running totals over blocks.
#[derive(Debug, Default)]
struct Score {
    squared_error: f64,
    hits: u64,
}

impl Score {
    fn fit(&self, pairs: usize) -> Fit {
        Fit { loss: self.squared_error / pairs as f64, accuracy: self.hits as f64 / pairs as f64 }
    }
}

/// The first `count` columns of a scratch matrix.
fn columns(scratch: &[f32], rows: usize, count: usize) -> MatRef<'_, f32> {
    MatRef::from_column_major_slice(&scratch[..rows * count], rows, count)
}

/// The first `count` columns of a scratch matrix, mutable.
fn columns_mut(scratch: &mut [f32], rows: usize, count: usize) -> MatMut<'_, f32> {
    MatMut::from_column_major_slice_mut(&mut scratch[..rows * count], rows, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::{self, MODULUS, float64};
    use crate::table::AdditionTable;

    const WIDTH: usize = 6;

    fn instance() -> (Weights, AdditionTable) {
        let (weights, table) = dense::instance(WIDTH);
        assert!(table.train().len() > BLOCK);
        (weights, table)
    }

    fn dense_loss(hidden: &[f64], output: &[f64], pairs: &[Pair]) -> f64 {
        dense::loss(hidden, output, MODULUS, pairs)
    }

    /// Central differences of `loss` at `point`.
    fn differences(point: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        const STEP: f64 = 1e-5;
        let at = |i: usize, change: f64| {
            let mut moved = point.to_vec();
            moved[i] += change;
            loss(&moved)
        };
        (0..point.len()).map(|i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP)).collect()
    }

    #[track_caller]
    fn assert_close(computed: &[f32], expected: &[f64]) {
        let scale = expected.iter().fold(0.0f64, |max, value| max.max(value.abs()));
        assert!(scale > 1e-3, "nothing to compare: {scale}");
        assert_eq!(computed.len(), expected.len());
        for (i, (&computed, expected)) in computed.iter().zip(expected).enumerate() {
            assert!((f64::from(computed) - expected).abs() < 1e-5 * scale, "{i}: {computed} instead of {expected}");
        }
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences_of_the_dense_loss() {
        let (weights, table) = instance();
        let mut gradient = Weights::zeros(MODULUS, WIDTH);
        // What an earlier epoch left must not be added to.
        gradient.hidden.fill(7.0);
        gradient.output.fill(7.0);
        Network::new(Arch::new(), MODULUS, WIDTH).differentiate(&weights, table.train(), &mut gradient);
        let (hidden, output) = (float64(&weights.hidden), float64(&weights.output));
        assert_close(&gradient.hidden, &differences(&hidden, |hidden| dense_loss(hidden, &output, table.train())));
        assert_close(&gradient.output, &differences(&output, |output| dense_loss(&hidden, output, table.train())));
    }

    #[test]
    fn loss_and_accuracy_agree_with_the_dense_product() {
        let (weights, table) = instance();
        let (hidden, output) = (float64(&weights.hidden), float64(&weights.output));
        let mut network = Network::new(Arch::new(), MODULUS, WIDTH);
        let hits = |pairs: &[Pair]| {
            let hit = |pair: &&Pair| {
                let y = dense::outputs(&hidden, &output, MODULUS, **pair);
                y.iter().all(|&other| other <= y[pair.sum(MODULUS)])
            };
            pairs.iter().filter(hit).count()
        };
        // An untrained network is right now and then, so hits are neither none nor all.
        let all: Vec<Pair> = table.train().iter().chain(table.test()).copied().collect();
        assert!(hits(&all) > 0);
        for pairs in [table.train(), table.test(), all.as_slice()] {
            let fit = network.evaluate(&weights, pairs);
            let expected = dense_loss(&hidden, &output, pairs);
            assert!((fit.loss / expected - 1.0).abs() < 1e-5, "{} instead of {expected}", fit.loss);
            assert_eq!(fit.accuracy, hits(pairs) as f64 / pairs.len() as f64);
            let differentiated = network.differentiate(&weights, pairs, &mut Weights::zeros(MODULUS, WIDTH));
            assert_eq!(differentiated, fit);
        }
    }

    #[test]
    fn initial_weights_have_the_variance_of_their_layer() {
        let weights = Weights::random(71, 512, &mut SplitMix64::new(2));
        let variance = |values: &[f32]| float64(values).iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
        assert!((variance(&weights.hidden) * 142.0 - 1.0).abs() < 0.03);
        assert!((variance(&weights.output) * 512.0 - 1.0).abs() < 0.03);
    }
}
