use gradwatch_spectral::learning_cell::{Activation, depths_of_atoms, reading};

use crate::support::{Random, block, narrow, orthonormal, scaled};

/// (orbit, variety, rank).
type Row = (Option<u64>, Option<u64>, Option<u64>);

fn row(orbit: Option<u64>, variety: u64, rank: u64) -> Row {
    (orbit, Some(variety), Some(rank))
}

fn of(activation: Activation, rows: &[Vec<f64>]) -> Row {
    let rows: Vec<Vec<f32>> = rows.iter().map(|row| narrow(row)).collect();
    depths_of_atoms(activation, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn three_orthogonal_directions() {
    for seed in 0..10 {
        let rows = orthonormal(3, 6, &mut Random::new(seed));
        assert_eq!(of(Activation::Tanh, &rows), row(Some(1), 1, 3), "{seed}");
        assert_eq!(of(Activation::Relu, &rows), row(Some(1), 1, 3), "{seed}");
        assert_eq!(of(Activation::He3, &rows), row(Some(3), 3, 3), "{seed}");
    }
}

#[test]
fn nine_random_directions() {
    for seed in 0..10 {
        let mut random = Random::new(seed);
        let rows: Vec<Vec<f64>> = (0..9).map(|_| random.normals(6).iter().map(|x| x / 2.0).collect()).collect();
        assert_eq!(of(Activation::Tanh, &rows), row(Some(1), 3, 9), "{seed}");
        assert_eq!(of(Activation::Relu, &rows), row(Some(1), 2, 9), "{seed}");
        assert_eq!(of(Activation::He3, &rows), row(Some(1), 3, 9), "{seed}");
    }
}

#[test]
fn one_direction_with_norms_half_one_two() {
    for seed in 0..10 {
        let direction = &orthonormal(1, 6, &mut Random::new(seed))[0];
        let rows: Vec<Vec<f64>> = [0.5, 1.0, 2.0].iter().map(|s| direction.iter().map(|x| x * s).collect()).collect();
        assert_eq!(of(Activation::Tanh, &rows), row(Some(5), 5, 3), "{seed}");
        assert_eq!(of(Activation::Relu, &rows), row(None, 0, 1), "{seed}");
        assert_eq!(of(Activation::He3, &rows), row(Some(3), 3, 2), "{seed}");
    }
}

#[test]
fn pairs_of_opposite_directions() {
    let v = orthonormal(3, 6, &mut Random::new(3));
    let rows = [v[..2].to_vec(), scaled(&v[..2], -1.0), v[2..].to_vec()].concat();
    assert_eq!(of(Activation::Tanh, &rows).2, Some(3));
    // relu(z) − relu(−z) = z is no relation among these five.
    assert_eq!(of(Activation::Relu, &rows).2, Some(5));
    // In a block tanh's pairs are one atom each; ReLU's are two.
    let outer = [1.0, 0.9, 0.8, 0.7, 0.6];
    assert_eq!(reading(&block(Activation::Tanh, &outer, &rows)).active_atoms, Some(3));
    let relu = reading(&block(Activation::Relu, &outer, &rows));
    assert_eq!((relu.active_atoms, relu.atom_rank), (Some(5), Some(5)));
}

#[test]
fn one_atom_is_told_apart_at_its_first_degree() {
    let row_of = |norm: f64| vec![vec![norm, 0.0]];
    assert_eq!(of(Activation::Tanh, &row_of(0.7)), row(Some(1), 1, 1));
    assert_eq!(of(Activation::Relu, &row_of(0.7)), row(Some(0), 0, 1));
    assert_eq!(of(Activation::He3, &row_of(1.0)), row(Some(3), 3, 1));
    assert_eq!(of(Activation::Square, &row_of(1.0)), row(Some(0), 0, 1));
}

#[test]
fn depth_is_null_where_nine_degrees_do_not_reach() {
    // Thirty directions of the plane have rank 20 at most in degrees 0…9, and more beyond.
    let fan: Vec<Vec<f64>> = (0..30)
        .map(|i| f64::from(i) * std::f64::consts::TAU / 30.0)
        .map(|angle| vec![3.0 * angle.cos(), 3.0 * angle.sin()])
        .collect();
    let (orbit, variety, rank) = of(Activation::Relu, &fan);
    assert!(rank.unwrap() > 15, "{rank:?}");
    assert_eq!(variety, None);
    assert!(orbit.is_some());
}
