//! Made fields, 4 tensors of 256×256, as a client sends them: what the dimension reacts to, and what not.

use gradwatch_spectral::cascade::{CascadeReading, reading};

use crate::{snapshot_of, support::Random};

const SIDE: usize = 256;
const DRAWS: u64 = 8;

type Field = fn(&mut Random) -> Vec<f64>;

fn gaussian(random: &mut Random) -> Vec<f64> {
    random.gaussians(SIDE * SIDE)
}

/// Student-t with 3 degrees of freedom.
fn student_t3(random: &mut Random) -> Vec<f64> {
    let chi_square = |random: &mut Random| (0..3).map(|_| random.gaussian().powi(2)).sum::<f64>();
    (0..SIDE * SIDE).map(|_| random.gaussian() / (chi_square(random) / 3.0).sqrt()).collect()
}

/// Student-t with 1.5 degrees of freedom.
fn student_t1_5(random: &mut Random) -> Vec<f64> {
    (0..SIDE * SIDE).map(|_| random.gaussian() / (2.0 * gamma(random, 0.75) / 1.5).sqrt()).collect()
}

/// A Gamma variate of shape below 1 (Marsaglia and Tsang).
fn gamma(random: &mut Random, shape: f64) -> f64 {
    let d = shape + 1.0 - 1.0 / 3.0;
    loop {
        let x = random.gaussian();
        let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
        if v > 0.0 && random.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v * random.uniform().powf(1.0 / shape);
        }
    }
}

/// AR(1) along memory.
fn autoregressive(random: &mut Random) -> Vec<f64> {
    let rho: f64 = 0.95;
    let mut value = random.gaussian();
    let step = |_| {
        value = rho * value + (1.0 - rho * rho).sqrt() * random.gaussian();
        value
    };
    (0..SIDE * SIDE).map(step).collect()
}

fn low_rank(random: &mut Random, rank: usize) -> Vec<f64> {
    let (left, right) = (random.gaussians(SIDE * rank), random.gaussians(SIDE * rank));
    let entry = |at: usize| {
        let (row, column) = (at / SIDE * rank, at % SIDE * rank);
        let dot: f64 = left[row..row + rank].iter().zip(&right[column..column + rank]).map(|(a, b)| a * b).sum();
        dot / (rank as f64).sqrt()
    };
    (0..SIDE * SIDE).map(entry).collect()
}

fn rank_1_with_noise(random: &mut Random) -> Vec<f64> {
    low_rank(random, 1).into_iter().map(|value| value + 0.5 * random.gaussian()).collect()
}

/// Rows scaled by a log-normal factor.
fn row_scales(random: &mut Random) -> Vec<f64> {
    let scales: Vec<f64> = random.gaussians(SIDE).into_iter().map(f64::exp).collect();
    (0..SIDE * SIDE).map(|at| scales[at / SIDE] * random.gaussian()).collect()
}

fn tensors(field: Field, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random::new(seed);
    (0..4).map(|_| field(&mut random).into_iter().map(|value| value as f32).collect()).collect()
}

fn readings(field: Field) -> Vec<CascadeReading> {
    (0..DRAWS).map(|draw| reading(&snapshot_of(&tensors(field, 100 + draw)))).collect()
}

fn mean(readings: &[CascadeReading], of: impl Fn(&CascadeReading) -> Option<f64>) -> f64 {
    readings.iter().map(|reading| of(reading).expect("defined")).sum::<f64>() / readings.len() as f64
}

/// The notes' mean and 3 × their standard deviation; light tails return to 1 when shuffled.
#[track_caller]
fn assert_field(field: Field, dimension: f64, deviation: f64, light_tails: bool) -> Vec<CascadeReading> {
    let readings = readings(field);
    let found = mean(&readings, |it| it.nest_dimension);
    let shuffled = mean(&readings, |it| it.nest_shuffled);
    println!(
        "nest {found:.4} se {:.4} shuffled {shuffled:.4} phi {:.3} branching {:.3} duration {:.1}",
        mean(&readings, |it| it.nest_se),
        mean(&readings, |it| it.phi),
        mean(&readings, |it| it.branching),
        mean(&readings, |it| it.duration),
    );
    assert!((found - dimension).abs() <= 3.0 * deviation, "{found} is not {dimension} ± 3 × {deviation}");
    if light_tails {
        assert!((shuffled - 1.0).abs() < 0.02, "shuffled {shuffled}");
    }
    readings
}

#[test]
fn iid_gaussian_gives_one() {
    let readings = assert_field(gaussian, 1.001, 0.003, true);
    for reading in &readings {
        assert!((0.99..=1.01).contains(&reading.nest_dimension.unwrap()), "{reading:?}");
        assert!(reading.nest_z.unwrap().abs() < 5.0, "{reading:?}");
    }
    let (phi, branching) = (mean(&readings, |it| it.phi), mean(&readings, |it| it.branching));
    assert!((phi - 0.26).abs() < 0.02 && (branching - 0.62).abs() < 0.02, "{phi} {branching}");
}

#[test]
fn student_t3_is_in_its_tail() {
    let readings = assert_field(student_t3, 1.012, 0.002, false);
    let arrangement = mean(&readings, |it| Some(it.nest_dimension? - it.nest_shuffled?));
    assert!(arrangement.abs() < 0.01, "{arrangement}");
}

#[test]
fn student_t1_5_is_mostly_in_its_tail() {
    let readings = assert_field(student_t1_5, 1.098, 0.032, false);
    assert!(mean(&readings, |it| it.nest_shuffled) > 1.03);
}

#[test]
fn correlation_along_memory_raises_it() {
    for reading in assert_field(autoregressive, 1.161, 0.026, true) {
        assert!((1.08..=1.24).contains(&reading.nest_dimension.unwrap()), "{reading:?}");
    }
}

#[test]
fn low_rank_raises_it_the_more_the_lower() {
    assert_field(|random| low_rank(random, 16), 1.105, 0.011, true);
    assert_field(|random| low_rank(random, 4), 1.300, 0.015, true);
    assert_field(|random| low_rank(random, 1), 1.653, 0.066, true);
}

#[test]
fn rank_1_with_noise_is_above_1_4() {
    for reading in assert_field(rank_1_with_noise, 1.544, 0.032, true) {
        assert!(reading.nest_dimension.unwrap() > 1.4, "{reading:?}");
    }
}

#[test]
fn log_normal_row_scales_raise_it_most() {
    assert_field(row_scales, 1.859, 0.023, true);
}

#[test]
fn scaling_a_tensor_by_a_power_of_two_changes_nothing() {
    let tensors = tensors(rank_1_with_noise, 7);
    let mut scaled = tensors.clone();
    for (factor, tensor) in [0.125, 1.0, 65_536.0, 2f32.powi(-40)].into_iter().zip(&mut scaled) {
        tensor.iter_mut().for_each(|value| *value *= factor);
    }
    assert_eq!(reading(&snapshot_of(&tensors)), reading(&snapshot_of(&scaled)));
}

#[test]
fn scaling_a_tensor_by_anything_changes_the_dimension_by_less_than_a_thousandth() {
    for seed in 0..4 {
        for field in [gaussian, student_t3, rank_1_with_noise] as [Field; 3] {
            let tensors = tensors(field, seed);
            let mut scaled = tensors.clone();
            for (factor, tensor) in [1e-3, 0.7, 3.0, 1234.5].into_iter().zip(&mut scaled) {
                tensor.iter_mut().for_each(|value| *value *= factor);
            }
            let (plain, scaled) = (reading(&snapshot_of(&tensors)), reading(&snapshot_of(&scaled)));
            let change = scaled.nest_dimension.unwrap() - plain.nest_dimension.unwrap();
            assert!(change.abs() < 1e-3, "{change}");
        }
    }
}

#[test]
fn the_jackknife_error_covers_the_spread_of_iid_draws() {
    let readings = readings(gaussian);
    let mean_dimension = mean(&readings, |it| it.nest_dimension);
    let variance: f64 = readings.iter().map(|it| (it.nest_dimension.unwrap() - mean_dimension).powi(2)).sum::<f64>()
        / (readings.len() - 1) as f64;
    let error = mean(&readings, |it| it.nest_se);
    // Eight draws pin a standard deviation to a factor of about two; the common threshold ties windows together a little.
    assert!((0.4..=3.0).contains(&(error / variance.sqrt())), "{error} {}", variance.sqrt());
}
