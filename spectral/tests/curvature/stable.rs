//! What must not change a reading.

use gradwatch_spectral::curvature::{CurvatureReading, CurvatureSnapshot, reading};

use crate::made::{DIRECTIONS, Head, falling, noisy, power_law, snapshot};
use crate::support::{Random, assert_close};

/// Bits, not values.
fn bits(reading: &CurvatureReading) -> String {
    serde_json::to_string(reading).expect("readings are finite")
}

#[test]
fn the_same_snapshot_gives_the_same_bits_on_every_thread() {
    let mut random = Random::new(31);
    let snapshots: Vec<_> =
        (0..20).map(|_| noisy(&mut random, 0.5)).chain([Head::trained(31, 20).snapshot(DIRECTIONS)]).collect();
    let read = |snapshots: &[CurvatureSnapshot]| snapshots.iter().map(|it| bits(&reading(it))).collect::<Vec<_>>();
    let here = read(&snapshots);
    // In the other order, on another thread.
    let reversed: Vec<_> = snapshots.into_iter().rev().collect();
    let mut there = std::thread::spawn(move || read(&reversed)).join().unwrap();
    there.reverse();
    assert_eq!(here, there);
}

/// Of this snapshot, for ever: a changed generator, seed or number of permutations would change stored history.
#[test]
fn the_permutations_behind_the_null_are_fixed() {
    let sigma = falling(1.0);
    let curvature =
        sigma.iter().zip(0..).map(|(sigma, k)| sigma * sigma * (1.5 + (3.0 * f64::from(k)).sin())).collect();
    let reading = reading(&snapshot(sigma, curvature));
    assert_close(reading.transfer_error.unwrap(), GOLDEN_ERROR, 1e-9, "transfer_error");
    assert_close(reading.transfer_null.unwrap(), GOLDEN_NULL, 1e-9, "transfer_null");
}

const GOLDEN_ERROR: f64 = 0.051_510_589_963_064_5;
const GOLDEN_NULL: f64 = 0.039_963_332_478_179_08;

#[test]
fn the_order_of_the_directions_does_not_matter() {
    let made = Head::trained(33, 12).snapshot(DIRECTIONS);
    let mut turned = made.clone();
    let factors = turned.kronecker.as_mut().unwrap();
    for values in [
        &mut turned.sigma,
        &mut turned.curvature,
        &mut factors.output_factor,
        &mut factors.input_factor,
        &mut factors.output_eigenvalues,
        &mut factors.input_eigenvalues,
        &mut factors.sum_of_products,
    ] {
        values.reverse();
    }
    assert_ne!(made, turned);
    assert_eq!(bits(&reading(&made)), bits(&reading(&turned)));
}

/// A loss in other units multiplies sigma and h by one factor, other weights by two of them: no slope sees it.
#[test]
fn units_change_no_slope() {
    let mut random = Random::new(34);
    let made = noisy(&mut random, 0.3);
    let before = reading(&made);
    let scaled = |values: &[f64], factor: f64| values.iter().map(|value| factor * value).collect::<Vec<_>>();
    let after = reading(&snapshot(scaled(&made.sigma, 1e-12), scaled(&made.curvature, 1e9)));
    for (field, value) in CurvatureReading::FIELDS.iter().zip(after.values()) {
        let Some(value) = value.and_then(|value| value.as_number()) else { continue };
        let at = CurvatureReading::FIELDS.iter().position(|it| it.name == field.name).unwrap();
        let expected = before.values()[at].clone().and_then(|value| value.as_number()).unwrap();
        assert_close(value, expected, 1e-9, field.name);
    }
    assert_eq!(after.rank_model, before.rank_model);
}

/// Below the numerical rank stands rounding noise, whatever curvature comes with it.
#[test]
fn what_lies_below_the_numerical_rank_changes_nothing() {
    let mut made = power_law(0.8, 2.0);
    let before = reading(&made);
    made.sigma.extend([0.99e-5 * made.sigma[0], 1e-9, 0.0]);
    made.curvature.extend([1e6, -1e6, 3.0]);
    let after = reading(&made);
    assert_eq!((after.directions, after.k_eff), (Some(23), Some(20)));
    assert_eq!(bits(&CurvatureReading { directions: before.directions, ..after }), bits(&before));
}

#[test]
fn near_ties_share_their_mean_curvature() {
    let mut made = power_law(1.0, 2.0);
    // Three chained: the outer two differ by more than a thousandth.
    made.sigma[5] = made.sigma[4] * (1.0 - 0.9e-3);
    made.sigma[6] = made.sigma[5] * (1.0 - 0.9e-3);
    let mut averaged = made.clone();
    let mean = (made.curvature[4] + made.curvature[5] + made.curvature[6]) / 3.0;
    averaged.curvature[4..7].fill(mean);
    assert_ne!(made.curvature, averaged.curvature);
    let (read, expected) = (reading(&made), reading(&averaged));
    assert_close(read.exponent.unwrap(), expected.exponent.unwrap(), 1e-12, "exponent");
    assert_close(read.hessian_decay.unwrap(), expected.hessian_decay.unwrap(), 1e-12, "hessian_decay");
    assert_close(read.participation.unwrap(), expected.participation.unwrap(), 1e-12, "participation");
    // A rotation within the tie moves curvature between its directions: nothing is read differently.
    let mut rotated = made.clone();
    rotated.curvature[4] += 5.0;
    rotated.curvature[6] -= 5.0;
    assert!(rotated.curvature[6] < 0.0);
    let rotated = reading(&rotated);
    assert_eq!(rotated.negative, Some(0), "signs are counted after averaging");
    assert_close(rotated.exponent.unwrap(), read.exponent.unwrap(), 1e-9, "exponent");
    // A gap of a thousandth is none.
    let mut apart = power_law(1.0, 2.0);
    apart.sigma[5] = apart.sigma[4] * (1.0 - 1.1e-3);
    apart.curvature[5] = -1.0;
    assert_eq!(reading(&apart).negative, Some(1));
}
