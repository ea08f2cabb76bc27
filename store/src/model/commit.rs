//! What one transaction settles.

use std::collections::BTreeMap;

use gradwatch_spectral::{detectors::Regime, edge::EdgeReading, layers::LayerReading};
use serde::{Deserialize, Serialize};

use super::{
    run::{RunCounters, RunId, RunState},
    segment::{Kind, LayerKey},
    sketch::{SketchBlock, SketchStream},
};

/// The analysis that follows the stream. Others are named by whoever asks for a re-analysis.
pub const LIVE_ANALYSIS: &str = "live";

/// One (group, kind, window) of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// Group name.
    pub group: String,
    /// Kind.
    pub kind: Kind,
    /// W.
    pub window: usize,
}

/// One step of a segment, to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// The segment.
    pub segment: u32,
    /// The optimizer step.
    pub step: u64,
    /// seq per shard, by shard number; `None` where a shard's part is missing.
    pub seqs: Vec<Option<u64>>,
    /// The client's clock, microseconds since the Unix epoch.
    pub wall_time_us: i64,
    /// The server's clock when the step was complete.
    pub received_at_us: i64,
    /// eta.
    pub learning_rate: Option<f64>,
    /// Weight decay.
    pub weight_decay: Option<f64>,
    /// The client's phase counter.
    pub phase: u32,
    /// All shards took part.
    pub complete: bool,
    /// What the job sent itself. May hold NaN and infinities: they are kept as what they were.
    pub scalars: BTreeMap<String, f64>,
    /// Payloads whose sketch held NaN or infinity, counted.
    pub nonfinite_payloads: Vec<NonFinitePayload>,
}

/// A payload that could not enter its window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFinitePayload {
    /// Its group.
    pub group: String,
    /// Its kind.
    pub kind: Kind,
    /// Entries that were NaN.
    pub nan: u64,
    /// Entries that were +∞.
    pub positive_infinity: u64,
    /// Entries that were −∞.
    pub negative_infinity: u64,
}

/// What an instrument said of one stream at one step, to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingRow {
    /// `live`, or the name of a re-analysis.
    pub analysis: String,
    /// Group, kind and window.
    pub stream: StreamKey,
    /// The segment.
    pub segment: u32,
    /// The optimizer step.
    pub step: u64,
    /// The regime that the detector holds after this reading.
    pub regime: Regime,
    /// The reading.
    pub edge: EdgeReading,
}

/// A bucket of one metric that is full, so that long charts need not read every row.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupRow {
    /// `live`, or the name of a re-analysis.
    pub analysis: String,
    /// Full metric name, such as `edge.ratio` or `scalar.loss`.
    pub metric: String,
    /// The stream; `None` for scalars, which belong to no group.
    pub stream: Option<StreamKey>,
    /// The segment.
    pub segment: u32,
    /// Steps per bucket: 256 or 16,384.
    pub bucket_steps: u64,
    /// Bucket number: step / bucket_steps.
    pub bucket: u64,
    /// The last step in the bucket that had a value.
    pub last_step: u64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Value at `last_step`.
    pub last: f64,
    /// Number of finite values.
    pub count: u64,
}

/// Something that happened to a run, to be recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Such as `edge.regime`, `window.restarted`, `run.lossy`.
    pub event_type: String,
    /// The segment.
    pub segment: u32,
    /// The step, where there is one.
    pub step: Option<u64>,
    /// The server's clock, microseconds since the Unix epoch.
    pub at_us: i64,
    /// The group, where it concerns one.
    pub group: Option<String>,
    /// The kind, where it concerns one.
    pub kind: Option<Kind>,
    /// The window, where it concerns one.
    pub window: Option<usize>,
    /// For a transition: the regime left.
    pub from: Option<String>,
    /// For a transition: the regime entered.
    pub to: Option<String>,
    /// Why: a JSON object.
    pub evidence: serde_json::Value,
}

impl EventRow {
    /// An event of a segment that concerns no group and is no transition.
    #[must_use]
    pub fn new(event_type: &str, segment: u32, step: Option<u64>, at_us: i64, evidence: serde_json::Value) -> Self {
        Self {
            event_type: event_type.to_owned(),
            segment,
            step,
            at_us,
            group: None,
            kind: None,
            window: None,
            from: None,
            to: None,
            evidence,
        }
    }
}

/// What a follower of readings follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FollowerKey {
    /// The segment's scalars.
    Scalars,
    /// The readings of a stream.
    Stream(StreamKey),
    /// The readings of a layer.
    Layer(LayerKey),
}

/// What follows readings (detectors, open rollup buckets), as it stands after `step`; opaque to the store. Replaces
/// the last snapshot of what is followed. Readings behind `step` bring it up to date after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowerSnapshot {
    /// The segment.
    pub segment: u32,
    /// What is followed.
    pub key: FollowerKey,
    /// The step of the last reading it has seen.
    pub step: u64,
    /// Encoded state.
    pub state: Vec<u8>,
}

/// What a layer instrument said of one snapshot, to be recorded. The snapshot is then no longer pending.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReadingRow {
    /// The layer.
    pub layer: LayerKey,
    /// The segment.
    pub segment: u32,
    /// The optimizer step.
    pub step: u64,
    /// The reading.
    pub reading: LayerReading,
}

/// Which snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotKey {
    /// The segment.
    pub segment: u32,
    /// The optimizer step.
    pub step: u64,
    /// The layer.
    pub layer: LayerKey,
}

/// A snapshot that was acknowledged and is still to be read: a job that outlives the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSnapshot {
    /// Which.
    pub key: SnapshotKey,
    /// As it came; opaque to the store.
    pub payload: Vec<u8>,
}

/// What a model said on a probe batch at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct PredictionRow {
    /// The segment.
    pub segment: u32,
    /// The optimizer step.
    pub step: u64,
    /// Name of the probe batch.
    pub probe: String,
    /// Outputs; finite.
    pub values: Vec<f32>,
    /// What they should be; as many, or none.
    pub targets: Vec<f32>,
}

/// Moves one shard's mark, if it still stands at `from_seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkMove {
    /// The segment.
    pub segment: u32,
    /// The shard.
    pub shard: u32,
    /// Where the mark must stand.
    pub from_seq: u64,
    /// Where it will stand.
    pub to_seq: u64,
    /// The oldest frame needed to refill the windows.
    pub keep_from_seq: u64,
}

/// Changes to the run's own row. `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunPatch {
    /// New state.
    pub state: Option<RunState>,
    /// New regime.
    pub regime: Option<Regime>,
    /// New last step.
    pub last_step: Option<u64>,
    /// New last-seen time.
    pub last_seen_us: Option<i64>,
    /// To be added to the counters.
    pub counters: RunCounters,
}

/// Everything one transaction settles for one run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCommit {
    /// The run.
    pub run_id: RunId,
    /// The committing owner's epoch: a commit of a replaced owner changes nothing.
    pub owner_epoch: u64,
    /// The number that the run's last commit must have: the owner counts its commits from 1, and 0 says that it has none.
    /// So a commit whose answer was lost never lands twice, also when it moves no mark.
    pub after_commit: u64,
    /// This commit's own number.
    pub commit_number: u64,
    /// Marks to move, at most one per (segment, shard).
    pub marks: Vec<MarkMove>,
    /// Steps.
    pub steps: Vec<StepRow>,
    /// Readings.
    pub readings: Vec<ReadingRow>,
    /// Buckets that became full.
    pub rollups: Vec<RollupRow>,
    /// Events.
    pub events: Vec<EventRow>,
    /// Follower states.
    pub followers: Vec<FollowerSnapshot>,
    /// Names of scalars that this run sends for the first time.
    pub scalar_names: Vec<String>,
    /// Snapshots to be read later.
    pub snapshots: Vec<PendingSnapshot>,
    /// Readings of snapshots, which are then no longer pending.
    pub layer_readings: Vec<LayerReadingRow>,
    /// Predictions.
    pub predictions: Vec<PredictionRow>,
    /// (segment, step, probe) of predictions that are kept no longer.
    pub dropped_predictions: Vec<(u32, u64, String)>,
    /// Rows of windows, to be kept.
    pub sketches: Vec<SketchBlock>,
    /// Of each stream: its blocks up to the one that begins at this step, and those of earlier segments, are kept no longer
    /// than a running analysis needs them.
    pub dropped_sketches: Vec<(SketchStream, u64)>,
    /// Changes to the run itself.
    pub patch: RunPatch,
}

impl RunCommit {
    /// A commit that changes nothing yet, and takes no number.
    #[must_use]
    pub fn new(run_id: RunId, owner_epoch: u64) -> Self {
        Self {
            run_id,
            owner_epoch,
            after_commit: 0,
            commit_number: 0,
            marks: Vec::new(),
            steps: Vec::new(),
            readings: Vec::new(),
            rollups: Vec::new(),
            events: Vec::new(),
            followers: Vec::new(),
            scalar_names: Vec::new(),
            snapshots: Vec::new(),
            layer_readings: Vec::new(),
            predictions: Vec::new(),
            dropped_predictions: Vec::new(),
            sketches: Vec::new(),
            dropped_sketches: Vec::new(),
            patch: RunPatch::default(),
        }
    }
}

/// A recorded reading, with the wall time of its step.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The reading.
    pub row: ReadingRow,
    /// The client's clock at the step, microseconds since the Unix epoch.
    pub wall_time_us: i64,
}

/// A recorded reading of a layer, with the wall time of its step.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReadingAt {
    /// The reading.
    pub row: LayerReadingRow,
    /// The client's clock at the step, microseconds since the Unix epoch.
    pub wall_time_us: i64,
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Grows in the order of recording.
    pub event_id: u64,
    /// The run.
    pub run_id: RunId,
    /// Its project.
    pub project: String,
    /// The event.
    pub row: EventRow,
}
