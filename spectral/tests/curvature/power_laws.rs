//! What is recovered from snapshots that are known, and what is not there when it is not.

use gradwatch_spectral::curvature::{CurvatureReading, Kronecker, PRECONDITIONER_DELTA, RankModel, reading, zeta};

use crate::made::{DIRECTIONS, Head, falling, log_normal, noisy, power_law, snapshot};
use crate::support::{Random, assert_close, median};

#[track_caller]
fn assert_near(value: Option<f64>, expected: f64, tolerance: f64) {
    let value = value.expect("a value");
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} within {tolerance}");
}

#[test]
fn exact_power_laws_are_recovered() {
    for (gamma, alpha) in [(0.8, 2.0), (1.0, 1.0), (1.7, 2.2)] {
        let reading = reading(&power_law(gamma, alpha));
        assert_eq!(reading.reason, None);
        assert_eq!((reading.directions, reading.k_eff, reading.negative), (Some(20), Some(20), Some(0)));
        assert_near(reading.exponent, alpha, 1e-10);
        assert_near(reading.rank_decay, gamma, 1e-10);
        assert_near(reading.hessian_decay, alpha * gamma, 1e-10);
        for r2 in [reading.exponent_r2, reading.rank_decay_r2, reading.hessian_decay_r2] {
            assert_near(r2, 1.0, 1e-10);
        }
        assert_near(reading.exponent_se, 0.0, 1e-10);
        assert_near(reading.transfer_error, 0.0, 1e-10);
        assert_near(reading.transfer_null, 0.0, 1e-10);
        assert_eq!((reading.r2_low, reading.rank_model), (Some(false), Some(RankModel::PowerLaw)));
        let sum = |power: f64| (1..=20).map(|k| f64::from(k).powf(-power)).sum::<f64>();
        assert_near(reading.participation, sum(alpha * gamma).powi(2) / sum(2.0 * alpha * gamma), 1e-10);
        assert_near(reading.participation_gradient, sum(gamma).powi(2) / sum(2.0 * gamma), 1e-10);
    }
}

/// Five points whose residuals are orthogonal to the line: everything about the fit is known.
#[test]
fn slope_r2_and_standard_error_are_those_of_least_squares() {
    let residuals = [2.0, -1.0, -2.0, -1.0, 2.0].map(|r| 0.3 * r);
    let sigma: Vec<f64> = [5.0, 4.0, 3.0, 2.0, 1.0].map(f64::exp).to_vec();
    let curvature = sigma.iter().zip(residuals).map(|(sigma, r)| (2.0 * sigma.ln() + r).exp()).collect();
    let reading = reading(&snapshot(sigma, curvature));
    let rss = 14.0 * 0.09;
    assert_near(reading.exponent, 2.0, 1e-12);
    assert_near(reading.exponent_r2, 1.0 - rss / (40.0 + rss), 1e-12);
    assert_near(reading.exponent_se, (rss / 3.0 / 10.0f64).sqrt(), 1e-12);
}

/// Residuals as above: R² = 40/(40 + rss).
#[test]
fn a_fit_is_flagged_below_an_r2_of_0_8() {
    for (r2, low) in [(0.81, false), (0.79, true)] {
        let scale = (40.0 * (1.0 - r2) / r2 / 14.0f64).sqrt();
        let sigma: Vec<f64> = [5.0, 4.0, 3.0, 2.0, 1.0].map(f64::exp).to_vec();
        let residuals = [2.0, -1.0, -2.0, -1.0, 2.0].map(|r| scale * r);
        let curvature = sigma.iter().zip(residuals).map(|(sigma, r)| (2.0 * sigma.ln() + r).exp()).collect();
        let reading = reading(&snapshot(sigma, curvature));
        assert_near(reading.exponent_r2, r2, 1e-12);
        assert_eq!(reading.r2_low, Some(low));
    }
}

#[test]
fn the_three_slopes_sum_to_the_common_exponent() {
    for classes in [8, 10, 20, 40] {
        let reading = reading(&Head::trained(classes as u64, classes).snapshot(DIRECTIONS));
        assert_eq!(reading.reason, None, "{classes} classes");
        assert_sum(&reading);
        // Errors and inputs of a head hang together only weakly: the product of means is about right.
        assert!((0.5..2.0).contains(&reading.concentration.unwrap()), "{:?}", reading.concentration);
    }
    // It is arithmetic, so that it also holds for ingredients that mean nothing.
    let mut random = Random::new(3);
    for _ in 0..100 {
        let mut made = noisy(&mut random, 1.0);
        let mut positive = |count: usize| random.gaussians(count).iter().map(|z| (3.0 * z).exp()).collect::<Vec<_>>();
        made.kronecker = Some(Kronecker {
            output_factor: positive(20),
            input_factor: positive(20),
            output_eigenvalues: positive(20),
            input_eigenvalues: positive(12),
            sum_of_products: vec![],
        });
        assert_sum(&reading(&made));
    }
}

#[track_caller]
fn assert_sum(reading: &CurvatureReading) {
    let parts = reading.beta.unwrap() + reading.phi_slope.unwrap() + reading.chi_slope.unwrap();
    assert_near(reading.exponent_common, parts, 1e-9);
}

/// Exact powers of sigma in every ingredient, the second half of the directions without a usable one.
#[test]
fn the_accounting_is_over_the_directions_that_have_every_factor() {
    let sigma = falling(1.0);
    let powers = |power: f64| sigma.iter().map(|sigma| sigma.powf(power)).collect::<Vec<_>>();
    // ld·la = sigma^1.8, the factors' product sigma^1.5, h = sigma^1.3.
    let mut made = snapshot(sigma.clone(), powers(1.3));
    let kronecker = Kronecker {
        output_factor: powers(0.9),
        input_factor: powers(0.6),
        output_eigenvalues: powers(1.1),
        input_eigenvalues: powers(0.7),
        sum_of_products: powers(1.5).iter().map(|product| 1.25 * product).collect(),
    };
    let check = |made: &_| {
        let reading = reading(made);
        assert_eq!(reading.reason, None);
        assert_near(reading.beta, 1.8, 1e-10);
        assert_near(reading.phi_slope, -0.3, 1e-10);
        assert_near(reading.chi_slope, -0.2, 1e-10);
        assert_near(reading.exponent_common, 1.3, 1e-10);
        assert_near(reading.concentration, 1.25, 1e-10);
    };
    made.kronecker = Some(kronecker.clone());
    check(&made);
    // Rounding noise below zero, in both factors of one product too; and fewer eigenvalues of one factor.
    let mut rounded = kronecker;
    rounded.output_factor[15] = -1e-18;
    rounded.input_factor[15] = -1e-18;
    rounded.input_factor[14] = 0.0;
    rounded.output_eigenvalues[19] = -1e-19;
    rounded.input_eigenvalues[19] = -1e-19;
    rounded.input_eigenvalues.truncate(18);
    made.kronecker = Some(rounded);
    check(&made);
}

/// Sorting can only raise the decay.
#[test]
fn hessian_decay_is_at_least_the_unsorted_slope() {
    let mut random = Random::new(5);
    for draw in 0..200 {
        let mut made = noisy(&mut random, 0.05 * f64::from(draw));
        if draw % 3 == 0 {
            made.curvature[random.next_u64() as usize % 20] = -1.0;
        }
        let positive: Vec<f64> = made.curvature.iter().copied().filter(|h| *h > 0.0).collect();
        let points: Vec<(f64, f64)> = positive.iter().zip(1..).map(|(h, j)| (f64::from(j).ln(), h.ln())).collect();
        let n = points.len() as f64;
        let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
        let xy: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
        let xx: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let sorted = reading(&made).hessian_decay.unwrap();
        assert!(sorted >= -xy / xx - 1e-12, "draw {draw}: {sorted} < {}", -xy / xx);
    }
}

#[test]
fn a_head_of_c_classes_has_c_minus_1_directions() {
    for classes in [3, 5, 6, 10, 20] {
        let made = Head::trained(classes as u64, classes).snapshot(DIRECTIONS);
        assert_eq!(made.sigma.len(), classes);
        let reading = reading(&made);
        assert_eq!(reading.k_eff, Some(classes as u64 - 1), "{:?}", made.sigma);
        assert_eq!(reading.exponent.is_some(), classes > 5, "{classes} classes");
    }
}

fn medians(draws: impl Iterator<Item = CurvatureReading>) -> (f64, f64, f64) {
    let readings: Vec<_> = draws.collect();
    let of =
        |value: fn(&CurvatureReading) -> Option<f64>| median(readings.iter().map(|it| value(it).unwrap()).collect());
    (of(|it| it.exponent_r2), of(|it| it.transfer_error), of(|it| it.transfer_null))
}

#[test]
fn the_transfer_error_is_large_for_shuffled_curvatures() {
    let mut random = Random::new(7);
    let (_, error, _) = medians((0..200).map(|_| {
        let sigma = falling(1.0);
        let mut curvature: Vec<f64> = sigma.iter().map(|sigma| sigma * sigma).collect();
        for last in (1..curvature.len()).rev() {
            curvature.swap(last, random.next_u64() as usize % (last + 1));
        }
        reading(&snapshot(sigma, curvature))
    }));
    assert!(error > 0.5, "{error}");
}

/// ... and small for mild noise.
#[test]
fn the_transfer_error_is_small_for_mild_noise() {
    let mut random = Random::new(8);
    let (_, error, _) = medians((0..200).map(|_| reading(&noisy(&mut random, 0.2))));
    assert!(error < 0.01, "{error}");
}

/// The figures of docs/instruments/curvature.md: the error is no smaller than by chance, whatever the noise.
#[test]
fn the_null_stands_right_beside_the_transfer_error() {
    for (noise, r2, error, null) in TRANSFER_FIGURES {
        let mut random = Random::new(12);
        let found = medians((0..200).map(|_| reading(&noisy(&mut random, noise))));
        assert!((found.0 - r2).abs() < 0.002, "noise {noise}: {found:?}");
        assert!((found.1 / error - 1.0).abs() < 0.1 && (found.2 / null - 1.0).abs() < 0.1, "noise {noise}: {found:?}");
        assert!((0.6..1.6).contains(&(found.1 / found.2)), "noise {noise}: {found:?}");
    }
}

/// Noise of ln h; median R², transfer error and null of 200 draws.
const TRANSFER_FIGURES: [(f64, f64, f64, f64); 4] = [
    (0.1, 0.998, 0.0014, 0.0013),
    (0.2, 0.993, 0.0028, 0.0026),
    (0.4, 0.973, 0.0065, 0.0071),
    (0.8, 0.898, 0.033, 0.036),
];

/// The figures of docs/instruments/curvature.md for curvatures that have nothing to do with sigma.
#[test]
fn curvatures_that_ignore_sigma_are_flagged() {
    let mut random = Random::new(13);
    let readings: Vec<_> = (0..1000)
        .map(|_| {
            let curvature = random.gaussians(DIRECTIONS).iter().map(|z| z.exp()).collect();
            reading(&snapshot(log_normal(), curvature))
        })
        .collect();
    let share = |holds: fn(&CurvatureReading) -> bool| readings.iter().filter(|it| holds(it)).count() as f64 / 1000.0;
    assert_eq!(share(|it| it.r2_low == Some(true)), 1.0);
    let beyond = share(|it| it.exponent.unwrap().abs() > 3.0 * it.exponent_se.unwrap());
    assert!((0.002..0.02).contains(&beyond), "{beyond}");
    let error = median(readings.iter().filter_map(|it| it.transfer_error).collect());
    assert!((0.9..1.1).contains(&error), "{error}");
}

#[test]
fn zeta_of_2_and_4_give_five_halves() {
    let (two, four) = (zeta(2.0).unwrap(), zeta(4.0).unwrap());
    assert_close(two * two / four, 2.5, 1e-14, "zeta(2)^2/zeta(4)");
}

/// The expression in zeta bounds an exact power law; a second direction as strong as the first passes it.
#[test]
fn the_zeta_ratio_is_no_bound_on_data() {
    let exact = reading(&power_law(0.8, 2.0));
    assert!((0.5..1.0).contains(&exact.participation_zeta_ratio.unwrap()), "{exact:?}");
    // alpha·gamma = 2: the bound is 5/2.
    let of_two = reading(&power_law(1.0, 2.0));
    assert_close(of_two.participation_zeta_ratio.unwrap(), of_two.participation.unwrap() / 2.5, 1e-9, "zeta ratio");
    let curvature: Vec<f64> = [1.0, 1.0].into_iter().chain((3..=20).map(|k| 0.5 * f64::from(k).powi(-4))).collect();
    let mut sigma: Vec<f64> = curvature.iter().map(|h: &f64| h.sqrt()).collect();
    sigma[0] *= 1.01;
    let doubled = reading(&snapshot(sigma, curvature));
    assert!(doubled.participation_zeta_ratio.unwrap() > 1.0, "{doubled:?}");
}

#[test]
fn rank_models_are_told_apart() {
    let fall = |model: fn(f64) -> f64| {
        let sigma: Vec<f64> = (1..=DIRECTIONS).map(|k| model(k as f64).exp()).collect();
        reading(&snapshot(sigma.clone(), sigma)).rank_model.unwrap()
    };
    assert_eq!(fall(|k| -1.3 * k.ln()), RankModel::PowerLaw);
    assert_eq!(fall(|k| -0.4 * k), RankModel::Exponential);
    assert_eq!(fall(|k| -0.4 * k.ln() - 0.29 * k.ln().powi(2)), RankModel::LogNormal);
    // Every model fits a level exactly: the earliest is said.
    assert_eq!(fall(|_| 1.0), RankModel::PowerLaw);
    // A little scatter does not buy the third parameter.
    let mut random = Random::new(11);
    let scattered: Vec<f64> = falling(1.0).iter().map(|sigma| sigma * (0.01 * random.gaussian()).exp()).collect();
    assert_eq!(reading(&snapshot(scattered.clone(), scattered)).rank_model, Some(RankModel::PowerLaw));
    let scattered: Vec<f64> = log_normal().iter().map(|sigma| sigma * (0.02 * random.gaussian()).exp()).collect();
    assert_eq!(reading(&snapshot(scattered.clone(), scattered)).rank_model, Some(RankModel::LogNormal));
}

#[test]
fn the_preconditioner_follows_the_exponent() {
    assert_eq!(PRECONDITIONER_DELTA, 0.1);
    for alpha in [0.5, 1.0, 2.0] {
        let made = power_law(1.0, alpha);
        let found = reading(&made).preconditioner.unwrap();
        let delta = PRECONDITIONER_DELTA * made.sigma[0].powf(alpha);
        assert_eq!(found.len(), made.sigma.len());
        for (sigma, found) in made.sigma.iter().zip(found) {
            assert_close(found, sigma / (sigma.powf(alpha) + delta), 1e-10, "T(sigma; alpha)");
        }
    }
}
