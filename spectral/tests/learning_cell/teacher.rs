//! Blocks trained on a teacher of three tanh atoms: N = 96, n = 1024, noise 0.1, full-batch gradient descent in the
//! mean-field scaling.

use gradwatch_spectral::learning_cell::{Activation, LearningCellReading, LearningCellSnapshot, ProbeBatch, reading};

use crate::support::{Random, narrow, orthonormal};

const NEURONS: usize = 96;
const SAMPLES: usize = 1024;
const WIDTH: usize = 6;
const STEPS: usize = 1500;
const RATE: f64 = 0.5;
const LANES: usize = 8;

/// (1 − e^−2z)/(1 + e^−2z), the exponential as the 1024th power of a short series: the compiler makes vector code of it,
/// unlike of tanh itself.
fn fast_tanh(z: f64) -> f64 {
    let x = -2.0 * z.abs().min(20.0) / 1024.0;
    let mut e = 1.0 + x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0))));
    for _ in 0..10 {
        e *= e;
    }
    ((1.0 - e) / (1.0 + e)).copysign(z)
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for (x, y) in x.as_chunks::<LANES>().0.iter().zip(y.as_chunks::<LANES>().0) {
        (0..LANES).for_each(|lane| lanes[lane] += x[lane] * y[lane]);
    }
    lanes.iter().sum()
}

struct Trained {
    outer: Vec<f64>,
    /// WIDTH columns of NEURONS rows.
    inner: Vec<Vec<f64>>,
    /// WIDTH columns of SAMPLES values.
    inputs: Vec<Vec<f64>>,
    targets: Vec<f64>,
}

/// The draw of teacher, data and initial weights. What is asserted is what most draws give, not all: of the draws 1 to 8
/// S = 3 is found in 7 with weight decay 1e−2 (4 in the other), and three atoms hold 98 % in 6 with 1e−3 and in 5 without
/// (four in the others).
const DRAW: u64 = 2;

fn train(weight_decay: f64) -> Trained {
    let mut random = Random::new(DRAW);
    let teacher = orthonormal(3, WIDTH, &mut random);
    let inputs: Vec<Vec<f64>> = (0..WIDTH).map(|_| random.normals(SAMPLES)).collect();
    let targets: Vec<f64> = (0..SAMPLES)
        .map(|sample| {
            let atom = |row: &[f64]| (0..WIDTH).map(|k| 1.5 * row[k] * inputs[k][sample]).sum::<f64>().tanh();
            let value: f64 = teacher.iter().zip([1.0, -0.8, 0.6]).map(|(row, a)| a * atom(row)).sum();
            value + 0.1 * random.normal()
        })
        .collect();
    let mut inner: Vec<Vec<f64>> =
        (0..WIDTH).map(|_| random.normals(NEURONS).iter().map(|w| 1.5 * w / (WIDTH as f64).sqrt()).collect()).collect();
    let mut outer = random.normals(NEURONS);
    let mut features = vec![vec![0.0; SAMPLES]; NEURONS];
    for _ in 0..STEPS {
        let mut errors: Vec<f64> = targets.iter().map(|target| -target).collect();
        for (i, feature) in features.iter_mut().enumerate() {
            feature.fill(0.0);
            for k in 0..WIDTH {
                let w = inner[k][i];
                feature.iter_mut().zip(&inputs[k]).for_each(|(z, x)| *z += w * x);
            }
            feature.iter_mut().for_each(|z| *z = fast_tanh(*z));
            let a = outer[i] / NEURONS as f64;
            errors.iter_mut().zip(feature.iter()).for_each(|(e, h)| *e += a * h);
        }
        let mut slopes = vec![0.0; SAMPLES];
        for (i, feature) in features.iter().enumerate() {
            slopes.iter_mut().zip(feature).zip(&errors).for_each(|((slope, h), e)| *slope = (1.0 - h * h) * e);
            let a = outer[i];
            outer[i] -= RATE * (dot(feature, &errors) / SAMPLES as f64 + weight_decay * a);
            for (column, x) in inner.iter_mut().zip(&inputs) {
                let gradient = dot(&slopes, x) * a / SAMPLES as f64;
                column[i] -= RATE * (gradient + weight_decay * column[i]);
            }
        }
    }
    Trained { outer, inner, inputs, targets }
}

fn rows(columns: &[Vec<f64>]) -> Vec<f32> {
    (0..columns[0].len()).flat_map(|i| columns.iter().map(move |column| column[i] as f32)).collect()
}

impl Trained {
    fn snapshot(&self, with_probe: bool) -> LearningCellSnapshot {
        let probe = ProbeBatch { inputs: rows(&self.inputs), targets: narrow(&self.targets) };
        LearningCellSnapshot {
            outer: narrow(&self.outer),
            inner: rows(&self.inner),
            width: WIDTH,
            activation: Activation::Tanh,
            probe: with_probe.then_some(probe),
        }
    }

    fn readings(&self) -> [LearningCellReading; 2] {
        [false, true].map(|with_probe| reading(&self.snapshot(with_probe)))
    }
}

fn show(decay: f64, reading: &LearningCellReading) {
    println!(
        "{decay}: S {:?} rank {:?} r {:.5?} at 2% {:?} depths {:?} {:?} tail {:?} path {:?} chaos {:?}",
        reading.active_atoms,
        reading.atom_rank,
        reading.refit_curve,
        reading.atoms_at_2pct,
        reading.orbit_depth,
        reading.variety_depth,
        reading.hermite_tail,
        reading.path_norm,
        reading.chaos_upper
    );
}

#[test]
fn a_three_atom_teacher_is_found_with_weight_decay_1e_2() {
    let trained = train(1e-2);
    for reading in trained.readings() {
        show(1e-2, &reading);
        assert_eq!((reading.active_atoms, reading.atom_rank), (Some(3), Some(3)));
        assert!(reading.refit_curve.as_ref().unwrap()[2] < 0.01);
        assert_eq!(reading.atoms_at_2pct, Some(3));
        assert_eq!((reading.orbit_depth, reading.variety_depth), (Some(1), Some(1)));
    }
}

#[test]
fn three_atoms_hold_98_percent_with_weight_decay_1e_3() {
    for reading in train(1e-3).readings() {
        show(1e-3, &reading);
        assert_eq!(reading.atoms_at_2pct, Some(3));
    }
}

#[test]
fn three_atoms_hold_98_percent_without_weight_decay() {
    for reading in train(0.0).readings() {
        show(0.0, &reading);
        assert_eq!(reading.atoms_at_2pct, Some(3));
    }
}
