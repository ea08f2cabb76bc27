//! What the job learns, and what it says about it.

use gradwatch_demo::{EpochReport, ModularAddition, TrainingConfig};

fn train(config: TrainingConfig) -> Vec<EpochReport> {
    let mut job = ModularAddition::new(config).unwrap();
    let mut reports = Vec::new();
    while !job.is_finished() {
        reports.push(job.epoch());
    }
    assert_eq!(job.epochs_done() as usize, reports.len());
    reports
}

/// The experiment itself, ended soon after the transition (epochs 204 to 216 for the seeds tried).
#[test]
fn weight_decay_makes_the_run_generalise_long_after_it_memorised() {
    let config = TrainingConfig { epochs: 260, test_every: 20, ..TrainingConfig::default() };
    let without_decay = TrainingConfig { weight_decay: 0.0, ..config.clone() };
    let (run, control) = std::thread::scope(|scope| {
        let run = scope.spawn(|| train(config));
        let control = scope.spawn(|| train(without_decay));
        (run.join().unwrap(), control.join().unwrap())
    });
    let memorised = |reports: &[EpochReport]| reports.iter().position(|report| report.train_accuracy == 1.0);
    for reports in [&run, &control] {
        assert!(memorised(reports).is_some_and(|epoch| epoch < 100), "{:?}", memorised(reports));
        assert!(reports[99].test_accuracy.is_some_and(|accuracy| accuracy < 0.1), "{:?}", reports[99]);
    }
    assert!(run[259].test_accuracy.is_some_and(|accuracy| accuracy >= 0.99), "{:?}", run[259]);
    assert!(control[259].test_accuracy.is_some_and(|accuracy| accuracy <= 0.05), "{:?}", control[259]);
    assert!(control[259].loss < run[259].loss, "the control fits the training pairs better");
}

#[test]
fn test_accuracy_is_measured_in_the_first_the_last_and_every_nth_epoch() {
    let config =
        TrainingConfig { modulus: 7, train_pairs: 30, width: 8, epochs: 10, test_every: 4, ..Default::default() };
    let reports = train(config);
    let measured: Vec<u32> = reports.iter().filter(|r| r.test_accuracy.is_some()).map(|r| r.epoch).collect();
    assert_eq!(measured, [1, 4, 8, 10]);
    assert!(reports.iter().map(|report| report.epoch).eq(1..=10));
}

#[test]
fn reported_test_accuracy_is_that_of_the_weights_after_the_step() {
    let config =
        TrainingConfig { modulus: 7, train_pairs: 30, width: 64, epochs: 40, test_every: 1, ..Default::default() };
    let mut job = ModularAddition::new(config).unwrap();
    let mut seen = Vec::new();
    while !job.is_finished() {
        let before = job.hidden().to_vec();
        let report = job.epoch();
        assert_ne!(job.hidden(), before);
        assert_eq!(report.test_accuracy, Some(job.test_accuracy()));
        seen.push(report.test_accuracy);
    }
    seen.dedup();
    assert!(seen.len() > 1, "accuracy that never changes proves nothing");
}
