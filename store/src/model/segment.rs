//! Attempts, the segments they become, and their stream specs.

use std::{fmt, str::FromStr};

use gradwatch_spectral::{layers::LayerInstrument, learning_cell::Activation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::run::{Run, RunDeclaration, RunId};

/// Identifies an attempt: one launch of the job, or one rewind inside it. The same on all its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub Uuid);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AttemptId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What was sketched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// theta_t − theta_base.
    Update,
    /// The gradient at a step.
    Gradient,
}

impl Kind {
    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Gradient => "gradient",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "update" => Ok(Self::Update),
            "gradient" => Ok(Self::Gradient),
            _ => Err(format!("unknown kind {text:?}; one of update, gradient")),
        }
    }
}

/// How sketches travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Little-endian float32.
    F32,
    /// Little-endian binary16 with one float32 scale.
    F16,
}

/// A tensor of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name; fixes its place in the sketch.
    pub name: String,
    /// Elements of the whole tensor, over all shards.
    pub elements: u64,
}

/// A named set of parameters watched together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Its name, unique in the spec.
    pub name: String,
    /// Its tensors.
    pub tensors: Vec<TensorSpec>,
}

impl GroupSpec {
    /// p: the number of parameters in the group.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.elements).sum()
    }
}

/// What an attempt streams. Immutable: a changed spec needs a new attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSpec {
    /// d.
    pub sketch_dim: usize,
    /// Seed of the sketch.
    #[serde(with = "u64_as_string")]
    pub sketch_seed: u64,
    /// How sketches travel.
    pub encoding: Encoding,
    /// W, the first of which queries default to.
    pub window_lengths: Vec<usize>,
    /// The groups.
    pub groups: Vec<GroupSpec>,
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// n: optimizer steps between two rows.
    pub update_interval: u32,
    /// What snapshots are sent of.
    #[serde(default)]
    pub layers: Vec<LayerSpec>,
}

/// A named part of the model for one of the layer instruments; both together are unique in the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// Its name.
    pub name: String,
    /// Who reads its snapshots.
    pub instrument: LayerInstrument,
    /// Dead directions: width of the layer. Learning cell: length of w_i.
    pub width: Option<u32>,
    /// Learning cell: the activation.
    pub activation: Option<Activation>,
}

impl LayerSpec {
    /// What its readings are found by.
    #[must_use]
    pub fn key(&self) -> LayerKey {
        LayerKey { instrument: self.instrument, layer: self.name.clone() }
    }
}

/// One layer of a segment, as one instrument reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerKey {
    /// Who reads it.
    pub instrument: LayerInstrument,
    /// Its name.
    pub layer: String,
}

/// Seeds use all 64 bits, which JSON numbers do not keep in most readers.
mod u64_as_string {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What an attempt continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumes {
    /// The attempt continued.
    pub attempt_id: AttemptId,
    /// Its last step that still stands.
    pub step: u64,
}

/// What a client says that its attempt continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeFrom {
    /// This attempt.
    Attempt(Resumes),
    /// The newest that the run has when the attempt is first opened, if it has any.
    Newest {
        /// Its last step that still stands.
        step: u64,
    },
}

/// What a client says about an attempt when it opens it.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptDeclaration {
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The client's clock, microseconds since the Unix epoch.
    pub started_at_us: i64,
    /// What it continues.
    pub resumes: Option<ResumeFrom>,
    /// A launch that resumes nothing says so when it may join a run that already has attempts.
    pub unrelated: bool,
    /// Number of shards.
    pub shard_count: u32,
    /// What it streams.
    pub spec: StreamSpec,
}

/// Everything `OpenRun` declares.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAttempt {
    /// The run.
    pub run: RunDeclaration,
    /// The attempt.
    pub attempt: AttemptDeclaration,
    /// This shard's number.
    pub shard: u32,
    /// Random per process: the first writer of an (attempt, shard) owns it for good.
    pub writer_id: String,
    /// Server clock, microseconds since the Unix epoch.
    pub now_us: i64,
    /// Binary version and CPU features: same environment, same bits.
    pub environment: String,
}

/// The answer to an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedAttempt {
    /// The server's number for the attempt: 1, 2, … in the order of first opening.
    pub segment: u32,
    /// False when the attempt was known.
    pub created: bool,
}

/// An attempt as the server keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Its number.
    pub segment: u32,
    /// The attempt.
    pub attempt_id: AttemptId,
    /// The client's clock at its start; where it resumes nothing, at least 1 µs after all that the run had before.
    pub started_at_us: i64,
    /// The server's clock at its first opening.
    pub opened_at_us: i64,
    /// What it continues.
    pub resumes: Option<Resumes>,
    /// Number of shards.
    pub shard_count: u32,
    /// What it streams.
    pub spec: StreamSpec,
    /// Binary version and CPU features it was opened under.
    pub environment: String,
    /// Its last recorded step.
    pub last_step: Option<u64>,
}

/// How far one shard's frames are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMark {
    /// The shard.
    pub shard: u32,
    /// The process that owns it.
    pub writer_id: String,
    /// Every frame up to here is settled.
    pub committed_seq: u64,
    /// The oldest frame needed to refill the windows.
    pub keep_from_seq: u64,
}

/// A run whose ownership was taken: what its owner needs to go on where the last one stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedRun {
    /// The run.
    pub run: Run,
    /// Goes into every commit of this owner; a newer owner has a higher one.
    pub owner_epoch: u64,
    /// Its segments, by number.
    pub segments: Vec<Segment>,
}

impl OwnedRun {
    /// The run's id.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run.run_id
    }
}
