//! Trains the grokking run and its control at once and prints how each ends, with the singular value ratios of the last 20
//! updates of the hidden layer computed without sketching:
//! `cargo run --release -p gradwatch-demo --example ratios -- --seed 1`.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use faer::{Mat, Side};
use gradwatch_demo::{ModularAddition, TrainingConfig};

const WINDOW: usize = 20;

#[derive(Parser)]
struct Arguments {
    /// Fixes the weights and the split of both runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = TrainingConfig::default().epochs)]
    epochs: u32,
    /// Print a line for every epoch divisible by this; 0 for the last epoch alone.
    #[arg(long, default_value_t = 0)]
    report_every: u32,
}

fn main() -> Result<()> {
    let arguments = &Arguments::parse();
    std::thread::scope(|scope| {
        let decays = [("groks", TrainingConfig::GROKKING_WEIGHT_DECAY), ("memorises", 0.0)];
        let runs = decays.map(|(name, decay)| (name, scope.spawn(move || train(name, decay, arguments))));
        runs.into_iter().try_for_each(|(name, run)| match run.join() {
            Ok(result) => result.with_context(|| format!("run {name}")),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn train(name: &str, weight_decay: f32, arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let config =
        TrainingConfig { seed: arguments.seed, weight_decay, epochs: arguments.epochs, ..TrainingConfig::default() };
    let mut job = ModularAddition::new(config)?;
    let mut updates = VecDeque::new();
    let mut generalised = None;
    while !job.is_finished() {
        let before = job.hidden().to_vec();
        let report = job.epoch();
        updates.push_back(difference(&before, job.hidden()));
        if updates.len() > WINDOW {
            updates.pop_front();
        }
        if generalised.is_none() && report.test_accuracy.is_some_and(|accuracy| accuracy >= 0.95) {
            generalised = Some(report.epoch);
        }
        let asked = arguments.report_every > 0 && report.epoch % arguments.report_every == 0;
        if asked || job.is_finished() {
            let sigma = singular_values(&updates)?;
            println!(
                "{name:9} seed {} epoch {:3} loss {:.3e} train {:.4} test {:.4} ratio_1 {:6.3} ratio_2 {:6.3} \
                 test>=0.95 at {generalised:?} after {:.1} s",
                arguments.seed,
                report.epoch,
                report.loss,
                report.train_accuracy,
                report.test_accuracy.unwrap_or(f64::NAN),
                sigma[0] / sigma[1],
                sigma[1] / sigma[2],
                started.elapsed().as_secs_f64(),
            );
        }
    }
    Ok(())
}

fn difference(before: &[f32], after: &[f32]) -> Vec<f64> {
    before.iter().zip(after).map(|(&before, &after)| f64::from(after) - f64::from(before)).collect()
}

/// Singular values, largest first, of the matrix whose rows are the updates, not centred.
fn singular_values(updates: &VecDeque<Vec<f64>>) -> Result<Vec<f64>> {
    let dot = |i: usize, j: usize| updates[i].iter().zip(&updates[j]).map(|(x, y)| x * y).sum::<f64>();
    let gram = Mat::from_fn(updates.len(), updates.len(), dot);
    let eigenvalues = gram.self_adjoint_eigenvalues(Side::Lower).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut sigma: Vec<f64> = eigenvalues.into_iter().rev().map(|lambda| lambda.max(0.0).sqrt()).collect();
    sigma.resize(sigma.len().max(3), f64::NAN);
    Ok(sigma)
}
