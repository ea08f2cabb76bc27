//! Cascades tell a run that will generalise from one that only memorises before the test accuracy does.

use std::thread;

use gradwatch_demo::{ModularAddition, TrainingConfig};
use gradwatch_spectral::cascade::{CascadeSnapshot, reading, windows};

/// phi of the gradient at epochs 100, 125 and 150, and the test accuracy then.
fn run(config: TrainingConfig) -> Vec<(f64, f64)> {
    let mut job = ModularAddition::new(config).unwrap();
    let mut seen = Vec::new();
    while job.epochs_done() < 150 {
        job.epoch();
        if [100, 125, 150].contains(&job.epochs_done()) {
            let snapshots = job.snapshots();
            let cut = windows(&[&snapshots.hidden_gradient, &snapshots.output_gradient]).unwrap();
            let windows = cut.into_iter().map(|window| window.into_iter().map(f64::from).collect()).collect();
            seen.push((reading(&CascadeSnapshot { windows, whole: None }).phi.unwrap(), job.test_accuracy()));
        }
    }
    seen
}

/// At the seeds tried phi stays below 0.29 from epoch 75 on in the run that generalises at 200 or so, and is above 0.31 in
/// its control.
#[test]
fn phi_separates_the_grokking_run_from_its_control_before_it_generalises() {
    let config = TrainingConfig { test_every: 1000, ..TrainingConfig::default() };
    let without_decay = TrainingConfig { weight_decay: 0.0, ..config.clone() };
    let (groks, memorises) = thread::scope(|scope| {
        let (groks, memorises) = (scope.spawn(|| run(config)), scope.spawn(|| run(without_decay)));
        (groks.join().unwrap(), memorises.join().unwrap())
    });
    for ((groks, accuracy), (memorises, _)) in groks.iter().zip(&memorises) {
        assert!(*accuracy < 0.25, "it generalises already: {accuracy}");
        assert!(*groks < 0.3 && *memorises > 0.35, "{groks} and {memorises}");
    }
}
