//! A run: one training job.

use std::{collections::BTreeMap, fmt, str::FromStr};

use gradwatch_spectral::detectors::Regime;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies a run. Chosen by the client or drawn for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What a client says about a run when it opens it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDeclaration {
    /// The run.
    pub run_id: RunId,
    /// The project it belongs to; fixed by the first opening.
    pub project: String,
    /// A display name; need not be unique.
    pub name: String,
    /// Labels to set; labels already there and not named here stay.
    pub labels: BTreeMap<String, String>,
    /// Hyperparameters and the like, a JSON object.
    pub config: serde_json::Value,
}

/// Whether a job is still going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Heard of lately.
    Running,
    /// Heartbeats, but no step for longer than its own rhythm explains.
    Stalled,
    /// No heartbeat and no word of an end.
    Crashed,
    /// Ended by itself.
    Finished,
    /// Ended with an error.
    Failed,
    /// Ended by its scheduler; may come back as a new attempt.
    Preempted,
}

impl RunState {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Stalled, Self::Crashed, Self::Finished, Self::Failed, Self::Preempted];

    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Crashed => "crashed",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Preempted => "preempted",
        }
    }

    /// No more frames are expected.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Preempted)
    }
}

impl FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!("unknown state {text:?}; one of running, stalled, crashed, finished, failed, preempted")
        })
    }
}

/// What a run has been through, counted. Each only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCounters {
    /// Steps recorded, over all segments.
    pub steps: u64,
    /// Frames refused as invalid.
    pub rejected: u64,
    /// Frames that clients gave up because their buffer was full.
    pub dropped: u64,
    /// Steps that were settled without all their shards.
    pub incomplete: u64,
    /// Payloads and scalars that held NaN or infinity.
    pub nonfinite: u64,
    /// Snapshots that were not read because too many waited.
    pub skipped: u64,
}

impl RunCounters {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.rejected += other.rejected;
        self.dropped += other.dropped;
        self.incomplete += other.incomplete;
        self.nonfinite += other.nonfinite;
        self.skipped += other.skipped;
    }
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The run.
    pub run_id: RunId,
    /// Its project.
    pub project: String,
    /// Its display name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its config, a JSON object.
    pub config: serde_json::Value,
    /// Whether it is still going.
    pub state: RunState,
    /// The most severe regime of its live streams.
    pub regime: Regime,
    /// When the server first heard of it, microseconds since the Unix epoch, server clock.
    pub created_at_us: i64,
    /// When the server last heard of it.
    pub last_seen_us: i64,
    /// The last step recorded in its newest segment.
    pub last_step: Option<u64>,
    /// What it has been through.
    pub counters: RunCounters,
    /// Deletion was asked for and is under way.
    pub deleting: bool,
    /// Epoch of its last owner and number of that owner's last commit: together they change with every commit.
    pub revision: (u64, u64),
}
