//! What the layer instruments read of a job, at the present weights.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par, Side};
use gradwatch_spectral::{
    curvature::CurvatureSnapshot,
    dead_directions::{BatchKind, DeadDirectionsSnapshot, Spectrum as GramSpectrum},
    learning_cell::{Activation, LearningCellSnapshot, ProbeBatch},
};

use crate::{evaluation::Evaluation, hessian::Spectrum, network::Weights, table::Pair};

/// K, the directions of a layer's gradient along which the loss's curvature is taken.
const DIRECTIONS: usize = 20;
/// How many units of the hidden layer are watched for dead directions. All of them would cost seconds a snapshot, and their
/// Gram matrix could not have full rank on the training pairs.
const DEAD_DIRECTIONS_UNITS: usize = 256;
/// The answer whose output is the learning cell's f.
const LEARNING_CELL_ANSWER: usize = 0;
/// Every how manieth training pair is a probe of the learning cell.
const PROBE_EVERY: usize = 4;

/// Snapshots of both layers, of all pairs that are trained on. Everything is in the one point that the weights are at.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshots {
    /// The loss's gradient to W, laid out as [`ModularAddition::hidden`](crate::ModularAddition::hidden): what the cascade
    /// instrument is told of.
    pub hidden_gradient: Vec<f32>,
    /// The loss's gradient to V, laid out as [`ModularAddition::output`](crate::ModularAddition::output).
    pub output_gradient: Vec<f32>,
    /// Curvature along the gradient's directions, of W.
    pub hidden_curvature: CurvatureSnapshot,
    /// Curvature along the gradient's directions, of V.
    pub output_curvature: CurvatureSnapshot,
    /// Per-sample gradients to W x, and activations (W x)², of the first 256 hidden units.
    pub dead_directions: DeadDirectionsSnapshot,
    /// The network's output for the answer 0, which is a two-layer block: with N units and v_i the unit's weight to that
    /// output less its mean weight to all outputs (which the network takes off), f(x) = (1/N) Σ N v_i (w_i·x)².
    pub learning_cell: LearningCellSnapshot,
}

impl Snapshots {
    pub(crate) fn take(weights: &Weights, pairs: &[Pair]) -> Self {
        let evaluation = Evaluation::new(weights, pairs);
        Self {
            hidden_gradient: float32(&evaluation.hidden_gradient),
            output_gradient: float32(&evaluation.output_gradient),
            hidden_curvature: curvature(evaluation.hidden_spectrum(DIRECTIONS)),
            output_curvature: curvature(evaluation.output_spectrum(DIRECTIONS)),
            dead_directions: dead_directions(&evaluation),
            learning_cell: learning_cell(&evaluation),
        }
    }
}

/// Columns one after the other.
fn float32(matrix: &Mat<f64>) -> Vec<f32> {
    matrix.col_iter().flat_map(|column| column.iter().map(|&value| value as f32)).collect()
}

fn curvature(Spectrum { sigma, curvature }: Spectrum) -> CurvatureSnapshot {
    CurvatureSnapshot { sigma, curvature, kronecker: None }
}

fn dead_directions(evaluation: &Evaluation<'_>) -> DeadDirectionsSnapshot {
    let (samples, units) = (evaluation.pairs.len(), evaluation.width.min(DEAD_DIRECTIONS_UNITS));
    let deltas = evaluation.deltas(units, 0, samples);
    let mut gram = Mat::zeros(units, units);
    matmul(&mut gram, Accum::Replace, &deltas, deltas.transpose(), 1.0 / samples as f64, Par::Seq);
    // Neither converges on NaN and infinity alone; the instrument then says so.
    let eigenvalues = gram.self_adjoint_eigenvalues(Side::Lower).unwrap_or_else(|_| vec![f64::NAN; units]);
    let activations = evaluation.squares.subrows(0, units);
    let singular_values = activations.singular_values().unwrap_or_else(|_| vec![f64::NAN; units.min(samples)]);
    DeadDirectionsSnapshot {
        spectrum: GramSpectrum::Eigenvalues(eigenvalues),
        singular_values,
        samples: samples as u64,
        width: units as u32,
        batch: BatchKind::Train,
        is_float32: false,
        gauge_removed: 0,
    }
}

fn learning_cell(evaluation: &Evaluation<'_>) -> LearningCellSnapshot {
    let (modulus, width) = (evaluation.modulus, evaluation.width);
    let outer = |unit: usize| (width as f64 * evaluation.output[(unit, LEARNING_CELL_ANSWER)]) as f32;
    let inner = |unit: usize| evaluation.hidden.row(unit).iter().map(|&weight| weight as f32);
    let probes = || evaluation.pairs.iter().step_by(PROBE_EVERY);
    let inputs = |pair: &Pair| {
        let (a, b) = (pair.a, modulus + pair.b);
        (0..2 * modulus).map(move |input| if input == a || input == b { 1.0 } else { 0.0 })
    };
    let target = |pair: &Pair| {
        let hot = if pair.sum(modulus) == LEARNING_CELL_ANSWER { 1.0 } else { 0.0 };
        hot - 1.0 / modulus as f32
    };
    LearningCellSnapshot {
        outer: (0..width).map(outer).collect(),
        inner: (0..width).flat_map(inner).collect(),
        width: 2 * modulus,
        activation: Activation::Square,
        probe: Some(ProbeBatch {
            inputs: probes().flat_map(inputs).collect(),
            targets: probes().map(target).collect(),
        }),
    }
}

/// A block as the client takes it.
pub(crate) fn cell_to_send(cell: &LearningCellSnapshot) -> gradwatch_client::LearningCellSnapshot<'_> {
    let block = gradwatch_client::LearningCellSnapshot::new(&cell.outer, &cell.inner);
    match &cell.probe {
        Some(probe) => block.probe(&probe.inputs, &probe.targets),
        None => block,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModularAddition, TrainingConfig, dense};

    fn snapshots() -> (ModularAddition, Snapshots) {
        let config = TrainingConfig { modulus: 13, train_pairs: 120, width: 24, epochs: 20, ..Default::default() };
        let mut job = ModularAddition::new(config).unwrap();
        while !job.is_finished() {
            job.epoch();
        }
        let snapshots = job.snapshots();
        (job, snapshots)
    }

    /// f by its definition on the probe is the network's output for the answer.
    #[test]
    fn the_learning_cell_computes_the_output_for_the_answer() {
        let (job, snapshots) = snapshots();
        let cell = snapshots.learning_cell;
        let probe = cell.probe.unwrap();
        let (hidden, output) = (dense::float64(job.hidden()), dense::float64(job.output()));
        let pairs: Vec<&Pair> = job.table().train().iter().step_by(PROBE_EVERY).collect();
        assert_eq!((probe.targets.len(), cell.outer.len(), cell.width), (pairs.len(), 24, 26));
        for ((inputs, target), pair) in probe.inputs.chunks(cell.width).zip(probe.targets).zip(pairs) {
            let dot = |weights: &[f32]| weights.iter().zip(inputs).map(|(w, x)| f64::from(w * x)).sum::<f64>();
            let terms = cell.inner.chunks(cell.width).zip(&cell.outer);
            let f = terms.map(|(inner, outer)| f64::from(*outer) * dot(inner).powi(2)).sum::<f64>() / 24.0;
            let expected = dense::outputs(&hidden, &output, 13, *pair)[LEARNING_CELL_ANSWER];
            assert!((f - expected).abs() < 1e-5, "{pair:?}: {f} instead of {expected}");
            let is_answer = pair.sum(13) == LEARNING_CELL_ANSWER;
            assert_eq!(target > 0.5, is_answer);
        }
    }

    #[test]
    fn the_dead_directions_spectrum_holds_the_samples_energy() {
        let (job, Snapshots { dead_directions, .. }) = snapshots();
        let GramSpectrum::Eigenvalues(eigenvalues) = &dead_directions.spectrum else { panic!("eigenvalues") };
        assert_eq!((eigenvalues.len(), dead_directions.width, dead_directions.samples), (24, 24, 120));
        assert_eq!(dead_directions.singular_values.len(), 24);
        // Traces: the mean square of a sample's gradient by differences, and of its activations.
        const STEP: f64 = 1e-5;
        let (hidden, output) = (dense::float64(job.hidden()), dense::float64(job.output()));
        let (mut gradients, mut activations) = (0.0, 0.0);
        for &pair in job.table().train() {
            for unit in 0..24 {
                let loss = |change: f64| {
                    let mut moved = hidden.clone();
                    moved[pair.a * 24 + unit] += change;
                    dense::loss(&moved, &output, 13, &[pair])
                };
                gradients += ((loss(STEP) - loss(-STEP)) / (2.0 * STEP)).powi(2) / 120.0;
                activations += (hidden[pair.a * 24 + unit] + hidden[(13 + pair.b) * 24 + unit]).powi(4);
            }
        }
        let trace: f64 = eigenvalues.iter().sum();
        assert!((trace / gradients - 1.0).abs() < 1e-6, "{trace} instead of {gradients}");
        let energy: f64 = dead_directions.singular_values.iter().map(|sigma| sigma * sigma).sum();
        assert!((energy / activations - 1.0).abs() < 1e-9, "{energy} instead of {activations}");
    }

    #[test]
    fn weights_that_are_not_finite_stop_nothing() {
        let (mut weights, table) = dense::instance(24);
        weights.output.fill(f32::INFINITY);
        let snapshots = Snapshots::take(&weights, table.train());
        assert!(snapshots.hidden_curvature.sigma.iter().any(|sigma| !sigma.is_finite()));
        assert!(snapshots.output_gradient.iter().any(|gradient| !gradient.is_finite()));
    }
}
