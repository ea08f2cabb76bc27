//! Made checkpoints of a made training, as safetensors files.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{
    serialize,
    tensor::{Dtype, TensorView},
};

/// A tensor of every checkpoint.
#[derive(Clone, Debug)]
pub struct MadeTensor {
    /// Its name.
    pub name: &'static str,
    /// How a file holds it.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl MadeTensor {
    /// A tensor.
    pub fn new(name: &'static str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name, dtype, shape: shape.to_vec() }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of a file, and the values that they stand for.
    fn encode(&self, values: &[f64]) -> (Vec<u8>, Vec<f64>) {
        let (mut bytes, mut stored) = (Vec::new(), Vec::with_capacity(values.len()));
        for &value in values {
            stored.push(match self.dtype {
                Dtype::F64 => put(&mut bytes, value.to_le_bytes(), value),
                Dtype::F32 => put(&mut bytes, (value as f32).to_le_bytes(), f64::from(value as f32)),
                Dtype::F16 => put(&mut bytes, f16::from_f64(value).to_le_bytes(), f16::from_f64(value).to_f64()),
                Dtype::BF16 => put(&mut bytes, bf16::from_f64(value).to_le_bytes(), bf16::from_f64(value).to_f64()),
                Dtype::I64 => put(&mut bytes, (value as i64).to_le_bytes(), value),
                other => panic!("{other:?} is not made here"),
            });
        }
        (bytes, stored)
    }
}

fn put<const N: usize>(bytes: &mut Vec<u8>, value: [u8; N], stands_for: f64) -> f64 {
    bytes.extend(value);
    stands_for
}

/// A training whose updates have a drift, a few directions of decaying strength that come and go, and noise. For some
/// time two of the directions grow and are then as strong as the drift, so that the edge lies elsewhere.
pub struct MadeTraining {
    tensors: Vec<MadeTensor>,
    random: SplitMix64,
    /// Strongest first; each spans all tensors.
    directions: Vec<Vec<f64>>,
    /// How far the updates go along each direction now.
    coefficients: Vec<f64>,
    checkpoints: u32,
    theta: Vec<f64>,
}

/// Directions besides the noise, each 0.72 times as strong as the one before.
const DIRECTIONS: usize = 6;
const DECAY: f64 = 0.72;
/// Root mean square of the strongest direction's and of the noise's part in an update.
const STRENGTH: f64 = 4e-3;
const NOISE: f64 = 1.5e-3;
/// How much stronger two of them get, and the half period of that in checkpoints.
const GROWTH: f64 = 2.5;
const PERIOD: f64 = 36.0;

impl MadeTraining {
    /// Before its first step.
    pub fn new(seed: u64, tensors: &[MadeTensor]) -> Self {
        let mut random = SplitMix64(seed);
        let len = tensors.iter().map(MadeTensor::elements).sum();
        let mut gaussians = |scale: f64| (0..len).map(|_| scale * random.gaussian()).collect::<Vec<f64>>();
        let theta = gaussians(0.05);
        let directions = (0..DIRECTIONS).map(|j| gaussians(STRENGTH * DECAY.powi(j as i32))).collect();
        Self {
            tensors: tensors.to_vec(),
            random,
            directions,
            coefficients: vec![0.0; DIRECTIONS],
            checkpoints: 0,
            theta,
        }
    }

    /// Trains until the next checkpoint.
    pub fn advance(&mut self) {
        self.checkpoints += 1;
        let growth = 1.0 + GROWTH * (f64::from(self.checkpoints) * std::f64::consts::PI / PERIOD).sin().powi(2);
        for (j, coefficient) in self.coefficients.iter_mut().enumerate() {
            // The first direction is the drift; the others wander.
            *coefficient = if j == 0 { 1.0 } else { 0.7 * *coefficient + 0.7 * self.random.gaussian() };
        }
        for (j, (direction, coefficient)) in self.directions.iter().zip(&self.coefficients).enumerate() {
            let coefficient = if (1..=2).contains(&j) { growth * coefficient } else { *coefficient };
            for (value, part) in self.theta.iter_mut().zip(direction) {
                *value += coefficient * part;
            }
        }
        for value in &mut self.theta {
            *value += NOISE * self.random.gaussian();
        }
    }

    /// Writes the parameters; answers the values that the file stands for, tensor by tensor.
    pub fn write(&self, path: &Path) -> Vec<Vec<f64>> {
        let mut rest = &self.theta[..];
        let mut encoded = Vec::new();
        for tensor in &self.tensors {
            let (own, others) = rest.split_at(tensor.elements());
            rest = others;
            encoded.push(tensor.encode(own));
        }
        let views = self.tensors.iter().zip(&encoded).map(|(tensor, (bytes, _))| {
            (tensor.name, TensorView::new(tensor.dtype, tensor.shape.clone(), bytes).expect("the right size"))
        });
        let file = serialize(views, None).expect("valid tensors");
        std::fs::write(path, file).expect("a file in a temporary directory");
        encoded.into_iter().map(|(_, stored)| stored).collect()
    }

    /// Writes `count` checkpoints `every` steps apart, the first of step 0, as `step-N.safetensors`. Answers paths, and
    /// the values of each.
    pub fn write_all(&mut self, dir: &Path, count: u64, every: u64) -> (Vec<PathBuf>, Vec<Vec<Vec<f64>>>) {
        let (mut paths, mut values) = (Vec::new(), Vec::new());
        for index in 0..count {
            if index > 0 {
                self.advance();
            }
            let path = dir.join(format!("step-{}.safetensors", index * every));
            values.push(self.write(&path));
            paths.push(path);
        }
        (paths, values)
    }
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Nearly: four uniform numbers, added up, with mean 0 and variance 1.
    fn gaussian(&mut self) -> f64 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xFFFF).sum();
        (sum as f64 / 65_535.0 - 2.0) * 3.0_f64.sqrt()
    }
}
