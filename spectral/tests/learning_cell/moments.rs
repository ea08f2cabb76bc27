use gradwatch_spectral::layers::Reason;
use gradwatch_spectral::learning_cell::{Activation, History, LearningCellReading, LearningCellSnapshot, reading};

use crate::support::Random;

/// 4096 × 7 entries drawn one by one.
fn of_entries(seed: u64, draw: impl Fn(&mut Random) -> f64) -> LearningCellReading {
    entries(seed, 4096, draw)
}

fn entries(seed: u64, neurons: usize, draw: impl Fn(&mut Random) -> f64) -> LearningCellReading {
    let mut random = Random::new(seed);
    let mut next = |count: usize| (0..count).map(|_| draw(&mut random) as f32).collect::<Vec<_>>();
    reading(&LearningCellSnapshot {
        outer: next(neurons),
        inner: next(neurons * 6),
        width: 6,
        activation: Activation::Tanh,
        probe: None,
    })
}

fn uniform(random: &mut Random) -> f64 {
    2.0 * random.uniform() - 1.0
}

fn laplace(random: &mut Random) -> f64 {
    -random.uniform().ln() * (random.uniform() - 0.5).signum()
}

fn student_4(random: &mut Random) -> f64 {
    let chi: f64 = random.normals(4).iter().map(|it| it * it).sum();
    random.normal() / (chi / 4.0).sqrt()
}

#[test]
fn moment_order_of_uniform_entries_is_below_a_quarter() {
    for seed in 0..3 {
        let reading = of_entries(seed, uniform);
        assert!(reading.moment_order.unwrap() < 0.25, "{seed} {reading:?}");
        assert_eq!((reading.moment_k, reading.heavy_tail, reading.hill_index), (Some(24), Some(false), None));
    }
}

#[test]
fn moment_order_of_gaussian_entries_is_about_a_half() {
    for seed in 0..3 {
        let reading = of_entries(seed, Random::normal);
        let order = reading.moment_order.unwrap();
        assert!((0.4..0.7).contains(&order), "{seed} {order}");
        assert_eq!(reading.heavy_tail, Some(false));
        assert!(reading.moment_radius.unwrap() > 0.0);
    }
}

#[test]
fn moment_order_of_laplace_entries_is_about_one() {
    for seed in 0..3 {
        let reading = of_entries(seed, laplace);
        let order = reading.moment_order.unwrap();
        assert!((0.8..1.2).contains(&order), "{seed} {order}");
        assert_eq!(reading.heavy_tail, Some(false));
    }
}

#[test]
fn student_4_entries_are_flagged_as_a_heavy_tail() {
    for seed in 0..8 {
        let reading = of_entries(10 + seed, student_4);
        assert_eq!(reading.heavy_tail, Some(true), "{seed} {reading:?}");
        match reading.moment_order {
            Some(order) => assert!(order > 1.3),
            None => assert!(reading.moment_k.unwrap() < 5 && reading.hill_index.unwrap() < 5.0),
        }
    }
}

#[test]
fn a_tail_without_five_moments_has_a_hill_index_instead() {
    let reading = of_entries(4, |random| random.uniform().powf(-0.5));
    assert!(reading.moment_k.unwrap() < 5);
    assert_eq!((reading.moment_order, reading.moment_radius, reading.moment_propagation), (None, None, None));
    // P(t > x) = x^-2.
    assert!((reading.hill_index.unwrap() - 2.0).abs() < 0.3, "{reading:?}");
    assert_eq!(reading.heavy_tail, Some(true));
}

#[test]
fn the_fit_is_exact_where_moments_grow_as_it_says() {
    // |t| = 1 throughout: M_k = 1, so that order 0 and radius 1 are exact.
    let reading = of_entries(5, |random| if random.uniform() < 0.5 { 3.0 } else { -3.0 });
    assert!(reading.moment_order.unwrap().abs() < 1e-12, "{reading:?}");
    assert!((reading.moment_radius.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!(reading.moment_k, Some(24));
}

#[test]
fn fewer_than_300_neurons_have_no_order() {
    let few = entries(6, 299, Random::normal);
    assert_eq!((few.moment_order, few.moment_radius, few.heavy_tail), (None, None, None));
    assert!(few.moment_k.unwrap() >= 5 && few.hill_index.is_some());
    assert_eq!(entries(6, 300, Random::normal).hill_index, None);
    assert!(entries(6, 300, Random::normal).moment_order.is_some());
    // The diffuse block has no atoms either, which is said first.
    assert_eq!(few.reason, Some(Reason::NoAtoms));
}

#[test]
fn coordinates_are_scaled_by_their_rms_and_zero_ones_dropped() {
    let mut random = Random::new(7);
    let outer = crate::support::narrow(&random.normals(1000));
    let inner = crate::support::narrow(&random.normals(3000));
    let plain = LearningCellSnapshot { outer, inner, width: 3, activation: Activation::Tanh, probe: None };
    let mut stretched = plain.clone();
    stretched.width = 4;
    stretched.inner = plain.inner.chunks(3).flat_map(|row| [row[0] * 8.0, row[1], 0.0, row[2] * 0.25]).collect();
    let (plain, stretched) = (reading(&plain), reading(&stretched));
    assert_eq!(plain.moment_order, stretched.moment_order);
    assert_eq!(plain.moment_k, stretched.moment_k);
}

#[test]
fn moment_propagation_compares_with_the_first_order() {
    let with = |order| LearningCellReading { moment_order: order, ..Default::default() };
    let mut history = History::default();
    let mut answers = Vec::new();
    for order in [None, Some(0.5), Some(0.6), Some(0.61), None, Some(0.2), Some(0.59)] {
        let mut reading = with(order);
        history.complete(&mut reading);
        answers.push(reading.moment_propagation);
        let bytes = postcard::to_stdvec(&history).unwrap();
        history = postcard::from_bytes(&bytes).unwrap();
    }
    assert_eq!(answers, [None, Some(true), Some(true), Some(false), None, Some(true), Some(true)]);
}
