//! What a training job is told before it starts.

/// What defines a training job. The same configuration on the same kind of processor gives the same weights bit for bit.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingConfig {
    /// Fixes the initial weights and which pairs are trained on, and so the whole run.
    pub seed: u64,
    /// M: the job learns a + b mod M; from 2 to [`Self::MAX_MODULUS`].
    pub modulus: usize,
    /// How many of the M² pairs are trained on; the others are held out. From 1 to M² − 1.
    pub train_pairs: usize,
    /// Number of hidden units, from 1 to [`Self::MAX_WIDTH`].
    pub width: usize,
    /// Planned number of epochs, which is also the number of optimiser steps, as every epoch is one full batch.
    pub epochs: u32,
    /// Adam's step size.
    pub learning_rate: f32,
    /// Coupled L2 penalty: `weight_decay`·theta is added to the gradient before Adam's moments.
    pub weight_decay: f32,
    /// Test accuracy is measured in epochs divisible by this, and in the first and the last one; at least 1.
    pub test_every: u32,
}

impl TrainingConfig {
    /// The weight decay with which the default experiment groks.
    pub const GROKKING_WEIGHT_DECAY: f32 = 2e-4;
    /// Largest modulus accepted. The table has its square many pairs, so this bounds the memory a job may ask for.
    pub const MAX_MODULUS: usize = 1024;
    /// Largest width accepted, for the same reason.
    pub const MAX_WIDTH: usize = 1 << 16;
}

impl TrainingConfig {
    /// A smaller experiment, which takes a second: with [`Self::SMALL_WEIGHT_DECAY`] it memorises by epoch 50 and groks by
    /// epoch 330; with `weight_decay` 0 it only memorises.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        Self {
            seed,
            modulus: 37,
            train_pairs: 684,
            width: 384,
            epochs: 400,
            learning_rate: 2e-3,
            weight_decay: Self::SMALL_WEIGHT_DECAY,
            test_every: 1,
        }
    }

    /// The weight decay with which the smaller experiment groks.
    pub const SMALL_WEIGHT_DECAY: f32 = 4e-4;
}

impl Default for TrainingConfig {
    /// The experiment that groks within 400 epochs; with `weight_decay` 0 it is its control, which only memorises.
    fn default() -> Self {
        Self {
            seed: 1,
            modulus: 71,
            train_pairs: 2016,
            width: 2048,
            epochs: 400,
            learning_rate: 1e-3,
            weight_decay: Self::GROKKING_WEIGHT_DECAY,
            test_every: 4,
        }
    }
}

/// Why a [`TrainingConfig`] cannot be trained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The modulus is below 2 or above [`TrainingConfig::MAX_MODULUS`].
    #[error("modulus: must be from 2 to {max}, not {0}", max = TrainingConfig::MAX_MODULUS)]
    Modulus(usize),
    /// There is nothing to train on, or nothing is held out.
    #[error("train_pairs: must be from 1 to {max}, so that some of the table is held out, not {given}")]
    TrainPairs {
        /// The number asked for.
        given: usize,
        /// One less than the number of pairs in the table.
        max: usize,
    },
    /// The width is 0 or above [`TrainingConfig::MAX_WIDTH`].
    #[error("width: must be from 1 to {max}, not {0}", max = TrainingConfig::MAX_WIDTH)]
    Width(usize),
    /// The step size is not a positive finite number.
    #[error("learning_rate: must be positive and finite, not {0}")]
    LearningRate(f32),
    /// The penalty is negative or not finite.
    #[error("weight_decay: must be finite and not negative, not {0}")]
    WeightDecay(f32),
    /// Test accuracy cannot be measured every 0 epochs.
    #[error("test_every: must be at least 1")]
    TestEvery,
}

impl TrainingConfig {
    /// Checks every field.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(2..=TrainingConfig::MAX_MODULUS).contains(&self.modulus) {
            return Err(ConfigError::Modulus(self.modulus));
        }
        let max = self.modulus * self.modulus - 1;
        if !(1..=max).contains(&self.train_pairs) {
            return Err(ConfigError::TrainPairs { given: self.train_pairs, max });
        }
        if !(1..=TrainingConfig::MAX_WIDTH).contains(&self.width) {
            return Err(ConfigError::Width(self.width));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(ConfigError::LearningRate(self.learning_rate));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(ConfigError::WeightDecay(self.weight_decay));
        }
        if self.test_every == 0 {
            return Err(ConfigError::TestEvery);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_named() {
        let good = TrainingConfig::default();
        assert_eq!(good.validate(), Ok(()));
        let bad = [
            ("modulus", TrainingConfig { modulus: 1, ..good.clone() }),
            ("modulus", TrainingConfig { modulus: usize::MAX, ..good.clone() }),
            ("train_pairs", TrainingConfig { train_pairs: 0, ..good.clone() }),
            ("train_pairs", TrainingConfig { train_pairs: 71 * 71, ..good.clone() }),
            ("width", TrainingConfig { width: 0, ..good.clone() }),
            ("width", TrainingConfig { width: usize::MAX, ..good.clone() }),
            ("learning_rate", TrainingConfig { learning_rate: 0.0, ..good.clone() }),
            ("learning_rate", TrainingConfig { learning_rate: f32::INFINITY, ..good.clone() }),
            ("weight_decay", TrainingConfig { weight_decay: -1e-4, ..good.clone() }),
            ("weight_decay", TrainingConfig { weight_decay: f32::NAN, ..good.clone() }),
            ("test_every", TrainingConfig { test_every: 0, ..good }),
        ];
        for (field, config) in bad {
            let message = config.validate().map_err(|error| error.to_string());
            assert!(message.as_ref().is_err_and(|message| message.starts_with(&format!("{field}: "))), "{message:?}");
        }
    }
}
