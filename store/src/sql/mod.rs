//! Everything that is SQL in both dialects, once; see [`crate::backend`] for what differs.

mod alerts;
mod analyses;
mod attempt;
mod changes;
mod commit;
mod events;
mod layer_readings;
mod overview;
mod ownership;
mod predictions;
mod purge;
mod readings;
mod rollups;
mod rows;
mod runs;
mod series;
mod sketches;
mod snapshots;
mod steps;
mod tokens;

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{
    backend::Backend,
    error::StoreError,
    lineage::SegmentRange,
    model::{
        Analysis, AnalysisCommit, AnalysisState, Event, FollowerSnapshot, LayerReadingAt, NewAnalysis, OpenAttempt,
        OpenedAttempt, OwnedRun, PredictionRow, Reading, Run, RunCommit, RunId, Segment, ShardMark, SketchBlock,
        SketchBlockInfo, SketchExtent, SketchStream, SnapshotKey, StepRow, Token, TokenHash, TokenId,
    },
    query::{
        EventQuery, LayerReadingQuery, Overview, Page, ReadingQuery, RollupPoint, RunQuery, SeriesMetric, SeriesPoint,
        SeriesQuery, StepQuery,
    },
    store::{Durability, Store},
};

#[async_trait]
impl<B: Backend> Store for B {
    async fn open_attempt(&self, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError> {
        attempt::open_attempt(self, open).await
    }

    async fn take_ownership(&self, run_id: RunId) -> Result<OwnedRun, StoreError> {
        ownership::take_ownership(self, run_id).await
    }

    async fn commit(&self, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
        commit::commit(self, runs).await
    }

    async fn shard_marks(&self, run_id: RunId, segment: u32) -> Result<Vec<ShardMark>, StoreError> {
        ownership::shard_marks(self, run_id, segment).await
    }

    async fn follower_snapshots(&self, run_id: RunId, segment: u32) -> Result<Vec<FollowerSnapshot>, StoreError> {
        ownership::follower_snapshots(self, run_id, segment).await
    }

    async fn pending_snapshots(&self, run_id: RunId) -> Result<Vec<(SnapshotKey, u64)>, StoreError> {
        snapshots::pending_snapshots(self, run_id).await
    }

    async fn snapshot_payload(&self, run_id: RunId, key: &SnapshotKey) -> Result<Option<Vec<u8>>, StoreError> {
        snapshots::snapshot_payload(self, run_id, key).await
    }

    async fn runs_with_pending_snapshots(&self) -> Result<Vec<RunId>, StoreError> {
        snapshots::runs_with_pending_snapshots(self).await
    }

    async fn kept_predictions(&self, run_id: RunId) -> Result<Vec<(u32, u64, String, u64)>, StoreError> {
        predictions::kept_predictions(self, run_id).await
    }

    async fn sketch_extents(&self, run_id: RunId, rows_per_extent: u64) -> Result<Vec<SketchExtent>, StoreError> {
        sketches::sketch_extents(self, run_id, rows_per_extent).await
    }

    async fn last_commit_seq(&self) -> Result<u64, StoreError> {
        commit::last_commit_seq(self).await
    }

    async fn patch_labels(&self, run_id: RunId, labels: &BTreeMap<String, Option<String>>) -> Result<Run, StoreError> {
        changes::patch_labels(self, run_id, labels).await
    }

    async fn mark_deleting(&self, run_id: RunId) -> Result<(), StoreError> {
        changes::mark_deleting(self, run_id).await
    }

    async fn deleting_runs(&self) -> Result<Vec<RunId>, StoreError> {
        purge::deleting_runs(self).await
    }

    async fn purge(&self, run_id: RunId, max_rows: usize) -> Result<bool, StoreError> {
        purge::purge(self, run_id, max_rows).await
    }

    async fn expired_runs(&self, before_us: i64) -> Result<Vec<RunId>, StoreError> {
        purge::expired_runs(self, before_us).await
    }

    async fn run(&self, run_id: RunId) -> Result<Run, StoreError> {
        runs::run(self, run_id).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<Run>, StoreError> {
        runs::runs(self, query).await
    }

    async fn segments(&self, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
        runs::segments(self, run_id).await
    }

    async fn steps(&self, query: &StepQuery) -> Result<Page<StepRow>, StoreError> {
        steps::steps(self, query).await
    }

    async fn readings(&self, query: &ReadingQuery) -> Result<Page<Reading>, StoreError> {
        readings::readings(self, query).await
    }

    async fn latest_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<Reading>, StoreError> {
        readings::latest_readings(self, run_id, segment).await
    }

    async fn layer_readings(&self, query: &LayerReadingQuery) -> Result<Page<LayerReadingAt>, StoreError> {
        layer_readings::layer_readings(self, query).await
    }

    async fn latest_layer_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<LayerReadingAt>, StoreError> {
        layer_readings::latest_layer_readings(self, run_id, segment).await
    }

    async fn predictions(
        &self,
        run_id: RunId,
        probe: &str,
        ranges: &[SegmentRange],
    ) -> Result<Vec<PredictionRow>, StoreError> {
        predictions::predictions(self, run_id, probe, ranges).await
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError> {
        match &query.metric {
            SeriesMetric::Edge(metric) => series::series(self, query, metric).await,
            SeriesMetric::Layer(layer, field) => layer_readings::series(self, query, layer, field).await,
            SeriesMetric::Scalar(name) => steps::series(self, query, name).await,
        }
    }

    async fn rollups(&self, query: &SeriesQuery, bucket_steps: u64) -> Result<Vec<RollupPoint>, StoreError> {
        rollups::rollups(self, query, bucket_steps).await
    }

    async fn scalar_names(&self, run_id: RunId) -> Result<Vec<String>, StoreError> {
        steps::scalar_names(self, run_id).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        events::events(self, query).await
    }

    async fn overview(&self, project: Option<&str>) -> Result<Overview, StoreError> {
        overview::overview(self, project).await
    }

    async fn sketch_index(&self, run_id: RunId, stream: &SketchStream) -> Result<Vec<SketchBlockInfo>, StoreError> {
        sketches::sketch_index(self, run_id, stream).await
    }

    async fn sketch_blocks(
        &self,
        run_id: RunId,
        stream: &SketchStream,
        first_steps: (u64, u64),
    ) -> Result<Vec<SketchBlock>, StoreError> {
        sketches::sketch_blocks(self, run_id, stream, first_steps).await
    }

    async fn create_analysis(&self, new: &NewAnalysis) -> Result<Analysis, StoreError> {
        analyses::create_analysis(self, new).await
    }

    async fn analyses(&self, run_id: RunId) -> Result<Vec<Analysis>, StoreError> {
        analyses::analyses(self, run_id).await
    }

    async fn analysis(&self, run_id: RunId, name: &str) -> Result<Option<Analysis>, StoreError> {
        analyses::find(self, run_id, name).await
    }

    async fn running_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError> {
        analyses::in_state(self, AnalysisState::Running).await
    }

    async fn commit_analysis(&self, commit: &AnalysisCommit) -> Result<bool, StoreError> {
        analyses::commit_analysis(self, commit).await
    }

    async fn mark_analysis_deleting(&self, run_id: RunId, name: &str) -> Result<bool, StoreError> {
        analyses::mark_analysis_deleting(self, run_id, name).await
    }

    async fn deleting_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError> {
        analyses::in_state(self, AnalysisState::Deleting).await
    }

    async fn purge_analysis(&self, run_id: RunId, name: &str, max_rows: usize) -> Result<bool, StoreError> {
        analyses::purge_analysis(self, run_id, name, max_rows).await
    }

    async fn create_token(&self, token: &Token, hash: &TokenHash) -> Result<(), StoreError> {
        tokens::create_token(self, token, hash).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        tokens::tokens(self).await
    }

    async fn token_by_hash(&self, hash: &TokenHash) -> Result<Option<Token>, StoreError> {
        tokens::token_by_hash(self, hash).await
    }

    async fn revoke_token(&self, token_id: TokenId, now_us: i64) -> Result<bool, StoreError> {
        tokens::revoke_token(self, token_id, now_us).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        Backend::durability(self).await
    }

    async fn close(&self) {
        Backend::close(self).await;
    }
}
