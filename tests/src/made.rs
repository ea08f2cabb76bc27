//! Made frames: what a shard of an attempt sends at a seq is a function of a seed, so that whoever looks at what a server
//! stored can say what it must be.

use gradwatch_proto::v1;

use crate::{
    job::LEARNING_RATE,
    wire::{group_spec, payload_f32, spec},
};

/// d.
pub(crate) const DIM: usize = 64;
/// W.
pub const WINDOWS: [u32; 2] = [3, 5];
/// Optimizer steps between two frames: a rollup bucket of 256 steps is full after a few.
pub const STRIDE: u64 = 40;
/// The groups, and every how many frames each is sent.
pub const GROUPS: [(&str, u64); 2] = [("all", 1), ("seldom", 3)];
/// Parameters of each.
pub(crate) const PARAMETERS: usize = 1_000;

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// NUL in a scalar's name.
    Nul,
    /// A sketch that is too short.
    Short,
    /// A group that was not declared.
    UnknownGroup,
    /// A step that was there before.
    OldStep,
}

impl Flaw {
    /// The field that the server has to name.
    pub fn field(self) -> &'static str {
        match self {
            Self::Nul => "scalars[\"lo\\0ss\"]",
            Self::Short => "payloads[0].sketch_f32",
            Self::UnknownGroup => "payloads[0].group",
            Self::OldStep => "step",
        }
    }
}

/// What a seq stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A frame.
    Frame,
    /// A frame whose sketch of the first group holds NaN.
    NonFinite,
    /// A frame that has to be rejected.
    Flawed(Flaw),
}

/// Where the frames of one attempt come from.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Everything follows from it.
    pub seed: u64,
    /// The step that the attempt begins behind.
    pub start: u64,
    /// Number of shards whose partial sketches add up.
    pub shards: u32,
}

impl Made {
    /// What an attempt of these frames streams.
    pub fn spec() -> v1::StreamSpec {
        v1::StreamSpec {
            sketch_dim: DIM as u32,
            window_lengths: WINDOWS.to_vec(),
            groups: GROUPS.iter().map(|(name, _)| group_spec(name)).collect(),
            update_interval: STRIDE as u32,
            layers: Vec::new(),
            ..spec()
        }
    }

    /// The step of a frame.
    pub fn step(&self, seq: u64) -> u64 {
        self.start + seq * STRIDE
    }

    /// What the job says its loss is.
    pub fn loss(&self, seq: u64) -> f64 {
        unit(self.seed, seq, 0, 1 << 20) + 1.0 / seq as f64
    }

    /// The sketch of a whole update: what the shards' parts add up to.
    pub fn sketch(&self, group: usize, seq: u64) -> Vec<f32> {
        let mut sum = vec![0.0_f64; DIM];
        for shard in 0..self.shards {
            for (sum, part) in sum.iter_mut().zip(self.part(group, seq, shard)) {
                *sum += f64::from(part);
            }
        }
        sum.into_iter().map(|value| value as f32).collect()
    }

    /// One shard's part of a sketch: a direction that turns slowly, with noise, and a spike now and then.
    fn part(&self, group: usize, seq: u64, shard: u32) -> Vec<f32> {
        let spike = if seq % 19 == 18 { 40.0 } else { 1.0 };
        let column = |column: usize| {
            let turn = seq as f64 * 0.02 + column as f64 * (1.0 + group as f64);
            let noise = unit(self.seed, seq, 1 + u64::from(shard), (group * DIM + column) as u64);
            (spike * (turn.sin() + 0.3 * noise)) as f32
        };
        (0..DIM).map(column).collect()
    }

    /// The frame that a shard sends at a seq.
    pub fn frame(&self, seq: u64, shard: u32, slot: Slot) -> v1::Frame {
        let step = self.step(seq);
        let payload = |(group, (_, every)): (usize, &(&str, u64))| {
            let sketch = self.part(group, seq, shard);
            seq.is_multiple_of(*every).then(|| payload_f32(group as u32, step - every * STRIDE, &sketch))
        };
        let mut frame = v1::Frame {
            seq,
            step,
            wall_time_us: 1_700_000_000_000_000 + step as i64,
            learning_rate: Some(LEARNING_RATE),
            scalars: [("loss".to_owned(), self.loss(seq))].into(),
            payloads: GROUPS.iter().enumerate().filter_map(payload).collect(),
            ..v1::Frame::default()
        };
        match slot {
            Slot::Frame => {}
            Slot::NonFinite => {
                let counts = v1::NonFinite { nan: 1, positive_infinity: 0, negative_infinity: 2 };
                frame.payloads[0].body = Some(v1::payload::Body::NonFinite(counts));
            }
            Slot::Flawed(Flaw::Nul) => {
                frame.scalars.insert("lo\0ss".to_owned(), 1.0);
            }
            Slot::Flawed(Flaw::Short) => {
                frame.payloads[0].body = Some(v1::payload::Body::SketchF32(vec![0; 4 * DIM - 4].into()));
            }
            Slot::Flawed(Flaw::UnknownGroup) => frame.payloads[0].group = GROUPS.len() as u32,
            Slot::Flawed(Flaw::OldStep) => {
                frame.step = self.step(1);
                // A row that would be valid, were it not for the step.
                frame.payloads.truncate(1);
                frame.payloads[0].base_step = frame.step - 1;
            }
        }
        frame
    }
}

/// SplitMix64 of a place: between −0.5 and 0.5.
fn unit(seed: u64, seq: u64, stream: u64, index: u64) -> f64 {
    let mut state = seed;
    for part in [seq, stream, index] {
        state = mix(state.wrapping_add(part).wrapping_add(0x9E37_79B9_7F4A_7C15));
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
