//! The seed fixes a run bit for bit, whatever else the machine does.

use gradwatch_demo::{EpochReport, ModularAddition, TrainingConfig};

fn small(seed: u64) -> TrainingConfig {
    TrainingConfig { seed, modulus: 23, train_pairs: 300, width: 96, epochs: 6, test_every: 2, ..Default::default() }
}

/// Everything a finished run leaves behind, with the weights as bits.
fn finished(config: TrainingConfig) -> (Vec<EpochReport>, Vec<u32>, Vec<u32>) {
    let mut job = ModularAddition::new(config).unwrap();
    let mut reports = Vec::new();
    while !job.is_finished() {
        reports.push(job.epoch());
    }
    let bits = |weights: &[f32]| weights.iter().map(|weight| weight.to_bits()).collect();
    (reports, bits(job.hidden()), bits(job.output()))
}

#[test]
fn the_same_seed_gives_the_same_bits_beside_other_runs() {
    let alone = finished(small(9));
    let beside: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| finished(small(9)))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for run in beside {
        assert_eq!(run, alone);
    }
}

#[test]
fn another_seed_gives_other_weights_and_another_split() {
    let (first, second) = (ModularAddition::new(small(1)).unwrap(), ModularAddition::new(small(2)).unwrap());
    assert_ne!(first.hidden(), second.hidden());
    assert_ne!(first.output(), second.output());
    assert_ne!(first.table(), second.table());
}

#[test]
fn run_and_control_differ_in_weight_decay_alone() {
    let control = TrainingConfig { weight_decay: 0.0, ..small(3) };
    let (mut job, mut control) = (ModularAddition::new(small(3)).unwrap(), ModularAddition::new(control).unwrap());
    assert_eq!(job.hidden(), control.hidden());
    assert_eq!(job.output(), control.output());
    assert_eq!(job.table(), control.table());
    assert_eq!(job.epoch().loss, control.epoch().loss);
    // Adam's first step hardly sees the size of a gradient; later ones do.
    job.epoch();
    control.epoch();
    assert_ne!(job.hidden(), control.hidden());
}
