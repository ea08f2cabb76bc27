//! The training job: table, network and optimiser, one full batch an epoch.

use pulp::Arch;

use crate::adam::Adam;
use crate::config::{ConfigError, TrainingConfig};
use crate::network::{Network, Weights};
use crate::random::SplitMix64;
use crate::snapshots::Snapshots;
use crate::table::AdditionTable;

/// What one epoch says about itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// Number of the epoch, from 1; also the number of optimiser steps taken.
    pub epoch: u32,
    /// Training loss of the batch this epoch's step was computed from, that is, before the step: squared error, summed
    /// over outputs, the mean over pairs.
    pub loss: f64,
    /// Share of the training pairs answered rightly, before the step like the loss.
    pub train_accuracy: f64,
    /// Share of the held-out pairs answered rightly after the step; none in the epochs in which it is not measured.
    pub test_accuracy: Option<f64>,
}

/// A network learning addition modulo M.
///
/// A job trains on the thread that calls it and shares nothing, so several jobs can run at once, and the same configuration
/// gives the same weights bit for bit however they are scheduled. Between kinds of processor the last bits may differ, as
/// the matrix products use whatever vector instructions there are.
#[derive(Debug)]
pub struct ModularAddition {
    config: TrainingConfig,
    arch: Arch,
    table: AdditionTable,
    network: Network,
    weights: Weights,
    gradient: Weights,
    hidden_optimiser: Adam,
    output_optimiser: Adam,
    epochs_done: u32,
}

impl ModularAddition {
    /// A job with fresh weights, before its first epoch. Runs that differ in weight decay alone start from the same weights
    /// and train on the same pairs.
    ///
    /// # Errors
    ///
    /// If a field of the configuration is out of range; the error names it.
    pub fn new(config: TrainingConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let arch = Arch::new();
        let (modulus, width) = (config.modulus, config.width);
        let mut random = SplitMix64::new(config.seed);
        let table = AdditionTable::draw(modulus, config.train_pairs, &mut random.split());
        let weights = Weights::random(modulus, width, &mut random.split());
        let optimiser = |len| Adam::new(len, config.learning_rate, config.weight_decay);
        Ok(Self {
            arch,
            table,
            network: Network::new(arch, modulus, width),
            gradient: Weights::zeros(modulus, width),
            hidden_optimiser: optimiser(weights.hidden.len()),
            output_optimiser: optimiser(weights.output.len()),
            weights,
            epochs_done: 0,
            config,
        })
    }

    /// Trains one epoch. May be called beyond the planned number of epochs, which simply trains on.
    pub fn epoch(&mut self) -> EpochReport {
        let fit = self.network.differentiate(&self.weights, self.table.train(), &mut self.gradient);
        self.hidden_optimiser.step(self.arch, &mut self.weights.hidden, &self.gradient.hidden);
        self.output_optimiser.step(self.arch, &mut self.weights.output, &self.gradient.output);
        self.epochs_done = self.epochs_done.saturating_add(1);
        let test_accuracy = self.is_test_epoch().then(|| self.test_accuracy());
        EpochReport { epoch: self.epochs_done, loss: fit.loss, train_accuracy: fit.accuracy, test_accuracy }
    }

    fn is_test_epoch(&self) -> bool {
        let epoch = self.epochs_done;
        epoch == 1 || epoch == self.config.epochs || epoch.is_multiple_of(self.config.test_every)
    }

    /// Share of the held-out pairs answered rightly with the present weights. Costs about half an epoch.
    pub fn test_accuracy(&mut self) -> f64 {
        self.network.evaluate(&self.weights, self.table.test()).accuracy
    }

    /// The hidden layer's weights W, M·2 × width: the weight from input i to unit h is at `i * width + h`. Inputs 0..M are the
    /// one-hot of a, M..2M that of b.
    pub fn hidden(&self) -> &[f32] {
        &self.weights.hidden
    }

    /// The output layer's weights V, M × width: the weight from unit h to output c is at `c * width + h`.
    pub fn output(&self) -> &[f32] {
        &self.weights.output
    }

    /// What the layer instruments read, at the present weights and on all pairs that are trained on. Costs about as much as
    /// 10 epochs.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::take(&self.weights, self.table.train())
    }

    /// Which pairs are trained on and which are held out.
    pub fn table(&self) -> &AdditionTable {
        &self.table
    }

    /// The configuration the job was made with.
    pub fn config(&self) -> &TrainingConfig {
        &self.config
    }

    /// Adam's step size, the same in every epoch and for both layers.
    pub fn learning_rate(&self) -> f32 {
        self.config.learning_rate
    }

    /// The coupled L2 penalty, the same in every epoch and for both layers.
    pub fn weight_decay(&self) -> f32 {
        self.config.weight_decay
    }

    /// Number of epochs trained so far.
    pub fn epochs_done(&self) -> u32 {
        self.epochs_done
    }

    /// Whether the planned number of epochs has been trained.
    pub fn is_finished(&self) -> bool {
        self.epochs_done >= self.config.epochs
    }
}
