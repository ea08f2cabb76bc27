//! XOR on perceptrons of several widths: the direction of the papers' result, never their levels. It holds for tanh and
//! squared error; with ReLU and cross-entropy the dimension is above 1 on both sides of the step, in windows like these.

use gradwatch_spectral::cascade::{FleetPoint, fleet_dimension, whole_cascade};

use crate::support::Random;

const HIDDEN: [usize; 6] = [20, 40, 80, 120, 200, 300];
const SEEDS: u64 = 6;
const STEPS: usize = 2500;
const EVERY: usize = 10;
const LEARNING_RATE: f64 = 0.02;
const CASES: [([f64; 2], f64); 4] = [([0.0, 0.0], 0.0), ([0.0, 1.0], 1.0), ([1.0, 0.0], 1.0), ([1.0, 1.0], 0.0)];

/// A 2-h-1 perceptron with tanh: 2h weights, h biases, h weights, one bias.
struct Perceptron {
    hidden: usize,
    parameters: Vec<f64>,
}

impl Perceptron {
    fn new(hidden: usize, random: &mut Random) -> Self {
        let mut uniform = |fan_in: f64| (2.0 * random.uniform() - 1.0) / fan_in.sqrt();
        let parameters =
            (0..4 * hidden + 1).map(|at| uniform(if at < 3 * hidden { 2.0 } else { hidden as f64 })).collect();
        Self { hidden, parameters }
    }

    /// Gradient of the mean squared error over the four cases, and whether all four are right.
    fn gradient(&self) -> (Vec<f64>, bool) {
        let h = self.hidden;
        let p = &self.parameters;
        let mut gradient = vec![0.0; p.len()];
        let mut solved = true;
        let mut activations = vec![0.0; h];
        for (input, target) in CASES {
            let mut output = p[4 * h];
            for j in 0..h {
                activations[j] = (p[2 * j] * input[0] + p[2 * j + 1] * input[1] + p[2 * h + j]).tanh();
                output += p[3 * h + j] * activations[j];
            }
            solved &= (output > 0.5) == (target > 0.5);
            let error = 2.0 * (output - target) / 4.0;
            gradient[4 * h] += error;
            for j in 0..h {
                gradient[3 * h + j] += error * activations[j];
                let back = error * p[3 * h + j] * (1.0 - activations[j] * activations[j]);
                gradient[2 * j] += back * input[0];
                gradient[2 * j + 1] += back * input[1];
                gradient[2 * h + j] += back;
            }
        }
        (gradient, solved)
    }
}

/// ln s of the gradients every 10 steps, and the step that solved it.
fn train(hidden: usize, seed: u64) -> (Vec<(usize, f64)>, Option<usize>) {
    let mut perceptron = Perceptron::new(hidden, &mut Random::new(1000 * hidden as u64 + seed));
    let (mut sizes, mut solved_at) = (Vec::new(), None);
    for step in 0..STEPS {
        let (gradient, solved) = perceptron.gradient();
        if solved && solved_at.is_none() {
            solved_at = Some(step);
        }
        if step % EVERY == 0 {
            sizes.push((step, (whole_cascade(&gradient).expect("a gradient").topplings as f64).ln()));
        }
        for (parameter, slope) in perceptron.parameters.iter_mut().zip(&gradient) {
            *parameter -= LEARNING_RATE * slope;
        }
    }
    (sizes, solved_at)
}

#[test]
fn the_fleet_dimension_of_xor_rises_where_it_is_solved() {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for hidden in HIDDEN {
        for seed in 0..SEEDS {
            let (sizes, solved_at) = train(hidden, seed);
            let Some(solved_at) = solved_at else { continue };
            for (step, ln_size) in sizes {
                let point = FleetPoint { parameters: 4 * hidden as u64 + 1, run: seed, ln_size };
                let since = step as i64 - solved_at as i64;
                if (-50..0).contains(&since) {
                    before.push(point);
                } else if (50..200).contains(&since) {
                    after.push(point);
                }
            }
        }
    }
    let (before, after) = (fleet_dimension(&before), fleet_dimension(&after));
    println!("before {before:?}\nafter {after:?}");
    assert!(before.dimension.unwrap() < 1.0, "{before:?}");
    assert!(after.low.unwrap() > before.high.unwrap(), "{before:?} {after:?}");
}
