//! Networks whose dead directions are known.

use gradwatch_spectral::dead_directions::{BatchKind, DeadDirectionsReading, History};

use crate::network::{Network, orthogonal, times, transposed};
use crate::support::Random;
use crate::{log_spaced, of_samples, read, slope};

/// Inputs, and targets of a teacher that ignores the last `dead` inputs, with label noise.
fn data(samples: usize, width: usize, dead: usize, noise: f64) -> (Vec<f64>, Vec<f64>) {
    let mut random = Random::new(7);
    let inputs = random.gaussians(samples * width);
    let mut targets = inputs.clone();
    for row in targets.chunks_exact_mut(width) {
        row[width - dead..].fill(0.0);
        row.iter_mut().for_each(|y| *y += noise * random.gaussian());
    }
    (inputs, targets)
}

/// The readings of `layer` while the dead weights go through `t`.
fn approach(
    (width, depth, dead): (usize, usize, usize),
    noise: f64,
    layer: usize,
    t: &[f64],
) -> Vec<DeadDirectionsReading> {
    let (inputs, targets) = data(4000, width, dead, noise);
    let mut history = History::default();
    t.iter()
        .map(|t| {
            let pass = Network::bridge(width, depth, dead, *t).pass(&inputs, &targets);
            let snapshot = of_samples(&pass.gradients[layer], &pass.activations[layer], width, BatchKind::Train);
            let mut reading = read(&snapshot);
            history.complete(&mut reading);
            reading
        })
        .collect()
}

struct Slopes {
    lambda_min: f64,
    logdet: f64,
    sigma_min2: f64,
}

/// Slopes on ln t.
fn slopes(t: &[f64], readings: &[DeadDirectionsReading]) -> Slopes {
    let log_t: Vec<f64> = t.iter().map(|t| t.ln()).collect();
    let slope_of = |value: fn(&DeadDirectionsReading) -> Option<f64>| {
        slope(&log_t, &readings.iter().map(|reading| value(reading).expect("defined")).collect::<Vec<_>>())
    };
    Slopes {
        lambda_min: slope_of(|reading| reading.lambda_min.map(f64::ln)),
        logdet: slope_of(|reading| reading.logdet),
        sigma_min2: slope_of(|reading| reading.sigma_min.map(|sigma| 2.0 * sigma.ln())),
    }
}

fn approaching() -> Vec<f64> {
    log_spaced(0.5, 0.05, 9)
}

#[track_caller]
fn assert_near(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance, "{what}: {got}, expected {want} ± {tolerance}");
}

#[test]
fn slopes_of_a_deep_linear_bridge_with_label_noise() {
    let (depth, t) = (4, approaching());
    for layer in 1..depth {
        let readings = approach((10, depth, 1), 1.0, layer, &t);
        let slopes = slopes(&t, &readings);
        assert_near(slopes.lambda_min, 2.0 * (depth - layer) as f64, 0.05, "ln lambda_min");
        assert_near(slopes.sigma_min2, 2.0 * layer as f64, 0.05, "ln sigma_min^2");
        assert_near(slopes.lambda_min + slopes.sigma_min2, 2.0 * depth as f64, 0.05, "their sum");
        let last = readings.last().expect("readings");
        assert_eq!(last.structural_correlation, Some(1.0), "as predicted");
        assert_eq!((last.rank_deficient, last.few_samples), (Some(false), Some(false)));
    }
}

#[test]
fn slopes_of_a_deep_linear_bridge_without_label_noise() {
    let (depth, t) = (4, approaching());
    for layer in 1..depth {
        let readings = approach((10, depth, 1), 0.0, layer, &t);
        let slopes = slopes(&t, &readings);
        assert_near(slopes.lambda_min, (4 * depth - 2 * layer) as f64, 0.05, "ln lambda_min");
        assert_near(slopes.sigma_min2, 2.0 * layer as f64, 0.05, "ln sigma_min^2");
        // Only the dead direction has a residual at all.
        assert!(readings.iter().all(|reading| reading.kept == Some(1)));
    }
}

#[test]
fn identical_dead_weights_are_counted_by_logdet_and_not_by_lambda_min() {
    let (depth, t) = (4, approaching());
    for layer in 1..depth {
        let base = slopes(&t, &approach((20, depth, 1), 1.0, layer, &t));
        for dead in 1..=4 {
            let readings = approach((20, depth, dead), 1.0, layer, &t);
            let slopes = slopes(&t, &readings);
            assert_near(slopes.logdet / base.logdet, dead as f64, 0.1, "ratio of logdet slopes");
            assert_near(slopes.lambda_min / base.lambda_min, 1.0, 0.1, "ratio of lambda_min slopes");
            let last = readings.last().expect("readings");
            assert_near(last.count_slope.expect("nine readings"), dead as f64, 0.1, "count_slope");
            assert_eq!(last.count_gap, Some(dead as u64), "at t = 0.05");
        }
    }
}

#[test]
fn dead_weights_that_shrink_independently_are_counted_roughly() {
    let (width, depth, t) = (20, 4, approaching());
    for dead in 1..=4 {
        let (inputs, targets) = data(2000, width, dead, 1.0);
        let mut counts = Vec::new();
        for seed in 0..5 {
            let mut random = Random::new(100 + seed);
            let level: Vec<f64> = (0..dead).map(|_| (0.5 * random.gaussian()).exp()).collect();
            let mut histories = [(); 3].map(|()| History::default());
            let mut slopes = [None; 3];
            for t in &t {
                let weights: Vec<f64> = level.iter().map(|c| c * t * (0.3 * random.gaussian()).exp()).collect();
                let mut network = Network::bridge(width, depth, dead, *t);
                for layer in &mut network.weights {
                    for (i, weight) in (width - dead..).zip(&weights) {
                        layer[i * width + i] = *weight;
                    }
                }
                let pass = network.pass(&inputs, &targets);
                for layer in 1..depth {
                    let (gradients, activations) = (&pass.gradients[layer], &pass.activations[layer]);
                    let mut reading = read(&of_samples(gradients, activations, width, BatchKind::Train));
                    histories[layer - 1].complete(&mut reading);
                    // The last that was said: the smallest weights may fall through the cut in the end.
                    slopes[layer - 1] = reading.count_slope.or(slopes[layer - 1]);
                }
            }
            counts.extend(slopes.map(|slope| slope.expect("nine readings")));
        }
        let mean = counts.iter().sum::<f64>() / counts.len() as f64;
        let sd = (counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / counts.len() as f64).sqrt();
        println!("dead {dead}: count_slope {mean:.2} ± {sd:.2}");
        assert_near(mean, dead as f64, 0.5, "count_slope");
    }
}

/// Without t: trained networks in random bases, where slopes fail.
fn trained_counts(is_tanh: bool) {
    const WIDTH: usize = 8;
    const SAMPLES: usize = 1024;
    for dead in 0..=4 {
        for seed in 0..2 {
            let mut random = Random::new(1000 * dead as u64 + seed);
            let inputs = random.gaussians(SAMPLES * WIDTH);
            let (left, mut right) = (orthogonal(&mut random, WIDTH), orthogonal(&mut random, WIDTH));
            right[(WIDTH - dead) * WIDTH..].fill(0.0);
            let teacher = times(&transposed(&left, WIDTH), &right, WIDTH, WIDTH);
            let mut targets = times(&inputs, &transposed(&teacher, WIDTH), WIDTH, WIDTH);
            targets.iter_mut().for_each(|y| *y += 0.5 * random.gaussian());
            let scale = 0.9 / (WIDTH as f64).sqrt();
            let weights = (0..3).map(|_| random.gaussians(WIDTH * WIDTH).iter().map(|w| scale * w).collect()).collect();
            let mut network = Network { width: WIDTH, weights, is_tanh };
            let mut history = History::default();
            let mut reading = DeadDirectionsReading::default();
            for _ in 0..20 {
                network.train(&inputs, &targets, 75);
                let pass = network.pass(&inputs, &targets);
                reading = read(&of_samples(&pass.gradients[1], &pass.activations[1], WIDTH, BatchKind::Train));
                history.complete(&mut reading);
            }
            let gap = reading.gap_nats.expect("width 8");
            println!(
                "tanh {is_tanh} dead {dead} seed {seed}: count {:?}, gap {gap:.2} nats, slope {:.2?}, correlation {:.2?}",
                reading.count_gap, reading.count_slope, reading.structural_correlation
            );
            assert_eq!(reading.count_gap, Some(dead as u64), "tanh {is_tanh}, seed {seed}, gap {gap}");
            assert!(if dead == 0 { gap < 1.0 } else { gap > 2.0 }, "dead {dead}, gap {gap}");
        }
    }
}

#[test]
fn off_alignment_count_gap_counts_in_linear_networks() {
    trained_counts(false);
}

#[test]
fn off_alignment_count_gap_counts_in_tanh_networks() {
    trained_counts(true);
}

#[test]
fn a_cut_that_is_too_coarse_is_flagged() {
    // t^10 falls through 1e−12 of the largest eigenvalue: both dead directions leave the spectrum at once.
    let t = log_spaced(0.5, 0.025, 20);
    let readings = approach((20, 6, 2), 1.0, 1, &t);
    let kept: Vec<u64> = readings.iter().map(|reading| reading.kept.expect("defined")).collect();
    let lost = kept.iter().position(|kept| *kept != 20).expect("too coarse for the last of them");
    assert!(kept[lost..].iter().all(|kept| *kept == 18) && lost >= 5 && lost + 5 <= kept.len(), "{kept:?}");
    for (at, reading) in readings.iter().enumerate() {
        let changed = if at == 0 { None } else { Some(at == lost) };
        assert_eq!(reading.kept_changed, changed, "reading {at}");
        let slope = reading.count_slope;
        if (4..lost).contains(&at) {
            assert_near(slope.expect("five readings"), 2.0, 0.1, "count_slope before");
        } else {
            assert_eq!(slope, None, "reading {at}: too few, or lambda_min stands still");
        }
    }
    // What anyone would say who fits across the loss: the wrong sign, with the spectrum's own t.
    let log_t: Vec<f64> = t.iter().map(|t| t.ln()).collect();
    let logdet: Vec<f64> = readings.iter().map(|reading| reading.logdet.expect("defined")).collect();
    assert_near(slope(&log_t[..lost], &logdet[..lost]), 20.0, 0.5, "before");
    let across = slope(&log_t[5..], &logdet[5..]);
    assert!(across < 0.0, "{across}");
}
