//! How few atoms give the block again.

use super::{atoms::Atoms, features::Features};

/// An atom with less of its squared norm left is a combination of the atoms taken before.
const DEPENDENT: f64 = 1e-10;
/// f is zero to rounding below this part of what its neurons hold.
const ZERO: f64 = 1e-12;

/// r(S), S = 1, 2, …: relative squared residual Σ(f−f_S)²/Σf² of the best S active atoms found greedily, coefficients
/// refitted at each step \[ours\]. The first of equals wins. None when f = 0.
pub(super) fn curve(atoms: &Atoms, features: &Features, loads: &[f64], energy: f64) -> Option<Vec<f64>> {
    let held: f64 = loads.iter().map(|load| load.abs()).sum();
    if !(energy > ZERO * held * held && energy.is_finite()) {
        return None;
    }
    let count = atoms.count();
    let mut gram = features.gram(&atoms.neurons);
    let mut products = features.products_with_sum(loads, &atoms.neurons);
    let mut left: Vec<usize> = (0..count).collect();
    let mut residual = 1.0f64;
    let mut curve = Vec::with_capacity(count);
    for _ in 0..count {
        // What is left of f and of each atom is orthogonal to the atoms taken, so this is the whole gain of a refit.
        let gain = |atom: usize| {
            if gram[(atom, atom)] > DEPENDENT { products[atom].powi(2) / gram[(atom, atom)] } else { 0.0 }
        };
        let best = left
            .iter()
            .enumerate()
            .fold((0, -1.0), |best, (place, atom)| if gain(*atom) > best.1 { (place, gain(*atom)) } else { best });
        let taken = left.remove(best.0);
        residual = (residual - best.1 / energy).clamp(0.0, 1.0);
        curve.push(residual);
        if best.1 > 0.0 {
            let (pivot, product) = (gram[(taken, taken)], products[taken]);
            let column: Vec<f64> = (0..count).map(|atom| gram[(atom, taken)] / pivot).collect();
            for atom in 0..count {
                products[atom] -= column[atom] * product;
                for other in 0..count {
                    gram[(atom, other)] -= column[atom] * column[other] * pivot;
                }
            }
        }
    }
    Some(curve)
}

/// First S with r(S) ≤ `level`.
pub(super) fn first_within(curve: &[f64], level: f64) -> Option<u64> {
    curve.iter().position(|residual| *residual <= level).map(|at| at as u64 + 1)
}
