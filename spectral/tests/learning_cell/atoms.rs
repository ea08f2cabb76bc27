use gradwatch_spectral::layers::{LayerReading, Reason};
use gradwatch_spectral::learning_cell::{Activation, LearningCellReading, LearningCellSnapshot, ProbeBatch, reading};

use crate::support::{Random, block, narrow, orthonormal, scaled};

fn made(activation: Activation, neurons: usize, width: usize, seed: u64) -> LearningCellSnapshot {
    let mut random = Random::new(seed);
    let outer = random.normals(neurons);
    let rows: Vec<Vec<f64>> = (0..neurons).map(|_| random.normals(width)).collect();
    block(activation, &outer, &rows)
}

fn close(left: Option<f64>, right: f64, tolerance: f64) {
    let left = left.expect("a value");
    assert!((left - right).abs() <= tolerance * right.abs().max(1e-300), "{left} {right}");
}

#[test]
fn equal_neurons_are_one_atom_and_add_up() {
    let v = orthonormal(2, 5, &mut Random::new(1));
    let rows = [v.clone(), v.clone(), scaled(&v[..1], -1.0)].concat();
    // Direction 0: 1 + 0.5 − (−0.5) turned = 2; direction 1: 1 − 0.6.
    let told = reading(&block(Activation::Tanh, &[1.0, 1.0, 0.5, -0.6, -0.5], &rows));
    assert_eq!((told.active_atoms, told.atom_rank), (Some(2), Some(2)));
    let curve = told.refit_curve.unwrap();
    // The features are orthogonal: what one atom leaves is the other's share.
    assert!((curve[0] - 0.16 / 4.16).abs() < 1e-7 && curve[1] < 1e-9, "{curve:?}");
    assert_eq!(told.atoms_at_2pct, Some(2));
}

#[test]
fn even_activations_join_opposite_directions_with_the_sign_of_the_feature() {
    let v = orthonormal(1, 4, &mut Random::new(2));
    let rows = [v.clone(), scaled(&v, -1.0)].concat();
    let square = reading(&block(Activation::Square, &[1.0, 1.0], &rows));
    assert_eq!((square.active_atoms, square.refit_curve), (Some(1), Some(vec![0.0])));
    // The same for tanh is f = 0: one atom whose coefficients cancel.
    let tanh = reading(&block(Activation::Tanh, &[1.0, 1.0], &rows));
    assert_eq!((tanh.active_atoms, tanh.refit_curve, tanh.reason), (Some(0), None, Some(Reason::NoAtoms)));
}

#[test]
fn features_are_one_atom_above_a_cosine_of_0_98() {
    // The feature of the identity has the cosine of the directions.
    for (cosine, atoms) in [(0.985f64, 1), (0.975, 2), (-0.985, 1), (-0.975, 2)] {
        let rows = [vec![1.0, 0.0], vec![cosine, (1.0 - cosine * cosine).sqrt()]];
        let told = reading(&block(Activation::Identity, &[1.0, 0.9 * cosine.signum()], &rows));
        assert_eq!(told.active_atoms, Some(atoms), "{cosine}");
    }
}

#[test]
fn two_percent_are_left_at_most() {
    // Orthogonal features of one norm: without the smaller one a² /(1 + a²) of ‖f‖² is left.
    let v = orthonormal(2, 5, &mut Random::new(6));
    for (left, atoms) in [(0.019f64, 1), (0.021, 2)] {
        let told = reading(&block(Activation::Tanh, &[1.0, (left / (1.0 - left)).sqrt()], &v));
        assert!((told.refit_curve.as_ref().unwrap()[0] - left).abs() < 1e-6, "{told:?}");
        assert_eq!(told.atoms_at_2pct, Some(atoms), "{left}");
    }
}

#[test]
fn silent_neurons_and_small_atoms_are_dropped() {
    let v = orthonormal(4, 6, &mut Random::new(3));
    let told = reading(&block(Activation::Tanh, &[1.0, 0.03, 0.015, 1e-5], &v));
    assert_eq!(told.active_atoms, Some(2), "1.5 % of the l1 total is too little");
    // More than fifty equal atoms: none holds 2 %.
    let wide = orthonormal(51, 60, &mut Random::new(4));
    let told = reading(&block(Activation::Tanh, &[1.0; 51], &wide));
    assert_eq!((told.active_atoms, told.atom_rank, told.reason), (Some(0), Some(0), Some(Reason::NoAtoms)));
    assert_eq!((told.refit_curve, told.orbit_depth, told.variety_depth), (None, None, None));
    assert_eq!(reading(&block(Activation::Tanh, &[1.0; 49], &wide[..49])).active_atoms, Some(49));
}

#[test]
fn a_fresh_block_has_no_atoms_unless_it_is_narrow() {
    // Null behaviour: Gaussian weights that have learned nothing.
    for (activation, seed) in [(Activation::Tanh, 60), (Activation::Relu, 61), (Activation::Silu, 62)] {
        let wide = reading(&made(activation, 1000, 16, seed));
        assert_eq!((wide.active_atoms, wide.reason), (Some(0), Some(Reason::NoAtoms)), "{activation}");
        assert_eq!(wide.heavy_tail, Some(false));
        // A thousand directions of the plane are near each other, whatever was learned.
        let narrow = reading(&made(activation, 1000, 2, seed));
        println!("{activation}: order {:?}, S of width 2 {:?}", wide.moment_order, narrow.active_atoms);
        assert!((5..=40).contains(&narrow.active_atoms.unwrap()), "{activation}: {narrow:?}");
        assert!((0.4..0.7).contains(&wide.moment_order.unwrap()), "{activation}");
    }
}

#[test]
fn a_relation_beyond_signs_and_permutations_lowers_the_rank() {
    // (w·x)² over the plane spans three dimensions.
    let rows: Vec<Vec<f64>> =
        (0..4).map(|i| f64::from(i) * std::f64::consts::PI / 4.0).map(|angle| vec![angle.cos(), angle.sin()]).collect();
    let told = reading(&block(Activation::Square, &[1.0, 0.9, 0.8, 0.7], &rows));
    assert_eq!((told.active_atoms, told.atom_rank), (Some(4), Some(3)));
    assert!(told.refit_curve.unwrap()[2] < 1e-9);
    // All ReLU neurons of one direction are one atom.
    let one: Vec<Vec<f64>> = [0.5, 1.0, 2.0].iter().map(|s| vec![0.6 * s, 0.8 * s]).collect();
    let told = reading(&block(Activation::Relu, &[1.0, 1.0, 1.0], &one));
    assert_eq!((told.active_atoms, told.atom_rank, told.variety_depth), (Some(1), Some(1), Some(0)));
}

fn discrete(reading: &LearningCellReading) -> [Option<u64>; 6] {
    [
        reading.neurons,
        reading.active_atoms,
        reading.atom_rank,
        reading.atoms_at_2pct,
        reading.orbit_depth,
        reading.variety_depth,
    ]
}

#[test]
fn realisation_symmetries_change_nothing() {
    for (activation, seed) in
        [(Activation::Tanh, 5), (Activation::Relu, 6), (Activation::Square, 7), (Activation::Silu, 8)]
    {
        let plain = made(activation, 30, 3, seed);
        let mut turned = plain.clone();
        turned.outer.reverse();
        turned.inner = plain.inner.chunks(3).rev().flatten().copied().collect();
        for (i, row) in turned.inner.chunks_mut(3).enumerate().filter(|(i, _)| i % 3 == 0) {
            match activation {
                Activation::Tanh => {
                    turned.outer[i] = -turned.outer[i];
                    row.iter_mut().for_each(|w| *w = -*w);
                }
                Activation::Square => row.iter_mut().for_each(|w| *w = -*w),
                Activation::Relu => {
                    turned.outer[i] *= 4.0;
                    row.iter_mut().for_each(|w| *w *= 0.25);
                }
                _ => {}
            }
        }
        let (plain, turned) = (reading(&plain), reading(&turned));
        assert_eq!(discrete(&plain), discrete(&turned), "{activation}");
        assert!(plain.active_atoms.unwrap() > 3, "{activation}");
        close(turned.chaos_upper, plain.chaos_upper.unwrap(), 1e-9);
        for (x, y) in plain.refit_curve.unwrap().iter().zip(turned.refit_curve.unwrap()) {
            assert!((x - y).abs() < 1e-7, "{activation}: {x} {y}");
        }
        close(turned.path_norm, plain.path_norm.unwrap(), 1e-9);
    }
}

#[test]
fn path_norm_is_the_mean_of_the_products_of_norms() {
    let told = reading(&block(Activation::Gelu, &[2.0, -3.0], &[vec![3.0, 4.0], vec![0.0, 1.0]]));
    close(told.path_norm, (2.0 * 5.0 + 3.0) / 2.0, 1e-15);
    assert_eq!(told.neurons, Some(2));
}

#[test]
fn chaos_upper_is_the_variance_over_seeds_at_initialisation() {
    const NEURONS: usize = 32;
    const INPUTS: usize = 400;
    const SEEDS: u64 = 150;
    let mut random = Random::new(9);
    let inputs: Vec<Vec<f64>> = (0..INPUTS).map(|_| random.normals(6)).collect();
    let (mut sums, mut squares, mut proxy) = (vec![0.0; INPUTS], vec![0.0; INPUTS], 0.0);
    for seed in 0..SEEDS {
        let snapshot = made(Activation::Tanh, NEURONS, 6, 100 + seed);
        proxy += reading(&snapshot).chaos_upper.unwrap() / SEEDS as f64;
        for (sample, x) in inputs.iter().enumerate() {
            let neuron = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>().tanh();
            let f: f64 =
                snapshot.inner.chunks(6).zip(&snapshot.outer).map(|(row, a)| f64::from(*a) * neuron(row)).sum::<f64>()
                    / NEURONS as f64;
            sums[sample] += f;
            squares[sample] += f * f;
        }
    }
    let seeds = SEEDS as f64;
    let variance: f64 =
        sums.iter().zip(&squares).map(|(sum, square)| (square - sum * sum / seeds) / (seeds - 1.0)).sum::<f64>()
            / INPUTS as f64;
    let ratio = variance / proxy;
    println!("variance over seeds / chaos_upper = {ratio:.3}");
    assert!((0.85..1.15).contains(&ratio), "{ratio}");
}

fn with_probe(snapshot: &LearningCellSnapshot, inputs: usize, seed: u64) -> LearningCellSnapshot {
    let mut random = Random::new(seed);
    let probe = ProbeBatch { inputs: narrow(&random.normals(inputs * snapshot.width)), targets: vec![] };
    LearningCellSnapshot { probe: Some(probe), ..snapshot.clone() }
}

#[test]
fn a_gaussian_probe_batch_agrees_with_the_closed_forms() {
    for activation in Activation::ALL {
        let mut random = Random::new(20);
        let rows = scaled(&orthonormal(4, 6, &mut random), 1.3);
        let snapshot = block(*activation, &[1.0, -0.8, 0.6, 0.5], &rows);
        let (exact, probed) = (reading(&snapshot), reading(&with_probe(&snapshot, 4000, 21)));
        assert_eq!(discrete(&exact), discrete(&probed), "{activation}");
        close(probed.chaos_upper, exact.chaos_upper.unwrap(), 0.15);
        // A cube has the widest spread of all.
        let tolerance = if *activation == Activation::He3 { 0.08 } else { 0.03 };
        for (x, y) in exact.refit_curve.unwrap().iter().zip(probed.refit_curve.unwrap()) {
            assert!((x - y).abs() < tolerance, "{activation}: {x} {y}");
        }
    }
}

#[test]
fn on_a_probe_batch_features_are_those_of_the_batch() {
    // Inputs along one axis only: two neurons that agree there are one atom.
    let rows = vec![vec![1.0, 0.0], vec![1.0, 5.0]];
    let mut snapshot = block(Activation::Tanh, &[1.0, 1.0], &rows);
    assert_eq!(reading(&snapshot).active_atoms, Some(2));
    let inputs = (0..20).flat_map(|i| [i as f32 / 10.0 - 1.0, 0.0]).collect();
    snapshot.probe = Some(ProbeBatch { inputs, targets: vec![] });
    let told = reading(&snapshot);
    assert_eq!((told.active_atoms, told.atom_rank), (Some(1), Some(1)));
    assert!(told.refit_curve.unwrap()[0] < 1e-12);
    assert!(told.chaos_upper.unwrap() < 1e-12, "neurons that do the same have no variance");
}

#[test]
fn hermite_tail_is_what_the_targets_have_beyond_the_variety_depth() {
    let mut random = Random::new(30);
    // Two identity atoms: variety depth 1. Targets 1 + x_0 + He2(x_1)/2: energies 1, 1 and 1/2 at degrees 0, 1 and 2.
    let mut snapshot = block(Activation::Identity, &[1.0, 0.5], &[vec![1.0, 0.0], vec![0.0, 1.0]]);
    let inputs = random.normals(2 * 4000);
    let targets: Vec<f64> = inputs.chunks(2).map(|x| 1.0 + x[0] + 0.5 * (x[1] * x[1] - 1.0)).collect();
    snapshot.probe = Some(ProbeBatch { inputs: narrow(&inputs), targets: narrow(&targets) });
    let told = reading(&snapshot);
    assert_eq!(told.variety_depth, Some(1));
    let tail = told.hermite_tail.unwrap();
    assert!((tail - 0.5).abs() < 0.12, "{tail}");

    // A block that reaches degree 3 sees the square.
    let rows = vec![vec![0.5, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
    let deeper = block(Activation::He3, &[1.0, 1.0, 1.0], &rows);
    let told = reading(&LearningCellSnapshot { probe: snapshot.probe.clone(), ..deeper });
    assert_eq!(told.variety_depth, Some(3));
    assert!(told.hermite_tail.unwrap().abs() < 0.15, "{told:?}");
}

#[test]
fn the_same_snapshot_gives_the_same_bits() {
    for activation in Activation::ALL {
        for probe in [false, true] {
            let mut snapshot = made(*activation, 120, 7, 40);
            if probe {
                snapshot = with_probe(&snapshot, 150, 41);
            }
            let bytes = |snapshot| postcard::to_stdvec(&reading(snapshot)).unwrap();
            let first = bytes(&snapshot);
            assert_eq!(first, bytes(&snapshot.clone()), "{activation}");
            let told = LayerReading::LearningCell(reading(&snapshot));
            let back = LayerReading::from_values(told.instrument(), told.values()).unwrap();
            assert_eq!(told, back);
        }
    }
}
