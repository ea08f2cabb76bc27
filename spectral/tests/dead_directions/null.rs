//! What the readings say where there is nothing to say: no dead direction, no approach.

use gradwatch_spectral::dead_directions::{BatchKind, DeadDirectionsReading, History};

use crate::network::Network;
use crate::support::{Random, median};
use crate::{of_samples, read};

/// Independent Gaussian gradients and activations: G and XᵀX/n are the identity but for sampling.
fn isotropic(random: &mut Random, samples: usize, width: usize) -> DeadDirectionsReading {
    let (gradients, activations) = (random.gaussians(samples * width), random.gaussians(samples * width));
    read(&of_samples(&gradients, &activations, width, BatchKind::Train))
}

fn share(flags: &[bool]) -> f64 {
    flags.iter().filter(|flag| **flag).count() as f64 / flags.len() as f64
}

#[test]
fn too_few_samples_make_dead_directions_up() {
    const WIDTH: usize = 32;
    let mut random = Random::new(21);
    for (per_width, lambda_min, false_counts) in
        [(1, 0.0..0.01, 0.5..1.0), (4, 0.2..0.4, 0.0..0.01), (100, 0.8..0.9, 0.0..0.01)]
    {
        let readings: Vec<_> = (0..100).map(|_| isotropic(&mut random, per_width * WIDTH, WIDTH)).collect();
        let smallest = median(readings.iter().filter_map(|reading| reading.lambda_min).collect());
        let counted: Vec<bool> = readings.iter().map(|reading| reading.count_gap != Some(0)).collect();
        let gaps: Vec<f64> = readings.iter().filter_map(|reading| reading.gap_nats).collect();
        let widest = gaps.iter().copied().fold(0.0, f64::max);
        println!(
            "n = {per_width} width: lambda_min {smallest:.4} of 1, count_gap > 0 in {:.0} %, widest gap {widest:.2} nats",
            100.0 * share(&counted)
        );
        assert!(lambda_min.contains(&smallest), "{smallest}");
        assert!(false_counts.contains(&share(&counted)), "{}", share(&counted));
        assert!(readings.iter().all(|reading| reading.few_samples == Some(per_width < 100)), "flagged below 100");
    }
}

#[test]
fn a_layer_that_stands_still_has_no_count_slope_and_no_lasting_correlation() {
    const WIDTH: usize = 16;
    let mut random = Random::new(22);
    let mut correlations = Vec::new();
    for _ in 0..40 {
        let mut history = History::default();
        for at in 0..20 {
            let mut reading = isotropic(&mut random, 100 * WIDTH, WIDTH);
            history.complete(&mut reading);
            assert_eq!(reading.count_slope, None, "ln lambda_min spans too little");
            assert_eq!(reading.count_gap, Some(0));
            if at == 19 {
                correlations.push(reading.structural_correlation.expect("varies"));
            }
        }
    }
    let strong: Vec<bool> = correlations.iter().map(|rho| rho.abs() > 0.6).collect();
    let mean = correlations.iter().sum::<f64>() / correlations.len() as f64;
    let sd = (correlations.iter().map(|rho| rho * rho).sum::<f64>() / correlations.len() as f64).sqrt();
    println!(
        "structural_correlation over 20 readings: mean {mean:.3}, sd {sd:.3}, beyond 0.6 in {:.3}",
        share(&strong)
    );
    assert!(mean.abs() < 0.15 && (0.15..0.32).contains(&sd), "{mean} {sd}");
    assert!(share(&strong) < 0.06, "{correlations:?}");
}

/// Of 200 networks at initialisation: the share with a count, and the widest gap.
fn counted_at_initialisation(is_tanh: bool) -> (f64, f64) {
    const WIDTH: usize = 8;
    const SAMPLES: usize = 800;
    let mut random = Random::new(23);
    let mut widest = 0.0f64;
    let counted: Vec<bool> = (0..200)
        .map(|_| {
            let scale = 0.9 / (WIDTH as f64).sqrt();
            let weights = (0..3).map(|_| random.gaussians(WIDTH * WIDTH).iter().map(|w| scale * w).collect()).collect();
            let network = Network { width: WIDTH, weights, is_tanh };
            let (inputs, targets) = (random.gaussians(SAMPLES * WIDTH), random.gaussians(SAMPLES * WIDTH));
            let pass = network.pass(&inputs, &targets);
            let reading = read(&of_samples(&pass.gradients[1], &pass.activations[1], WIDTH, BatchKind::Train));
            widest = widest.max(reading.gap_nats.expect("width 8"));
            reading.count_gap != Some(0)
        })
        .collect();
    println!(
        "at initialisation, tanh {is_tanh}: count_gap > 0 in {:.1} %, widest gap {widest:.1} nats",
        100.0 * share(&counted)
    );
    (share(&counted), widest)
}

#[test]
fn a_linear_network_that_has_learned_nothing_has_a_count() {
    // Products of random matrices have gaps. A count is evidence only as a change against the run's own beginning.
    let (counted, widest) = counted_at_initialisation(false);
    assert!(counted > 0.5 && widest > 5.0, "{counted} {widest}");
}

#[test]
fn a_tanh_network_that_has_learned_nothing_has_no_count() {
    let (counted, widest) = counted_at_initialisation(true);
    assert!(counted < 0.02 && widest < 2.5, "{counted} {widest}");
}
