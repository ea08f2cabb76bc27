//! Where the error of a fleet of runs comes from: their data, their seeds, or neither.

use std::collections::BTreeMap;

use thiserror::Error;

/// A run of a crossed design.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossedRun<'a> {
    /// Its label `data_seed`.
    pub data_seed: &'a str,
    /// Its label `init_seed`.
    pub init_seed: &'a str,
    /// What it predicts on the probe batch that all runs share.
    pub predictions: &'a [f64],
}

/// Mean squared parts, in units of the squared prediction. Invariant: they add up to `total`, exactly but for rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorSplit {
    /// Of the mean over all runs against the targets; none without targets.
    pub bias: Option<f64>,
    /// Of the means over init seeds: what the draw of the data does.
    pub statistical: f64,
    /// Of the means over data seeds: what the width and the seed do.
    pub width_seed: f64,
    /// What is left: data and seed together.
    pub interaction: f64,
    /// Of all runs against the targets; without targets, about the mean over all runs.
    pub total: f64,
}

/// Why runs cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ErrorSplitError {
    /// Not crossed.
    #[error("{seeds} distinct {label}: at least 2 are needed")]
    TooFewSeeds {
        /// `data_seed` or `init_seed`.
        label: &'static str,
        /// How many there are.
        seeds: usize,
    },
    /// A hole in the design.
    #[error("no run has data_seed {data_seed} and init_seed {init_seed}")]
    Missing {
        /// Label of the run that is missing.
        data_seed: String,
        /// Label of the run that is missing.
        init_seed: String,
    },
    /// One run too many.
    #[error("more than one run has data_seed {data_seed} and init_seed {init_seed}")]
    Duplicate {
        /// Label that they share.
        data_seed: String,
        /// Label that they share.
        init_seed: String,
    },
    /// Nothing was predicted.
    #[error("predictions: there are none")]
    NoPredictions,
    /// Not the same probe batch.
    #[error("predictions of data_seed {data_seed}, init_seed {init_seed}: {got} values, not {expected}")]
    Length {
        /// Label of the run.
        data_seed: String,
        /// Label of the run.
        init_seed: String,
        /// Its length.
        got: usize,
        /// That of the first run.
        expected: usize,
    },
    /// Not the same probe batch.
    #[error("targets: {got} values, not {expected} as there are predictions")]
    TargetsLength {
        /// Their length.
        got: usize,
        /// That of the predictions.
        expected: usize,
    },
    /// NaN or infinity.
    #[error("predictions of data_seed {data_seed}, init_seed {init_seed} hold NaN or infinity")]
    NonFinite {
        /// Label of the run.
        data_seed: String,
        /// Label of the run.
        init_seed: String,
    },
    /// NaN or infinity.
    #[error("targets hold NaN or infinity")]
    NonFiniteTargets,
}

/// Splits the error of runs that cross every `data_seed` with every `init_seed`, once \[ours\]: with F_ij the predictions, m their
/// mean, r_i and c_j the means of row and column less m: bias ‖m − y‖², statistical ‖r‖², width/seed ‖c‖², interaction
/// ‖F − m − r − c‖², each a mean over the samples and over the seeds. The order of the runs does not matter.
///
/// # Errors
/// Fewer than 2 × 2 seeds, a missing or repeated combination, lengths that differ, values that are not finite.
pub fn error_split(runs: &[CrossedRun<'_>], targets: Option<&[f64]>) -> Result<ErrorSplit, ErrorSplitError> {
    let table = crossed(runs)?;
    let samples = checked_samples(&table, targets)?;
    let (rows, columns) = (table.len() as f64, table[0].len() as f64);
    let mut split = ErrorSplit { bias: None, statistical: 0.0, width_seed: 0.0, interaction: 0.0, total: 0.0 };
    let mut bias = 0.0;
    for sample in 0..samples {
        let at = |run: &CrossedRun<'_>| run.predictions[sample];
        let mean = table.iter().flatten().map(at).sum::<f64>() / (rows * columns);
        let row_effects: Vec<f64> = table.iter().map(|row| row.iter().map(at).sum::<f64>() / columns - mean).collect();
        let column_effects: Vec<f64> = (0..table[0].len())
            .map(|column| table.iter().map(|row| at(&row[column])).sum::<f64>() / rows - mean)
            .collect();
        let target = targets.map_or(mean, |targets| targets[sample]);
        bias += (mean - target).powi(2);
        split.statistical += row_effects.iter().map(|effect| effect * effect).sum::<f64>() / rows;
        split.width_seed += column_effects.iter().map(|effect| effect * effect).sum::<f64>() / columns;
        for (row, row_effect) in table.iter().zip(&row_effects) {
            for (run, column_effect) in row.iter().zip(&column_effects) {
                split.interaction += (at(run) - mean - row_effect - column_effect).powi(2) / (rows * columns);
                split.total += (at(run) - target).powi(2) / (rows * columns);
            }
        }
    }
    for part in [&mut split.statistical, &mut split.width_seed, &mut split.interaction, &mut split.total] {
        *part /= samples as f64;
    }
    split.bias = targets.map(|_| bias / samples as f64);
    Ok(split)
}

/// The runs as a table, a row for each data seed and a column for each init seed.
fn crossed<'a>(runs: &[CrossedRun<'a>]) -> Result<Vec<Vec<CrossedRun<'a>>>, ErrorSplitError> {
    let mut cells = BTreeMap::new();
    for run in runs {
        if cells.insert((run.data_seed, run.init_seed), *run).is_some() {
            let (data_seed, init_seed) = (run.data_seed.to_owned(), run.init_seed.to_owned());
            return Err(ErrorSplitError::Duplicate { data_seed, init_seed });
        }
    }
    let distinct = |label: &'static str, seed: fn(&CrossedRun<'a>) -> &'a str| {
        let mut seeds: Vec<&str> = runs.iter().map(seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        if seeds.len() < 2 { Err(ErrorSplitError::TooFewSeeds { label, seeds: seeds.len() }) } else { Ok(seeds) }
    };
    let data_seeds = distinct("data_seed", |run| run.data_seed)?;
    let init_seeds = distinct("init_seed", |run| run.init_seed)?;
    let cell = |data_seed: &str, init_seed: &str| {
        cells.get(&(data_seed, init_seed)).copied().ok_or_else(|| ErrorSplitError::Missing {
            data_seed: data_seed.to_owned(),
            init_seed: init_seed.to_owned(),
        })
    };
    data_seeds.iter().map(|data| init_seeds.iter().map(|init| cell(data, init)).collect()).collect()
}

/// The number of samples that all agree on.
fn checked_samples(table: &[Vec<CrossedRun<'_>>], targets: Option<&[f64]>) -> Result<usize, ErrorSplitError> {
    let expected = table[0][0].predictions.len();
    for run in table.iter().flatten() {
        let (data_seed, init_seed, got) = (run.data_seed.to_owned(), run.init_seed.to_owned(), run.predictions.len());
        if got != expected {
            return Err(ErrorSplitError::Length { data_seed, init_seed, got, expected });
        }
        if !run.predictions.iter().all(|value| value.is_finite()) {
            return Err(ErrorSplitError::NonFinite { data_seed, init_seed });
        }
    }
    if expected == 0 {
        return Err(ErrorSplitError::NoPredictions);
    }
    if let Some(targets) = targets {
        if targets.len() != expected {
            return Err(ErrorSplitError::TargetsLength { got: targets.len(), expected });
        }
        if !targets.iter().all(|value| value.is_finite()) {
            return Err(ErrorSplitError::NonFiniteTargets);
        }
    }
    Ok(expected)
}
