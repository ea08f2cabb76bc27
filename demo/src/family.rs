//! The XOR family as runs: each network streams itself, with its whole gradient around the step that solves its task.

use gradwatch_client::{Activation, CascadeSnapshot, Frame, Layer};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    JobError, Server, Xor,
    job::{CLOSE_TIMEOUT, begin, end},
    snapshots::cell_to_send,
};

/// Networks of each width.
const SEEDS: u64 = 6;
/// A network may take this many steps to solve its task.
const MAX_STEPS: u64 = 5000;
/// Steps around the solving step in which the gradient is sent, and how far these are apart. All runs send it at the same
/// distances from their solving steps.
const BEFORE: u64 = 16;
const AFTER: u64 = 64;
const SNAPSHOT_EVERY: u64 = 2;
/// Steps between two snapshots of the hidden units, from the first on.
const UNITS_EVERY: u64 = 20;
/// So many runs train and stream at once.
pub(crate) const AT_ONCE: usize = 8;
/// The group and the layer watched: all parameters, and their gradient.
const ALL: &str = "all";
/// The hidden units of one of the networks.
pub(crate) const UNITS: &str = "hidden";
/// d of the sketches: the networks are small.
const SKETCH_DIM: usize = 256;
/// What happens when the task is solved.
const SOLVED: &str = "solved";
/// The type of that event.
pub(crate) const SOLVED_EVENT: &str = "job.solved";

/// The networks of one invocation of the demo.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// Their label `width_family`, which is new every time: a family that was streamed before must not join this one.
    pub(crate) label: String,
    first_seed: u64,
}

/// A run of the XOR family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberRun {
    /// The run.
    pub run_id: Uuid,
    /// Hidden units.
    pub width: usize,
    /// Seed of its weights.
    pub seed: u64,
    /// The first step at which all four answers are right.
    pub solving_step: u64,
}

/// A run's name.
pub(crate) fn name(width: usize, seed: u64) -> String {
    format!("xor-{width}-{seed}")
}

impl Family {
    pub(crate) fn new(seed: u64) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        Self { label: format!("xor-{}", &id[..8]), first_seed: seed.wrapping_mul(SEEDS) }
    }

    /// Width and seed of each network.
    pub(crate) fn members(&self) -> impl Iterator<Item = (usize, u64)> {
        let seeds = (0..SEEDS).map(|seed| self.first_seed.wrapping_add(seed));
        Xor::WIDTHS.into_iter().flat_map(move |width| seeds.clone().map(move |seed| (width, seed)))
    }

    /// The network whose hidden units are watched.
    pub(crate) fn has_units_watched(&self, width: usize, seed: u64) -> bool {
        (width, seed) == (Xor::WIDTHS[0], self.first_seed)
    }

    /// Trains a network beyond its solving step and streams it. Blocks until it is done.
    pub(crate) fn stream(&self, server: &Server, width: usize, seed: u64) -> Result<MemberRun, JobError> {
        let solving_step =
            Xor::solving_step(width, seed, MAX_STEPS).ok_or(JobError::Unsolved { max_steps: MAX_STEPS })?;
        let mut network = Xor::new(width, seed);
        let has_units_watched = self.has_units_watched(width, seed);
        let mut builder = server
            .run_builder()
            .name(name(width, seed))
            .label("task", "xor")
            .label("width_family", &self.label)
            .label("width", width.to_string())
            .label("seed", seed.to_string())
            .config(json!({
                "width": width,
                "learning_rate": Xor::learning_rate_of(width),
                "optimizer": "gradient descent",
                "seed": seed,
            }))
            .group(ALL, [("theta", network.parameters().len())])
            .sketch_dim(SKETCH_DIM)
            .seed(seed)
            .layer(ALL, Layer::cascade().every(SNAPSHOT_EVERY))
            .close_timeout(CLOSE_TIMEOUT);
        if has_units_watched {
            builder = builder.layer(UNITS, Layer::learning_cell(Xor::BLOCK_WIDTH, Activation::Tanh).every(UNITS_EVERY));
        }
        let mut run = builder.open()?;
        for step in 0..=solving_step + AFTER {
            // Everything is said of the parameters before the step.
            let parameters = float32(network.parameters());
            let block = (has_units_watched && step.is_multiple_of(UNITS_EVERY)).then(|| network.block());
            let report = network.step();
            let gradient = float32(network.gradient());
            let mut frame = Frame::new()
                .learning_rate(Xor::learning_rate_of(width))
                .scalar("loss", report.loss)
                .scalar("right", f64::from(report.right))
                .parameters(ALL, [("theta", &parameters)]);
            if step + BEFORE >= solving_step && step.abs_diff(solving_step).is_multiple_of(SNAPSHOT_EVERY) {
                frame = frame.cascade(ALL, CascadeSnapshot::of_gradient([&gradient]).with_whole());
            }
            if step == solving_step {
                frame = frame.happened(SOLVED);
            }
            if let Some(block) = &block {
                frame = frame.learning_cell(UNITS, cell_to_send(block));
            }
            if step == 0 { begin(&mut run, step, frame)? } else { run.submit(step, frame)? }
        }
        Ok(MemberRun { run_id: end(run)?, width, seed, solving_step })
    }
}

fn float32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}
