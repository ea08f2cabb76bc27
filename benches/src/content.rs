//! What the made jobs send: updates with a few directions that turn slowly, in noise. Frames are functions of (run,
//! seq), so that any reading can be computed again without having kept them.

use bytes::Bytes;
use gradwatch_proto::v1;
use gradwatch_spectral::encoding::{EncodedSketch, Encoding, encode};
use rand::{RngExt as _, SeedableRng, rngs::StdRng};

/// W.
pub(crate) const WINDOW: usize = 10;
/// Parameters of the one group.
pub(crate) const PARAMETERS: u64 = 100_000_000;
/// eta.
pub(crate) const LEARNING_RATE: f64 = 3e-4;
/// The metric by which readings of full windows are counted: defined for these alone, and kept without rollups.
pub(crate) const FULL_WINDOW_METRIC: &str = "edge.modes";
/// Different sketches. Each run goes through them from a place of its own, again and again.
const SKETCHES: usize = 256;
/// Directions that stand out of the noise.
const DIRECTIONS: usize = 3;

/// The sketches of all jobs, encoded once.
pub(crate) struct Content {
    dim: usize,
    sketches: Vec<v1::SketchF16>,
}

impl Content {
    /// Sketches of dimension `dim`.
    pub(crate) fn new(dim: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let mut noise = || rng.random::<f64>() - 0.5;
        let directions: Vec<Vec<f64>> = (0..DIRECTIONS).map(|_| (0..dim).map(|_| noise()).collect()).collect();
        let sketches = (0..SKETCHES).map(|index| {
            let turn = index as f64 * std::f64::consts::TAU / SKETCHES as f64;
            let weights: Vec<f64> =
                (0..DIRECTIONS).map(|j| 1.5 / (j + 1) as f64 * ((j + 1) as f64 * turn).cos()).collect();
            let value = |column: usize| {
                let along: f64 = weights.iter().zip(&directions).map(|(weight, it)| weight * it[column]).sum();
                1e-3 * along
            };
            let update: Vec<f64> = (0..dim).map(|column| value(column) + 1e-3 * noise()).collect();
            let EncodedSketch::F16 { scale, bytes } = encode(&update, Encoding::F16) else {
                unreachable!("made values are finite, and float16 was asked for")
            };
            v1::SketchF16 { scale, values: Bytes::from(bytes) }
        });
        let sketches = sketches.collect();
        Self { dim, sketches }
    }

    /// The sketch that a run sends as its frame `seq`.
    pub(crate) fn sketch(&self, run: usize, seq: u64) -> &v1::SketchF16 {
        &self.sketches[(run * 37 + seq as usize) % SKETCHES]
    }

    /// The frame of a run: step = seq.
    pub(crate) fn frame(&self, run: usize, seq: u64) -> v1::Frame {
        let x = seq as f64;
        let scalars =
            [("loss", 2.0 + 1.0 / x), ("grad_norm", 0.7 + 0.1 * (0.01 * x).sin()), ("tokens_per_s", 81_920.0)];
        v1::Frame {
            seq,
            step: seq,
            wall_time_us: 1_700_000_000_000_000 + 8_000 * seq as i64,
            learning_rate: Some(LEARNING_RATE),
            weight_decay: Some(0.1),
            scalars: scalars.map(|(name, value)| (name.to_owned(), value)).into(),
            payloads: vec![v1::Payload {
                group: 0,
                kind: v1::Kind::Update.into(),
                base_step: seq - 1,
                body: Some(v1::payload::Body::SketchF16(self.sketch(run, seq).clone())),
            }],
            ..v1::Frame::default()
        }
    }

    /// What all runs declare.
    pub(crate) fn spec(&self) -> v1::StreamSpec {
        v1::StreamSpec {
            sketch_dim: self.dim as u32,
            sketch_seed: 7,
            encoding: v1::Encoding::F16.into(),
            window_lengths: vec![WINDOW as u32],
            groups: vec![v1::Group {
                name: "all".into(),
                tensors: vec![v1::Tensor { name: "w".into(), elements: PARAMETERS }],
            }],
            kinds: vec![v1::Kind::Update.into()],
            update_interval: 1,
            layers: Vec::new(),
        }
    }

    /// d.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }
}
