//! Learning cell (arXiv 2605.24710): what a two-layer block f(x) = (1/N) Σ a_i act(w_i·x) has learned, as atoms. Only the
//! abstract of the source is public; the estimators are ours.
//!
//! Inputs are taken as whitened Gaussian, x ~ N(0, I), and products of features as expectations over them, unless a probe
//! batch is given: then they are means over the batch. Degrees (`orbit_depth`, `variety_depth`, `hermite_tail`) are
//! always those of the whitened Gaussian.

mod activation;
mod atoms;
mod depths;
mod error_split;
mod features;
mod hermite_tail;
mod history;
mod kernel;
mod moments;
mod quadrature;
mod reading;
mod refit;
mod series;
mod spectrum;

pub use error_split::{CrossedRun, ErrorSplit, ErrorSplitError, error_split};
pub use history::History;
pub use reading::{Activation, LearningCellReading};

use self::{atoms::Atoms, features::Features};
use crate::layers::Reason;

/// Most neurons of a snapshot.
pub const MAX_NEURONS: usize = 8192;
/// Most entries of a row w_i. Larger ones are to be sketched, each row by itself.
pub const MAX_WIDTH: usize = 1024;
/// Most inputs of a probe batch.
pub const MAX_PROBE: usize = 4096;
/// Most features of a probe batch, neurons × inputs: 128 MiB while they are looked at.
pub const MAX_PROBE_FEATURES: usize = 1 << 24;

/// A snapshot of a two-layer block.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningCellSnapshot {
    /// a_i, N of them.
    pub outer: Vec<f32>,
    /// w_i, N × width, row-major.
    pub inner: Vec<f32>,
    /// Length of w_i.
    pub width: usize,
    /// The activation.
    pub activation: Activation,
    /// Inputs to evaluate features on; without them inputs are taken as whitened Gaussian.
    pub probe: Option<ProbeBatch>,
}

/// Inputs, and what they should give.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeBatch {
    /// n × width, row-major, in the coordinates of w_i.
    pub inputs: Vec<f32>,
    /// n targets, or none.
    pub targets: Vec<f32>,
}

impl LearningCellSnapshot {
    /// Why nothing can be said of it.
    fn refusal(&self) -> Option<Reason> {
        let (neurons, width) = (self.outer.len(), self.width);
        let probe = self.probe.as_ref().map_or((&[][..], &[][..]), |probe| (&probe.inputs[..], &probe.targets[..]));
        if neurons == 0 || width == 0 || self.probe.is_some() && probe.0.is_empty() {
            return Some(Reason::Empty);
        }
        if neurons > MAX_NEURONS || width > MAX_WIDTH {
            return Some(Reason::TooLarge);
        }
        let inputs = probe.0.len() / width;
        if self.inner.len() != neurons * width
            || probe.0.len() != inputs * width
            || !(probe.1.is_empty() || probe.1.len() == inputs)
        {
            return Some(Reason::Inconsistent);
        }
        if inputs > MAX_PROBE || inputs * neurons > MAX_PROBE_FEATURES {
            return Some(Reason::TooLarge);
        }
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let all_finite = finite(&self.outer) && finite(&self.inner) && finite(probe.0) && finite(probe.1);
        (!all_finite).then_some(Reason::NonFinite)
    }

    /// w_i.
    fn row(&self, neuron: usize) -> &[f32] {
        &self.inner[neuron * self.width..(neuron + 1) * self.width]
    }
}

/// What the learning cell says of a snapshot. `moment_propagation` is left none, see [`History`].
///
/// A snapshot that is empty, too large, not finite, or whose lengths contradict each other gives a reading that is null but
/// for `reason`. Otherwise `reason` says why a part is missing, the first of: `all_zero` (no neuron contributes: f = 0, S = 0,
/// rank 0, no refit, no depths), `no_atoms` (S = 0 for another cause: no atom holds 2 %), `too_few_neurons` (no moment order).
///
/// ```
/// use gradwatch_spectral::learning_cell::{Activation, LearningCellSnapshot, reading};
///
/// // Two neurons that are one atom: tanh is odd, so that both signs may be turned.
/// let snapshot = LearningCellSnapshot {
///     outer: vec![1.0, -1.0],
///     inner: vec![0.6, 0.8, -0.6, -0.8],
///     width: 2,
///     activation: Activation::Tanh,
///     probe: None,
/// };
/// assert_eq!(reading(&snapshot).active_atoms, Some(1));
/// ```
pub fn reading(snapshot: &LearningCellSnapshot) -> LearningCellReading {
    if let Some(reason) = snapshot.refusal() {
        return LearningCellReading { reason: Some(reason), ..Default::default() };
    }
    let neurons = snapshot.outer.len();
    let outer: Vec<f64> = snapshot.outer.iter().map(|a| f64::from(*a)).collect();
    let norms: Vec<f64> = (0..neurons).map(|i| norm(snapshot.row(i))).collect();
    let path_norm = outer.iter().zip(&norms).map(|(a, norm)| a.abs() * norm).sum::<f64>() / neurons as f64;
    let mut reading =
        LearningCellReading { neurons: Some(neurons as u64), path_norm: finite(path_norm), ..Default::default() };
    moments::fill(snapshot, &mut reading);

    let Some(features) = Features::of(snapshot, &norms) else {
        // Only z^2 and z^3 can leave float64 from float32 weights: what the neurons give is then beyond all numbers.
        reading.reason = Some(Reason::NonFinite);
        return reading;
    };
    // v_i: f = Σ v_i e_i, e_i the feature of neuron i divided by its norm.
    let loads: Vec<f64> = outer.iter().zip(&features.norms).map(|(a, norm)| a * norm / neurons as f64).collect();
    let energy = features.energy(&loads);
    let spread = loads.iter().map(|load| load * load).sum::<f64>() * neurons as f64 - energy;
    reading.chaos_upper = finite(spread).map(|spread| spread.max(0.0) / neurons as f64);

    let atoms = Atoms::find(&features, &loads, snapshot.activation.parity());
    reading.active_atoms = Some(atoms.count() as u64);
    reading.atom_rank = atoms.rank(&features);
    if atoms.count() > 0 {
        let refit = refit::curve(&atoms, &features, &loads, energy);
        reading.atoms_at_2pct = refit.as_ref().and_then(|curve| refit::first_within(curve, 0.02));
        reading.refit_curve = refit;
        let directions: Vec<&[f32]> = atoms.neurons.iter().map(|i| snapshot.row(*i)).collect();
        let depths = depths::depths(snapshot.activation, &directions);
        reading.orbit_depth = depths.orbit;
        reading.variety_depth = depths.variety;
        reading.hermite_tail = depths
            .variety
            .zip(snapshot.probe.as_ref())
            .and_then(|(degree, probe)| hermite_tail::hermite_tail(probe, snapshot.width, degree as usize))
            .and_then(finite);
    } else {
        let contributes = loads.iter().any(|load| *load != 0.0);
        reading.reason = Some(if contributes { Reason::NoAtoms } else { Reason::AllZero });
    }
    reading
}

/// (`orbit_depth`, `variety_depth`, `atom_rank`) of given atoms, none of which is dropped or joined: for tests against tables.
#[doc(hidden)]
pub fn depths_of_atoms(activation: Activation, weights: &[&[f32]]) -> (Option<u64>, Option<u64>, Option<u64>) {
    let depths = depths::depths(activation, weights);
    let snapshot = LearningCellSnapshot {
        outer: vec![1.0; weights.len()],
        inner: weights.concat(),
        width: weights.first().map_or(0, |row| row.len()),
        activation,
        probe: None,
    };
    let norms: Vec<f64> = weights.iter().map(|row| norm(row)).collect();
    let atoms = Atoms { neurons: (0..weights.len()).collect() };
    (depths.orbit, depths.variety, Features::of(&snapshot, &norms).and_then(|features| atoms.rank(&features)))
}

/// Euclidean norm; float32 squares cannot overflow float64.
fn norm(row: &[f32]) -> f64 {
    row.iter().map(|entry| f64::from(*entry).powi(2)).sum::<f64>().sqrt()
}

/// A reading is null where a number left float64.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
