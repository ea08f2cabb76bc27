//! The network by its definition, in float64: what tests compare with.

use crate::network::Weights;
use crate::random::SplitMix64;
use crate::table::{AdditionTable, Pair};

/// M of [`instance`].
pub(crate) const MODULUS: usize = 13;

/// More pairs than fit one block, so that what is added up over blocks is tested too.
pub(crate) fn instance(width: usize) -> (Weights, AdditionTable) {
    let mut random = SplitMix64::new(11);
    let table = AdditionTable::draw(MODULUS, 150, &mut random);
    (Weights::random(MODULUS, width, &mut random), table)
}

/// The centred outputs for one pair: x is written out and multiplied densely.
pub(crate) fn outputs(hidden: &[f64], output: &[f64], modulus: usize, pair: Pair) -> Vec<f64> {
    let width = output.len() / modulus;
    let mut x = vec![0.0; 2 * modulus];
    x[pair.a] = 1.0;
    x[modulus + pair.b] = 1.0;
    let unit = |h: usize| (0..2 * modulus).map(|i| hidden[i * width + h] * x[i]).sum::<f64>();
    let squares: Vec<f64> = (0..width).map(|h| unit(h).powi(2)).collect();
    let y: Vec<f64> = (0..modulus).map(|c| (0..width).map(|h| output[c * width + h] * squares[h]).sum()).collect();
    let mean = y.iter().sum::<f64>() / modulus as f64;
    y.iter().map(|y| y - mean).collect()
}

/// Squared error, summed over outputs, the mean over pairs.
pub(crate) fn loss(hidden: &[f64], output: &[f64], modulus: usize, pairs: &[Pair]) -> f64 {
    let squared_error = |&pair: &Pair| {
        let target = |c: usize| f64::from(u8::from(c == pair.sum(modulus))) - 1.0 / modulus as f64;
        let y = outputs(hidden, output, modulus, pair);
        y.iter().enumerate().map(|(c, y)| (y - target(c)).powi(2)).sum::<f64>()
    };
    pairs.iter().map(squared_error).sum::<f64>() / pairs.len() as f64
}

pub(crate) fn float64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}
