//! Addition modulo 31 learned by networks of four widths, with weight decay (they come to generalise) and without (they
//! never do): the directions of the papers' result, never their levels, and the sign warning.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use gradwatch_spectral::cascade::{
    CascadeSnapshot, FleetDimension, FleetPoint, fleet_dimension, reading, whole_cascade,
};

use crate::support::Random;

const MODULUS: usize = 31;
const HIDDEN: [usize; 4] = [48, 72, 96, 144];
const SEEDS: u64 = 1;
const STEPS: usize = 851;
/// Steps of early and late snapshots.
const EARLY: [usize; 3] = [150, 200, 250];
const LATE: [usize; 5] = [750, 775, 800, 825, 850];

/// One-hot pairs → h squares → one output a sum, no biases: N = 3·31·h.
struct Network {
    /// h × 62 and 31 × h: a column an input, a column a hidden unit.
    weights: [Mat<f64>; 2],
    first: [Mat<f64>; 2],
    second: [Mat<f64>; 2],
}

type Pairs = Vec<(usize, usize)>;

/// 45 % for training, the rest for the test.
fn split(random: &mut Random) -> (Pairs, Pairs) {
    let mut pairs: Vec<(usize, usize)> = (0..MODULUS * MODULUS).map(|i| (i / MODULUS, i % MODULUS)).collect();
    for last in (1..pairs.len()).rev() {
        pairs.swap(last, (random.next_u64() % (last as u64 + 1)) as usize);
    }
    let test = pairs.split_off(pairs.len() * 45 / 100);
    (pairs, test)
}

fn product(lhs: faer::MatRef<'_, f64>, rhs: faer::MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(lhs.nrows(), rhs.ncols());
    matmul(out.as_mut(), Accum::Replace, lhs, rhs, 1.0, Par::Seq);
    out
}

impl Network {
    fn new(hidden: usize, random: &mut Random) -> Self {
        let mut gaussian = |rows, columns, fan_in: usize| {
            Mat::from_fn(rows, columns, |_, _| random.gaussian() / (fan_in as f64).sqrt())
        };
        let weights = [gaussian(hidden, 2 * MODULUS, 2 * MODULUS), gaussian(MODULUS, hidden, hidden)];
        let zeros = || [Mat::zeros(hidden, 2 * MODULUS), Mat::zeros(MODULUS, hidden)];
        Self { weights, first: zeros(), second: zeros() }
    }

    /// Pre-activations (h × pairs) and outputs (31 × pairs).
    fn forward(&self, data: &[(usize, usize)]) -> (Mat<f64>, Mat<f64>) {
        let [input, output] = &self.weights;
        let before = Mat::from_fn(input.nrows(), data.len(), |unit, at| {
            let (a, b) = data[at];
            input[(unit, a)] + input[(unit, MODULUS + b)]
        });
        let squares = Mat::from_fn(before.nrows(), before.ncols(), |i, j| before[(i, j)] * before[(i, j)]);
        let outputs = product(output.as_ref(), squares.as_ref());
        (before, outputs)
    }

    fn accuracy(&self, data: &[(usize, usize)]) -> f64 {
        let (_, outputs) = self.forward(data);
        let right = data.iter().enumerate().filter(|(at, (a, b))| {
            let column = |class: usize| outputs[(class, *at)];
            (0..MODULUS).all(|class| column(class) <= column((a + b) % MODULUS))
        });
        right.count() as f64 / data.len() as f64
    }

    /// Gradients of the mean cross-entropy.
    fn gradients(&self, data: &[(usize, usize)]) -> [Mat<f64>; 2] {
        let (before, mut delta) = self.forward(data);
        let count = data.len() as f64;
        for (at, (a, b)) in data.iter().enumerate() {
            let top = (0..MODULUS).map(|class| delta[(class, at)]).fold(f64::NEG_INFINITY, f64::max);
            // Outputs far below the best would be denormal, which is slow.
            let weight = |output: f64| (output - top).max(-60.0).exp();
            let sum: f64 = (0..MODULUS).map(|class| weight(delta[(class, at)])).sum();
            for class in 0..MODULUS {
                let target = f64::from(u8::from(class == (a + b) % MODULUS));
                delta[(class, at)] = (weight(delta[(class, at)]) / sum - target) / count;
            }
        }
        let squares = Mat::from_fn(before.nrows(), before.ncols(), |i, j| before[(i, j)] * before[(i, j)]);
        let output = product(delta.as_ref(), squares.transpose());
        let mut back = product(self.weights[1].transpose(), delta.as_ref());
        let mut input = Mat::zeros(before.nrows(), 2 * MODULUS);
        for (at, (a, b)) in data.iter().enumerate() {
            for unit in 0..before.nrows() {
                back[(unit, at)] *= 2.0 * before[(unit, at)];
                input[(unit, *a)] += back[(unit, at)];
                input[(unit, MODULUS + b)] += back[(unit, at)];
            }
        }
        [input, output]
    }

    /// One AdamW step, learning rate 3e-3, betas 0.9 and 0.98.
    fn step(&mut self, gradients: &[Mat<f64>; 2], step: usize, weight_decay: f64) {
        let correction = |beta: f64| 1.0 - beta.powi(step as i32 + 1);
        let (first_correction, second_correction) = (correction(0.9), correction(0.98));
        for (layer, gradient) in gradients.iter().enumerate() {
            for j in 0..gradient.ncols() {
                for i in 0..gradient.nrows() {
                    let g = gradient[(i, j)];
                    let first = &mut self.first[layer][(i, j)];
                    *first = 0.9 * *first + 0.1 * g;
                    let second = &mut self.second[layer][(i, j)];
                    *second = 0.98 * *second + 0.02 * g * g;
                    let direction = *first / first_correction / ((*second / second_correction).sqrt() + 1e-8);
                    let weight = &mut self.weights[layer][(i, j)];
                    *weight -= 3e-3 * (direction + weight_decay * *weight);
                }
            }
        }
    }
}

/// Row-major as numpy keeps them: inputs × hidden, then hidden × outputs.
fn tensors(gradients: &[Mat<f64>; 2]) -> [Vec<f64>; 2] {
    [0, 1].map(|layer| {
        let matrix = &gradients[layer];
        (0..matrix.ncols()).flat_map(|j| (0..matrix.nrows()).map(move |i| matrix[(i, j)])).collect()
    })
}

/// `nest_dimension` over windows of 1024: these gradients are too small for enough windows of 4096.
fn nest_dimension(tensors: &[Vec<f64>; 2]) -> f64 {
    let magnitudes: Vec<f64> = tensors
        .iter()
        .flat_map(|tensor| {
            let rms = (tensor.iter().map(|x| x * x).sum::<f64>() / tensor.len() as f64).sqrt();
            tensor.iter().map(move |x| x.abs() / rms)
        })
        .collect();
    let count = (magnitudes.len() / 1024).min(16);
    let position = |i: usize| i * (magnitudes.len() - 1024) / (count - 1);
    let windows = (0..count).map(|i| magnitudes[position(i)..position(i) + 1024].to_vec()).collect();
    reading(&CascadeSnapshot { windows, whole: None }).nest_dimension.expect("defined")
}

#[derive(Default)]
struct Family {
    early: Vec<FleetPoint>,
    late: Vec<FleetPoint>,
    early_nest: Vec<f64>,
    late_nest: Vec<f64>,
    lowest_accuracy: f64,
    highest_accuracy: f64,
}

fn train(weight_decay: f64) -> Family {
    let mut family = Family { lowest_accuracy: 1.0, ..Default::default() };
    for hidden in HIDDEN {
        for seed in 0..SEEDS {
            let mut random = Random::new(1000 * hidden as u64 + seed);
            let (train, test) = split(&mut random);
            let mut network = Network::new(hidden, &mut random);
            for step in 0..STEPS {
                let gradients = network.gradients(&train);
                let (early, late) = (EARLY.contains(&step), LATE.contains(&step));
                if early || late {
                    let tensors = tensors(&gradients);
                    let cascade = whole_cascade(&tensors.concat()).expect("a gradient");
                    let parameters = (3 * MODULUS * hidden) as u64;
                    let point = FleetPoint { parameters, run: seed, ln_size: (cascade.topplings as f64).ln() };
                    let (points, nests) = if early {
                        (&mut family.early, &mut family.early_nest)
                    } else {
                        (&mut family.late, &mut family.late_nest)
                    };
                    points.push(point);
                    nests.push(nest_dimension(&tensors));
                }
                network.step(&gradients, step, weight_decay);
            }
            let accuracy = network.accuracy(&test);
            family.lowest_accuracy = family.lowest_accuracy.min(accuracy);
            family.highest_accuracy = family.highest_accuracy.max(accuracy);
        }
    }
    family
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_fleet_dimension_falls_where_modular_addition_is_generalised_and_the_nest_dimension_rises() {
    let (decayed, plain) = std::thread::scope(|scope| {
        let decayed = scope.spawn(|| train(1.0));
        let plain = train(0.0);
        (decayed.join().expect("no panic"), plain)
    });
    let dimension = |points: &[FleetPoint]| {
        let found: FleetDimension = fleet_dimension(points);
        println!("{:?} r2 {:?}", found.dimension, found.r2);
        found.dimension.expect("published")
    };
    println!("accuracy {} {}", decayed.lowest_accuracy, plain.highest_accuracy);
    println!(
        "nest {} {} plain {} {}",
        mean(&decayed.early_nest),
        mean(&decayed.late_nest),
        mean(&plain.early_nest),
        mean(&plain.late_nest)
    );
    assert!(decayed.lowest_accuracy > 0.4 && plain.highest_accuracy < 0.3);
    let (early, late) = (dimension(&decayed.early), dimension(&decayed.late));
    let never = dimension(&plain.late);
    assert!(early > late + 0.05, "{early} {late}");
    assert!(never > late + 0.05 && never > 1.0, "{never} {late}");
    assert!(mean(&decayed.late_nest) > mean(&decayed.early_nest));
    assert!(mean(&decayed.late_nest) > mean(&plain.late_nest));
}
