//! The trait that every store keeps.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    alert_store::AlertStore,
    error::StoreError,
    lineage::SegmentRange,
    model::{
        Analysis, AnalysisCommit, Event, FollowerSnapshot, LayerReadingAt, NewAnalysis, OpenAttempt, OpenedAttempt,
        OwnedRun, PredictionRow, Reading, Run, RunCommit, RunId, Segment, ShardMark, SketchBlock, SketchBlockInfo,
        SketchExtent, SketchStream, SnapshotKey, StepRow, Token, TokenHash, TokenId,
    },
    query::{
        EventQuery, LayerReadingQuery, Overview, Page, ReadingQuery, RollupPoint, RunQuery, SeriesPoint, SeriesQuery,
        StepQuery,
    },
};

/// How safe a commit is, as read back from the database itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durability {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// The settings that decide it, such as `synchronous` = `full`.
    pub settings: BTreeMap<String, String>,
}

/// Where everything is kept. Implementations are shared by many tasks.
#[async_trait]
pub trait Store: AlertStore {
    // ------------------------------------------------------------------------------------------------ recording

    /// Declares a run, an attempt and one shard of it; idempotent for one `writer_id`. Fixes the segment number and
    /// makes the shard's mark at 0.
    ///
    /// # Errors
    /// `SecondWriter`; `Conflict` when project, spec, shard count, resumed attempt or the run's history contradict the
    /// declaration (an attempt that resumes nothing joins a run with attempts only when `unrelated`); `RunDeleting`.
    async fn open_attempt(&self, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError>;

    /// Takes a run: raises its owner epoch, so that every commit of an earlier owner fails from here on.
    ///
    /// # Errors
    /// `UnknownRun`, `RunDeleting`.
    async fn take_ownership(&self, run_id: RunId) -> Result<OwnedRun, StoreError>;

    /// Settles everything in `runs` in ONE transaction, or nothing. Answers the commit sequence, which grows by one
    /// with every commit and is what live streams number their messages with, and the ids given to each run's events.
    ///
    /// # Errors
    /// `OwnershipLost` names the first run whose mark or epoch did not match. After `Unavailable` the outcome is
    /// unknown: re-read the marks before anything else.
    async fn commit(&self, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError>;

    /// The marks of a segment's shards, by shard.
    ///
    /// # Errors
    /// When the database fails.
    async fn shard_marks(&self, run_id: RunId, segment: u32) -> Result<Vec<ShardMark>, StoreError>;

    /// The last follower snapshots of a segment.
    ///
    /// # Errors
    /// When the database fails.
    async fn follower_snapshots(&self, run_id: RunId, segment: u32) -> Result<Vec<FollowerSnapshot>, StoreError>;

    /// Snapshots of a run that are still to be read, with their payloads' lengths in bytes, by segment, step, instrument
    /// and layer.
    ///
    /// # Errors
    /// When the database fails.
    async fn pending_snapshots(&self, run_id: RunId) -> Result<Vec<(SnapshotKey, u64)>, StoreError>;

    /// The payload of a pending snapshot, if it still is one.
    ///
    /// # Errors
    /// When the database fails.
    async fn snapshot_payload(&self, run_id: RunId, key: &SnapshotKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Runs, not being deleted, that have snapshots to be read.
    ///
    /// # Errors
    /// When the database fails.
    async fn runs_with_pending_snapshots(&self) -> Result<Vec<RunId>, StoreError>;

    /// (segment, step, probe) of a run's predictions, with their length in bytes, in the order of segment and step.
    ///
    /// # Errors
    /// When the database fails.
    async fn kept_predictions(&self, run_id: RunId) -> Result<Vec<(u32, u64, String, u64)>, StoreError>;

    /// What is kept of a run's windows: of each stream neighbouring blocks together, up to `rows_per_extent` rows or one
    /// block; by group, kind, segment and step.
    ///
    /// # Errors
    /// When the database fails.
    async fn sketch_extents(&self, run_id: RunId, rows_per_extent: u64) -> Result<Vec<SketchExtent>, StoreError>;

    /// The sequence of the last commit.
    ///
    /// # Errors
    /// When the database fails.
    async fn last_commit_seq(&self) -> Result<u64, StoreError>;

    // ------------------------------------------------------------------------------------------------- changing

    /// Sets labels; a `None` value removes one.
    ///
    /// # Errors
    /// `UnknownRun`, `RunDeleting`.
    async fn patch_labels(&self, run_id: RunId, labels: &BTreeMap<String, Option<String>>) -> Result<Run, StoreError>;

    /// Marks a run for deletion: it vanishes from lists at once and takes no more commits.
    ///
    /// # Errors
    /// `UnknownRun`.
    async fn mark_deleting(&self, run_id: RunId) -> Result<(), StoreError>;

    /// Runs marked for deletion.
    ///
    /// # Errors
    /// When the database fails.
    async fn deleting_runs(&self) -> Result<Vec<RunId>, StoreError>;

    /// Deletes at most `max_rows` rows of a run marked for deletion; true when nothing of it is left.
    ///
    /// # Errors
    /// When the database fails.
    async fn purge(&self, run_id: RunId, max_rows: usize) -> Result<bool, StoreError>;

    /// Runs that are over or crashed and were last heard of before `before_us`.
    ///
    /// # Errors
    /// When the database fails.
    async fn expired_runs(&self, before_us: i64) -> Result<Vec<RunId>, StoreError>;

    // -------------------------------------------------------------------------------------------------- reading

    /// One run.
    ///
    /// # Errors
    /// `UnknownRun`, also for a run being deleted.
    async fn run(&self, run_id: RunId) -> Result<Run, StoreError>;

    /// A page of runs.
    ///
    /// # Errors
    /// When the database fails.
    async fn runs(&self, query: &RunQuery) -> Result<Page<Run>, StoreError>;

    /// All segments of a run, by number.
    ///
    /// # Errors
    /// `UnknownRun`.
    async fn segments(&self, run_id: RunId) -> Result<Vec<Segment>, StoreError>;

    /// A page of steps.
    ///
    /// # Errors
    /// When the database fails.
    async fn steps(&self, query: &StepQuery) -> Result<Page<StepRow>, StoreError>;

    /// A page of readings.
    ///
    /// # Errors
    /// When the database fails.
    async fn readings(&self, query: &ReadingQuery) -> Result<Page<Reading>, StoreError>;

    /// The last reading of each (stream) of a segment, where there is one.
    ///
    /// # Errors
    /// When the database fails.
    async fn latest_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<Reading>, StoreError>;

    /// A page of readings of a layer.
    ///
    /// # Errors
    /// When the database fails.
    async fn layer_readings(&self, query: &LayerReadingQuery) -> Result<Page<LayerReadingAt>, StoreError>;

    /// The last reading of each layer of a segment, where there is one.
    ///
    /// # Errors
    /// When the database fails.
    async fn latest_layer_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<LayerReadingAt>, StoreError>;

    /// The predictions of a run on a probe batch, in the order of the ranges.
    ///
    /// # Errors
    /// When the database fails.
    async fn predictions(
        &self,
        run_id: RunId,
        probe: &str,
        ranges: &[SegmentRange],
    ) -> Result<Vec<PredictionRow>, StoreError>;

    /// Every value of a metric, undefined ones left out.
    ///
    /// # Errors
    /// When the database fails.
    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError>;

    /// The full buckets of a metric that lie wholly inside the ranges.
    ///
    /// # Errors
    /// When the database fails.
    async fn rollups(&self, query: &SeriesQuery, bucket_steps: u64) -> Result<Vec<RollupPoint>, StoreError>;

    /// Names of the scalars that a run has sent.
    ///
    /// # Errors
    /// When the database fails.
    async fn scalar_names(&self, run_id: RunId) -> Result<Vec<String>, StoreError>;

    /// A page of events.
    ///
    /// # Errors
    /// When the database fails.
    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError>;

    /// Everything at a glance.
    ///
    /// # Errors
    /// When the database fails.
    async fn overview(&self, project: Option<&str>) -> Result<Overview, StoreError>;

    // ----------------------------------------------------------------------------------------------- re-analyses

    /// The blocks of a stream, oldest first, without their rows.
    ///
    /// # Errors
    /// When the database fails.
    async fn sketch_index(&self, run_id: RunId, stream: &SketchStream) -> Result<Vec<SketchBlockInfo>, StoreError>;

    /// The blocks of a stream whose first steps lie between two, both included, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    async fn sketch_blocks(
        &self,
        run_id: RunId,
        stream: &SketchStream,
        first_steps: (u64, u64),
    ) -> Result<Vec<SketchBlock>, StoreError>;

    /// Begins an analysis: from here on no block that it reads is deleted until it has ended.
    ///
    /// # Errors
    /// `UnknownRun`, `RunDeleting`; `Conflict` when the run has one of this name, or as many as it may, or keeps nothing
    /// that could be read.
    async fn create_analysis(&self, new: &NewAnalysis) -> Result<Analysis, StoreError>;

    /// The analyses of a run, by name; without those that are being deleted.
    ///
    /// # Errors
    /// When the database fails.
    async fn analyses(&self, run_id: RunId) -> Result<Vec<Analysis>, StoreError>;

    /// One of them.
    ///
    /// # Errors
    /// When the database fails.
    async fn analysis(&self, run_id: RunId, name: &str) -> Result<Option<Analysis>, StoreError>;

    /// Those that are running, of all runs that are not being deleted.
    ///
    /// # Errors
    /// When the database fails.
    async fn running_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError>;

    /// Stores what an analysis has computed, in ONE transaction with its progress; false, and nothing is stored, when it
    /// does not stand where the commit says, or is running no longer.
    ///
    /// # Errors
    /// When the database fails. After `Unavailable` the outcome is unknown: read where it stands.
    async fn commit_analysis(&self, commit: &AnalysisCommit) -> Result<bool, StoreError>;

    /// Ends an analysis, if it is running, and marks it for deletion; false when there is none of this name.
    ///
    /// # Errors
    /// When the database fails.
    async fn mark_analysis_deleting(&self, run_id: RunId, name: &str) -> Result<bool, StoreError>;

    /// Those marked for deletion.
    ///
    /// # Errors
    /// When the database fails.
    async fn deleting_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError>;

    /// Deletes at most `max_rows` rows of an analysis marked for deletion; true when nothing of it is left.
    ///
    /// # Errors
    /// When the database fails.
    async fn purge_analysis(&self, run_id: RunId, name: &str, max_rows: usize) -> Result<bool, StoreError>;

    // --------------------------------------------------------------------------------------------------- access

    /// Keeps a new token under the hash of its text.
    ///
    /// # Errors
    /// `UniqueViolation` when the id or the hash is there already, be it revoked.
    async fn create_token(&self, token: &Token, hash: &TokenHash) -> Result<(), StoreError>;

    /// All tokens, also expired and revoked ones, oldest first; ties by id.
    ///
    /// # Errors
    /// When the database fails.
    async fn tokens(&self) -> Result<Vec<Token>, StoreError>;

    /// The token with this hash, also when it is expired or revoked.
    ///
    /// # Errors
    /// When the database fails.
    async fn token_by_hash(&self, hash: &TokenHash) -> Result<Option<Token>, StoreError>;

    /// Takes a token back; the first time counts. False when there is no such token.
    ///
    /// # Errors
    /// When the database fails.
    async fn revoke_token(&self, token_id: TokenId, now_us: i64) -> Result<bool, StoreError>;

    // --------------------------------------------------------------------------------------------------- itself

    /// Checks that the database answers and reads back what its durability rests on.
    ///
    /// # Errors
    /// `Durability` when a setting is weaker than an acknowledgement promises; `Unavailable`.
    async fn durability(&self) -> Result<Durability, StoreError>;

    /// Ends open work and closes the database.
    async fn close(&self);
}
