//! A store that breaks when it is told to: before a call, behind it, in the middle of a transaction, or for one run.

mod alerts;
mod series;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use gradwatch_store::{
    Analysis, AnalysisCommit, Durability, Event, EventQuery, FollowerSnapshot, LayerReadingAt, LayerReadingQuery,
    NewAnalysis, OpenAttempt, OpenedAttempt, Overview, OwnedRun, Page, PredictionRow, Reading, ReadingQuery,
    RollupPoint, Run, RunCommit, RunId, RunQuery, Segment, SeriesPoint, SeriesQuery, ShardMark, SketchBlock,
    SketchBlockInfo, SketchExtent, SketchStream, SnapshotKey, StepQuery, StepRow, Store, StoreError, Token, TokenHash,
    TokenId, lineage::SegmentRange,
};
use tokio::sync::{Semaphore, watch};

use self::series::SeriesGate;
use crate::faults::{AlertCall, Fault, Gate, Planned, broken, lock};

/// A store around another. What it holds is safe: only answers are lost.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    commits: Mutex<VecDeque<Planned>>,
    calls: Mutex<VecDeque<Planned>>,
    analyses: Mutex<VecDeque<Planned>>,
    /// Commits of re-analyses that may still be made.
    analysis_gate: Semaphore,
    /// By [`AlertCall`].
    alert_calls: [Gate; 3],
    poisoned: Mutex<HashSet<RunId>>,
    poisoned_alerts: Mutex<HashSet<RunId>>,
    unavailable: Mutex<HashSet<RunId>>,
    poisonous_scalars: Mutex<HashSet<String>>,
    violations: Mutex<Vec<String>>,
    healed: AtomicBool,
    durability_calls: AtomicUsize,
    series: SeriesGate,
    /// Open unless payloads of snapshots are held back.
    payloads: watch::Sender<bool>,
    payloads_held: AtomicUsize,
}

impl FaultyStore {
    /// A store that has no faults planned.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            commits: Mutex::default(),
            calls: Mutex::default(),
            analyses: Mutex::default(),
            analysis_gate: Semaphore::new(Semaphore::MAX_PERMITS),
            alert_calls: [Gate::new(), Gate::new(), Gate::new()],
            poisoned: Mutex::default(),
            poisoned_alerts: Mutex::default(),
            unavailable: Mutex::default(),
            poisonous_scalars: Mutex::default(),
            violations: Mutex::default(),
            healed: AtomicBool::new(false),
            durability_calls: AtomicUsize::new(0),
            series: SeriesGate::default(),
            payloads: watch::Sender::new(true),
            payloads_held: AtomicUsize::new(0),
        }
    }

    /// Lets nobody have the payload of a snapshot until [`Self::give_payloads`].
    pub fn hold_payloads(&self) {
        self.payloads.send_replace(false);
    }

    /// Gives the payloads that were held back, and all later ones.
    pub fn give_payloads(&self) {
        self.payloads.send_replace(true);
    }

    /// How many payloads were asked for while they were held back.
    pub fn payloads_held(&self) -> usize {
        self.payloads_held.load(Ordering::Relaxed)
    }

    /// Plans faults of commits, and of all other calls that an owner of a run makes.
    pub fn plan(&self, commits: impl IntoIterator<Item = Planned>, calls: impl IntoIterator<Item = Planned>) {
        lock(&self.commits).extend(commits);
        lock(&self.calls).extend(calls);
    }

    /// Plans faults of commits of re-analyses.
    pub fn plan_analyses(&self, commits: impl IntoIterator<Item = Planned>) {
        lock(&self.analyses).extend(commits);
    }

    /// Lets re-analyses make no commit but those that are allowed.
    pub fn hold_analyses(&self) {
        self.analysis_gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Allows so many more.
    pub fn allow_analysis_commits(&self, count: usize) {
        self.analysis_gate.add_permits(count);
    }

    /// Plans faults of calls by which alerts are settled or told.
    pub fn plan_alerts(&self, call: AlertCall, faults: impl IntoIterator<Item = Planned>) {
        lock(&self.gate(call).plan).extend(faults);
    }

    /// Lets none of these calls through but those that are allowed.
    pub fn hold_alerts(&self, call: AlertCall) {
        self.gate(call).open.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Allows so many more.
    pub fn allow_alerts(&self, call: AlertCall, count: usize) {
        self.gate(call).open.add_permits(count);
    }

    fn gate(&self, call: AlertCall) -> &Gate {
        &self.alert_calls[call as usize]
    }

    async fn gated<T: Send>(
        &self,
        call: AlertCall,
        inner: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        // Given back by a server that crashes in the middle.
        let allowed = self.gate(call).open.acquire().await.expect("the gate is never taken down");
        let inner = async {
            let result = inner.await;
            if let Err(error @ (StoreError::UniqueViolation(_) | StoreError::Data(_))) = &result {
                lock(&self.violations).push(error.to_string());
            }
            result
        };
        let result = match self.next(&self.gate(call).plan) {
            None => inner.await,
            Some(fault) => broken(fault, inner).await,
        };
        allowed.forget();
        result
    }

    /// Refuses every commit that holds rows of a run.
    pub fn poison(&self, run_id: RunId) {
        lock(&self.poisoned).insert(run_id);
    }

    /// Refuses every commit that holds a step with a scalar of this name.
    pub fn poison_scalar(&self, name: &str) {
        lock(&self.poisonous_scalars).insert(name.to_owned());
    }

    /// Takes no commit of these runs for now, as if their rows were locked.
    pub fn make_unavailable(&self, runs: impl IntoIterator<Item = RunId>) {
        lock(&self.unavailable).extend(runs);
    }

    /// Takes commits of all runs again.
    pub fn make_available(&self) {
        lock(&self.unavailable).clear();
    }

    fn is_poisonous(&self, run: &RunCommit) -> bool {
        let scalars = lock(&self.poisonous_scalars);
        !run.steps.is_empty() && lock(&self.poisoned).contains(&run.run_id)
            || run.steps.iter().flat_map(|step| step.scalars.keys()).any(|name| scalars.contains(name))
    }

    /// Refuses every evaluation of rules on a run.
    pub fn poison_alerts(&self, run_id: RunId) {
        lock(&self.poisoned_alerts).insert(run_id);
    }

    /// Takes the rows of a run again.
    pub fn cure(&self, run_id: RunId) {
        lock(&self.poisoned).remove(&run_id);
        lock(&self.poisoned_alerts).remove(&run_id);
    }

    /// No more faults, but for poisoned runs.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// How often somebody asked how safe a commit is.
    pub fn durability_calls(&self) -> usize {
        self.durability_calls.load(Ordering::Relaxed)
    }

    /// Everything that the store within refused for what was in it, or because it was there already.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    fn next(&self, plan: &Mutex<VecDeque<Planned>>) -> Option<Fault> {
        if self.healed.load(Ordering::Relaxed) {
            return None;
        }
        let mut plan = lock(plan);
        let first = plan.front_mut()?;
        if first.after > 0 {
            first.after -= 1;
            return None;
        }
        plan.pop_front().map(|planned| planned.fault)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        match self.next(&self.calls) {
            None => call.await,
            Some(fault) => broken(fault, call).await,
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, runs: &[RunCommit]) -> Result<(u64, Vec<Vec<u64>>), StoreError> {
        if let Some(run) = runs.iter().find(|run| self.is_poisonous(run)) {
            return Err(StoreError::Data(format!("planned: run {} is poisoned", run.run_id)));
        }
        if let Some(run) = runs.iter().find(|run| lock(&self.unavailable).contains(&run.run_id)) {
            return Err(StoreError::Unavailable(format!("planned: run {} is locked", run.run_id)));
        }
        let fault = self.next(&self.commits);
        if fault == Some(Fault::Refused) {
            return Err(StoreError::Data("planned: refused this once".to_owned()));
        }
        let commit = async {
            let result = self.inner.commit(runs).await;
            if let Err(error @ (StoreError::UniqueViolation(_) | StoreError::Data(_))) = &result {
                lock(&self.violations).push(error.to_string());
            }
            result
        };
        match fault {
            None => commit.await,
            Some(Fault::LandedThenLost) => {
                commit.await?;
                Err(runs.first().map_or_else(
                    || StoreError::Unavailable("planned fault of an empty commit".to_owned()),
                    |run| StoreError::OwnershipLost(run.run_id),
                ))
            }
            Some(fault) => broken(fault, commit).await,
        }
    }

    async fn open_attempt(&self, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError> {
        self.call(self.inner.open_attempt(open)).await
    }

    async fn take_ownership(&self, run_id: RunId) -> Result<OwnedRun, StoreError> {
        self.call(self.inner.take_ownership(run_id)).await
    }

    async fn shard_marks(&self, run_id: RunId, segment: u32) -> Result<Vec<ShardMark>, StoreError> {
        self.call(self.inner.shard_marks(run_id, segment)).await
    }

    async fn follower_snapshots(&self, run_id: RunId, segment: u32) -> Result<Vec<FollowerSnapshot>, StoreError> {
        self.call(self.inner.follower_snapshots(run_id, segment)).await
    }

    async fn pending_snapshots(&self, run_id: RunId) -> Result<Vec<(SnapshotKey, u64)>, StoreError> {
        self.call(self.inner.pending_snapshots(run_id)).await
    }

    async fn snapshot_payload(&self, run_id: RunId, key: &SnapshotKey) -> Result<Option<Vec<u8>>, StoreError> {
        if !*self.payloads.borrow() {
            self.payloads_held.fetch_add(1, Ordering::Relaxed);
            // The sender is this store's own.
            let _ = self.payloads.subscribe().wait_for(|open| *open).await;
        }
        self.call(self.inner.snapshot_payload(run_id, key)).await
    }

    async fn runs_with_pending_snapshots(&self) -> Result<Vec<RunId>, StoreError> {
        self.inner.runs_with_pending_snapshots().await
    }

    async fn kept_predictions(&self, run_id: RunId) -> Result<Vec<(u32, u64, String, u64)>, StoreError> {
        self.call(self.inner.kept_predictions(run_id)).await
    }

    async fn last_commit_seq(&self) -> Result<u64, StoreError> {
        self.inner.last_commit_seq().await
    }

    async fn patch_labels(&self, run_id: RunId, labels: &BTreeMap<String, Option<String>>) -> Result<Run, StoreError> {
        self.inner.patch_labels(run_id, labels).await
    }

    async fn mark_deleting(&self, run_id: RunId) -> Result<(), StoreError> {
        self.inner.mark_deleting(run_id).await
    }

    async fn deleting_runs(&self) -> Result<Vec<RunId>, StoreError> {
        self.inner.deleting_runs().await
    }

    async fn purge(&self, run_id: RunId, max_rows: usize) -> Result<bool, StoreError> {
        self.inner.purge(run_id, max_rows).await
    }

    async fn expired_runs(&self, before_us: i64) -> Result<Vec<RunId>, StoreError> {
        self.inner.expired_runs(before_us).await
    }

    async fn run(&self, run_id: RunId) -> Result<Run, StoreError> {
        self.call(self.inner.run(run_id)).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<Run>, StoreError> {
        self.inner.runs(query).await
    }

    async fn segments(&self, run_id: RunId) -> Result<Vec<Segment>, StoreError> {
        self.call(self.inner.segments(run_id)).await
    }

    async fn steps(&self, query: &StepQuery) -> Result<Page<StepRow>, StoreError> {
        self.call(self.inner.steps(query)).await
    }

    async fn readings(&self, query: &ReadingQuery) -> Result<Page<Reading>, StoreError> {
        self.call(self.inner.readings(query)).await
    }

    async fn latest_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<Reading>, StoreError> {
        self.inner.latest_readings(run_id, segment).await
    }

    async fn layer_readings(&self, query: &LayerReadingQuery) -> Result<Page<LayerReadingAt>, StoreError> {
        self.call(self.inner.layer_readings(query)).await
    }

    async fn latest_layer_readings(&self, run_id: RunId, segment: u32) -> Result<Vec<LayerReadingAt>, StoreError> {
        self.inner.latest_layer_readings(run_id, segment).await
    }

    async fn predictions(
        &self,
        run_id: RunId,
        probe: &str,
        ranges: &[SegmentRange],
    ) -> Result<Vec<PredictionRow>, StoreError> {
        self.inner.predictions(run_id, probe, ranges).await
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, StoreError> {
        self.series.pass().await;
        self.inner.series(query).await
    }

    async fn rollups(&self, query: &SeriesQuery, bucket_steps: u64) -> Result<Vec<RollupPoint>, StoreError> {
        self.inner.rollups(query, bucket_steps).await
    }

    async fn scalar_names(&self, run_id: RunId) -> Result<Vec<String>, StoreError> {
        self.call(self.inner.scalar_names(run_id)).await
    }

    async fn events(&self, query: &EventQuery) -> Result<Page<Event>, StoreError> {
        self.inner.events(query).await
    }

    async fn overview(&self, project: Option<&str>) -> Result<Overview, StoreError> {
        self.inner.overview(project).await
    }

    async fn create_token(&self, token: &Token, hash: &TokenHash) -> Result<(), StoreError> {
        self.inner.create_token(token, hash).await
    }

    async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.inner.tokens().await
    }

    async fn token_by_hash(&self, hash: &TokenHash) -> Result<Option<Token>, StoreError> {
        self.inner.token_by_hash(hash).await
    }

    async fn revoke_token(&self, token_id: TokenId, now_us: i64) -> Result<bool, StoreError> {
        self.inner.revoke_token(token_id, now_us).await
    }

    async fn sketch_extents(&self, run_id: RunId, rows_per_extent: u64) -> Result<Vec<SketchExtent>, StoreError> {
        self.call(self.inner.sketch_extents(run_id, rows_per_extent)).await
    }

    async fn sketch_index(&self, run_id: RunId, stream: &SketchStream) -> Result<Vec<SketchBlockInfo>, StoreError> {
        self.call(self.inner.sketch_index(run_id, stream)).await
    }

    async fn sketch_blocks(
        &self,
        run_id: RunId,
        stream: &SketchStream,
        first_steps: (u64, u64),
    ) -> Result<Vec<SketchBlock>, StoreError> {
        self.call(self.inner.sketch_blocks(run_id, stream, first_steps)).await
    }

    async fn create_analysis(&self, new: &NewAnalysis) -> Result<Analysis, StoreError> {
        self.inner.create_analysis(new).await
    }

    async fn analyses(&self, run_id: RunId) -> Result<Vec<Analysis>, StoreError> {
        self.inner.analyses(run_id).await
    }

    async fn analysis(&self, run_id: RunId, name: &str) -> Result<Option<Analysis>, StoreError> {
        self.inner.analysis(run_id, name).await
    }

    async fn running_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError> {
        self.inner.running_analyses().await
    }

    async fn commit_analysis(&self, commit: &AnalysisCommit) -> Result<bool, StoreError> {
        // Given back by a server that crashes in the middle.
        let allowed = self.analysis_gate.acquire().await.expect("the gate is never taken down");
        let result = async {
            let result = self.inner.commit_analysis(commit).await;
            if let Err(error @ (StoreError::UniqueViolation(_) | StoreError::Data(_))) = &result {
                lock(&self.violations).push(error.to_string());
            }
            result
        };
        let result = match self.next(&self.analyses) {
            None => result.await,
            Some(fault) => broken(fault, result).await,
        };
        allowed.forget();
        result
    }

    async fn mark_analysis_deleting(&self, run_id: RunId, name: &str) -> Result<bool, StoreError> {
        self.inner.mark_analysis_deleting(run_id, name).await
    }

    async fn deleting_analyses(&self) -> Result<Vec<(RunId, String)>, StoreError> {
        self.inner.deleting_analyses().await
    }

    async fn purge_analysis(&self, run_id: RunId, name: &str, max_rows: usize) -> Result<bool, StoreError> {
        self.inner.purge_analysis(run_id, name, max_rows).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.durability_calls.fetch_add(1, Ordering::Relaxed);
        self.inner.durability().await
    }

    /// The store within outlives every server that is started on it; whoever opened it closes it.
    async fn close(&self) {}
}
