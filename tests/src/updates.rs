//! Made training: parameters that move, and the sketches of their moves computed apart from the client.

use gradwatch_spectral::sketch::{Sketcher, TensorName};

use crate::torture::Dice;

/// Parameters of a job at steps 0, 1, …: a slow drift with noise that grows after half the steps. `parameters[t]` has
/// `len` entries.
pub fn random_walk(seed: u64, steps: usize, len: usize) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let drift: Vec<f32> = (0..len).map(|_| uniform()).collect();
    let mut parameters = vec![(0..len).map(|_| uniform()).collect::<Vec<f32>>()];
    for step in 1..=steps {
        let noise = if step > steps / 2 { 3.0 } else { 0.5 };
        let last = &parameters[step - 1];
        let next =
            last.iter().zip(&drift).map(|(value, drift)| value + 0.1 * drift + 0.1 * noise * uniform()).collect();
        parameters.push(next);
    }
    parameters
}

/// Parameters of a job at a step, the same whoever asks: a drift with noise.
pub(crate) fn walk(seed: u64, step: u64, len: usize) -> Vec<f32> {
    let value = |index: u64| {
        let mut drift = Dice(seed ^ index.wrapping_mul(0xD134_2543_DE82_EF95));
        let mut noise = Dice(drift.0 ^ step.wrapping_mul(0xA076_1D64_78BD_642F));
        let unit = |dice: &mut Dice| dice.below(1 << 24) as f64 / f64::from(1 << 24) - 0.5;
        (unit(&mut drift) * step as f64 * 0.1 + unit(&mut noise)) as f32
    };
    (0..len as u64).map(value).collect()
}

/// S(theta_t) − S(theta_{t−1}) for t = 1, 2, …, differences in float64, rounded to float32: what a client with float32
/// encoding sends.
pub fn exact_sketches(parameters: &[Vec<f32>], tensor: &str, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let sketcher = Sketcher::new(dim, seed).expect("a valid sketch");
    let sketches: Vec<Vec<f64>> = parameters
        .iter()
        .map(|values| {
            let mut sketch = vec![0.0_f64; dim];
            sketcher.add(&mut sketch, TensorName::new(tensor), 0, values).expect("the right length");
            sketch
        })
        .collect();
    sketches
        .windows(2)
        .map(|pair| pair[1].iter().zip(&pair[0]).map(|(after, before)| (after - before) as f32).collect())
        .collect()
}
