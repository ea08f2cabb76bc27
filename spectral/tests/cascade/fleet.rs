//! The fit over widths, on made data.

use gradwatch_spectral::cascade::{FleetPoint, fleet_dimension, whole_cascade};
use gradwatch_spectral::layers::Reason;

use crate::support::Random;

const WIDTHS: [u64; 5] = [250, 500, 1000, 2000, 4000];

/// ln s = 0.3 + D ln N + noise, `runs` runs a width.
fn power_law(dimension: f64, noise: f64, runs: u64, seed: u64) -> Vec<FleetPoint> {
    let mut random = Random::new(seed);
    let mut points = Vec::new();
    for parameters in WIDTHS {
        for run in 0..runs {
            let ln_size = 0.3 + dimension * (parameters as f64).ln() + noise * random.gaussian();
            points.push(FleetPoint { parameters, run, ln_size });
        }
    }
    points
}

#[test]
fn an_exact_power_law_gives_its_exponent() {
    for dimension in [0.9, 1.0, 1.2] {
        let found = fleet_dimension(&power_law(dimension, 0.0, 3, 1));
        assert_eq!((found.reason, found.widths, found.runs), (None, 5, 15));
        for value in [found.dimension, found.low, found.high] {
            assert!((value.unwrap() - dimension).abs() < 1e-12, "{found:?}");
        }
        assert!((found.r2.unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(found.leave_one_out.iter().map(|it| it.parameters).collect::<Vec<_>>(), WIDTHS);
        assert!(found.leave_one_out.iter().all(|it| (it.dimension - dimension).abs() < 1e-12), "{found:?}");
    }
}

#[test]
fn noise_widens_the_interval_and_the_truth_is_mostly_inside() {
    let mut inside = 0;
    for seed in 0..40 {
        let found = fleet_dimension(&power_law(1.1, 0.2, 6, seed));
        let (low, middle, high) = (found.low.unwrap(), found.dimension.unwrap(), found.high.unwrap());
        assert!(low < middle && middle < high, "{found:?}");
        inside += u32::from((low..=high).contains(&1.1));
    }
    // 95 % of 40 is 38; with six runs a width the percentile interval is a little narrow.
    assert!((30..=40).contains(&inside), "{inside}");
}

#[test]
fn iid_gaussian_gradients_of_several_widths_give_about_one() {
    let mut random = Random::new(2);
    let mut points = Vec::new();
    for parameters in WIDTHS {
        for run in 0..60 {
            let cascade = whole_cascade(&random.gaussians(parameters as usize)).unwrap();
            assert!(!cascade.capped);
            points.push(FleetPoint { parameters, run, ln_size: (cascade.topplings as f64).ln() });
        }
    }
    let found = fleet_dimension(&points);
    println!("{found:?}");
    assert!((found.dimension.unwrap() - 1.0).abs() < 0.04, "{found:?}");
    assert!(found.r2.unwrap() > 0.99, "{found:?}");
}

#[test]
fn fewer_than_four_widths_are_refused() {
    for (widths, has_fit) in [(1, false), (2, true), (3, true)] {
        let points: Vec<FleetPoint> =
            power_law(1.0, 0.0, 2, 3).into_iter().filter(|it| WIDTHS[..widths].contains(&it.parameters)).collect();
        let found = fleet_dimension(&points);
        assert_eq!((found.reason, found.widths), (Some(Reason::TooFewWidths), widths as u64));
        assert_eq!((found.dimension, found.low, found.high, found.r2.is_some()), (None, None, None, has_fit));
        assert!(found.leave_one_out.is_empty());
    }
}

#[test]
fn a_poor_fit_is_refused() {
    // Residuals ±d around a line over four equally spaced ln N, chosen orthogonal to it: R² = 0.5 exactly.
    let residual = [1.0, -1.0, -1.0, 1.0];
    let x = [-1.5, -0.5, 0.5, 1.5];
    let step = 2f64.ln();
    let explained: f64 = x.iter().map(|x| (x * step).powi(2)).sum();
    let size = (explained / 4.0).sqrt();
    let points: Vec<FleetPoint> = (0..4)
        .map(|at| FleetPoint { parameters: 100 << at, run: 0, ln_size: 5.0 + x[at] * step + size * residual[at] })
        .collect();
    let found = fleet_dimension(&points);
    assert_eq!((found.reason, found.dimension), (Some(Reason::PoorFit), None));
    assert!((found.r2.unwrap() - 0.5).abs() < 1e-12, "{found:?}");
    // Sizes that do not vary have no R².
    let flat = fleet_dimension(&power_law(0.0, 0.0, 1, 4));
    assert_eq!((flat.reason, flat.r2, flat.dimension), (Some(Reason::PoorFit), None, None));
}

#[test]
fn a_width_with_one_run_has_no_interval() {
    let mut points = power_law(1.0, 0.01, 3, 5);
    points.retain(|it| it.parameters != 1000 || it.run == 0);
    let found = fleet_dimension(&points);
    assert!(found.dimension.is_some());
    assert_eq!((found.low, found.high), (None, None));
}

#[test]
fn the_order_of_the_points_changes_no_bit_and_points_of_a_run_count_once() {
    let points = power_law(1.05, 0.1, 4, 6);
    let found = fleet_dimension(&points);
    let reversed: Vec<FleetPoint> = points.iter().rev().copied().collect();
    assert_eq!(fleet_dimension(&reversed), found);
    // A window of three steps around the same one of each run.
    let steps: Vec<FleetPoint> = points
        .iter()
        .flat_map(|it| [-0.25, 0.0, 0.25].map(|off| FleetPoint { ln_size: it.ln_size + off, ..*it }))
        .collect();
    let averaged = fleet_dimension(&steps);
    assert_eq!(averaged.runs, found.runs);
    assert!((averaged.dimension.unwrap() - found.dimension.unwrap()).abs() < 1e-12);
    assert!((averaged.high.unwrap() - found.high.unwrap()).abs() < 1e-12);
}

#[test]
fn bad_points_are_refused() {
    assert_eq!(fleet_dimension(&[]).reason, Some(Reason::Empty));
    let mut points = power_law(1.0, 0.0, 2, 7);
    points[3].ln_size = f64::NAN;
    assert_eq!(fleet_dimension(&points).reason, Some(Reason::NonFinite));
    let mut points = power_law(1.0, 0.0, 2, 7);
    points[0].parameters = 0;
    assert_eq!(fleet_dimension(&points).reason, Some(Reason::Inconsistent));
    // A line fits them, but its R² leaves float64.
    let points: Vec<FleetPoint> =
        (1..6).map(|at| FleetPoint { parameters: 10 << at, run: 0, ln_size: 1e200 * f64::from(at) }).collect();
    let found = fleet_dimension(&points);
    assert_eq!((found.reason, found.r2, found.dimension), (Some(Reason::PoorFit), None, None));
}
