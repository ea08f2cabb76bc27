use gradwatch_spectral::learning_cell::{CrossedRun, ErrorSplitError, error_split};

use crate::support::Random;

const SEEDS: [&str; 5] = ["0", "1", "2", "3", "4"];

fn runs<'a>(predictions: &'a [Vec<f64>], columns: usize) -> Vec<CrossedRun<'a>> {
    predictions
        .iter()
        .enumerate()
        .map(|(at, predictions)| CrossedRun {
            data_seed: SEEDS[at / columns],
            init_seed: SEEDS[at % columns],
            predictions,
        })
        .collect()
}

fn close(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-12, "{left} {right}");
}

#[test]
fn the_four_parts_add_up_to_the_total() {
    let mut random = Random::new(1);
    for (rows, columns) in [(2, 2), (5, 5), (3, 4)] {
        let predictions: Vec<Vec<f64>> = (0..rows * columns).map(|_| random.normals(200)).collect();
        let targets = random.normals(200);
        let split = error_split(&runs(&predictions, columns), Some(&targets)).unwrap();
        close(split.bias.unwrap() + split.statistical + split.width_seed + split.interaction, split.total);
        // The total itself, in one sum.
        let direct: f64 = predictions
            .iter()
            .flat_map(|run| run.iter().zip(&targets).map(|(value, target)| (value - target).powi(2)))
            .sum::<f64>()
            / (rows * columns * 200) as f64;
        close(split.total, direct);

        let without = error_split(&runs(&predictions, columns), None).unwrap();
        assert_eq!(without.bias, None);
        close(without.total, split.total - split.bias.unwrap());
        close(without.statistical, split.statistical);
    }
}

#[test]
fn planted_effects_go_to_their_parts() {
    // F = 5 + row ± 2 + column ± 3 + their product ± 1/2, target 4: bias 1, statistical 4, width/seed 9, interaction 1/4.
    let sign = |at: usize| if at == 0 { -1.0 } else { 1.0 };
    let value = |i: usize, j: usize| 5.0 + 2.0 * sign(i) + 3.0 * sign(j) + 0.5 * sign(i) * sign(j);
    let predictions: Vec<Vec<f64>> = (0..4).map(|at| vec![value(at / 2, at % 2); 3]).collect();
    let split = error_split(&runs(&predictions, 2), Some(&[4.0; 3])).unwrap();
    close(split.bias.unwrap(), 1.0);
    close(split.statistical, 4.0);
    close(split.width_seed, 9.0);
    close(split.interaction, 0.25);
    close(split.total, 14.25);
}

#[test]
fn the_order_of_the_runs_does_not_matter() {
    let mut random = Random::new(2);
    let predictions: Vec<Vec<f64>> = (0..6).map(|_| random.normals(20)).collect();
    let mut reversed = runs(&predictions, 3);
    let forward = error_split(&reversed, None).unwrap();
    reversed.reverse();
    assert_eq!(error_split(&reversed, None).unwrap(), forward);
}

#[test]
fn what_is_missing_is_named() {
    let good = vec![vec![1.0, 2.0]; 4];
    let full = runs(&good, 2);
    let message =
        |runs: &[CrossedRun<'_>], targets: Option<&[f64]>| error_split(runs, targets).unwrap_err().to_string();

    assert_eq!(message(&full[..3], None), "no run has data_seed 1 and init_seed 1");
    assert_eq!(message(&full[..2], None), "1 distinct data_seed: at least 2 are needed");
    assert_eq!(message(&[full[0], full[2]], None), "1 distinct init_seed: at least 2 are needed");
    assert_eq!(message(&[], None), "0 distinct data_seed: at least 2 are needed");
    let twice: Vec<_> = full.iter().chain(&full[1..2]).copied().collect();
    assert_eq!(message(&twice, None), "more than one run has data_seed 0 and init_seed 1");
    assert_eq!(message(&full, Some(&[1.0])), "targets: 1 values, not 2 as there are predictions");
    assert_eq!(message(&full, Some(&[1.0, f64::NAN])), "targets hold NaN or infinity");

    let mut uneven = good.clone();
    uneven[2].pop();
    assert_eq!(message(&runs(&uneven, 2), None), "predictions of data_seed 1, init_seed 0: 1 values, not 2");
    let mut infinite = good.clone();
    infinite[3][0] = f64::INFINITY;
    assert_eq!(
        error_split(&runs(&infinite, 2), None).unwrap_err(),
        ErrorSplitError::NonFinite { data_seed: "1".into(), init_seed: "1".into() }
    );
    let none = vec![vec![]; 4];
    assert_eq!(error_split(&runs(&none, 2), None).unwrap_err(), ErrorSplitError::NoPredictions);
}
