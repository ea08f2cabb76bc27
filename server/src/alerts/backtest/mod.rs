//! What rules would have said of recorded runs, counted against what came true in them.
//!
//! ```text
//! request ─► runs (few enough) ─► each: LineReader ─► background threads: RunEvaluator ─► RunOutcome ─► Report
//! ```
//!
//! > **Invariant: a backtest is what live evaluation would have said.** It feeds the very same evaluator with the very same
//! > inputs in the very same order, for rules that were in force from the first step on.
//!
//! > **Invariant: bounded.** So many runs and rules, so many backtests at once, and of each run only a piece in memory. It ends
//! > with whoever asked for it: nothing of it goes on by itself.

mod line_reader;
mod outcome;
mod replay;
mod report;
mod truth;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use gradwatch_rules::{evaluator::ActiveRule, language::CompiledRule};
use gradwatch_store::{Run, RunQuery, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

pub(crate) use self::report::BacktestReport;
use self::{outcome::RunOutcome, replay::Replay};
use crate::{
    error::{Error, ErrorCode},
    state::AppState,
};

/// Backtests that go on at once. Each keeps the background threads busy, so that more would only make all of them slow.
const AT_ONCE: usize = 2;
/// Runs of one backtest.
const MAX_RUNS: usize = 2_000;
/// Rules × runs of one backtest: so many results are kept and answered.
const MAX_RESULTS: usize = 100_000;
/// Runs of one backtest that are read at once. Some wait for the store while others are evaluated.
const RUNS_AT_ONCE: usize = 4;

/// What is to be tested.
#[derive(Clone, Debug)]
pub(crate) struct BacktestRequest {
    /// The rules.
    pub(crate) rules: Vec<CompiledRule>,
    /// What came true, or not; `None`: only count when rules fired.
    pub(crate) truth: Option<CompiledRule>,
    /// On which runs: their first page, in an order in which what is created meanwhile comes last.
    pub(crate) runs: RunQuery,
}

/// The backtests of this server.
#[derive(Clone, Debug)]
pub(crate) struct Backtests {
    slots: Arc<Semaphore>,
}

/// How far a backtest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Runs that are done.
    pub(crate) runs_done: usize,
    /// Of so many.
    pub(crate) runs_total: usize,
    /// Steps evaluated.
    pub(crate) steps: u64,
}

/// A backtest that goes on while it is asked to.
pub(crate) struct Backtest {
    rules: Arc<Vec<ActiveRule>>,
    truth: Option<String>,
    replays: BoxStream<'static, Result<Option<RunOutcome>, Error>>,
    outcomes: Vec<RunOutcome>,
    runs_done: usize,
    runs_total: usize,
    steps: Arc<AtomicU64>,
    _slot: OwnedSemaphorePermit,
}

impl Backtests {
    pub(crate) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Finds the runs, and is ready to go on.
    ///
    /// # Errors
    /// When too many go on, when the runs or rules are too many, or when the store fails.
    pub(crate) async fn begin(&self, state: &AppState, request: BacktestRequest) -> Result<Backtest, Error> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let message = format!("{AT_ONCE} backtests go on already; wait for one of them");
            Error::new(ErrorCode::ResourceExhausted, message).retry_after(std::time::Duration::from_secs(5))
        })?;
        let runs = select(&*state.store, request.runs, request.rules.len()).await?;
        let truth = request.truth.as_ref().map(|truth| truth.definition.when.clone());
        // The truth is a rule like the others, the last one.
        let rules: Vec<ActiveRule> = request.rules.into_iter().chain(request.truth).map(since_ever).collect();
        let rules = Arc::new(rules);
        let steps = Arc::new(AtomicU64::new(0));
        let replay = Arc::new(Replay {
            store: Arc::clone(&state.store),
            pipeline: Arc::clone(&state.pipeline),
            rules: Arc::clone(&rules),
            has_truth: truth.is_some(),
            steps: Arc::clone(&steps),
        });
        let runs_total = runs.len();
        let replays = stream::iter(runs)
            .map(move |run| {
                let replay = Arc::clone(&replay);
                async move { replay.run(run).await }
            })
            .buffer_unordered(RUNS_AT_ONCE)
            .boxed();
        Ok(Backtest { rules, truth, replays, outcomes: Vec::new(), runs_done: 0, runs_total, steps, _slot: slot })
    }
}

impl Backtest {
    /// Goes on until another run is done; false when all are. May be dropped and called again.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn go_on(&mut self) -> Result<bool, Error> {
        let Some(done) = self.replays.next().await else { return Ok(false) };
        self.outcomes.extend(done?);
        self.runs_done += 1;
        Ok(true)
    }

    pub(crate) fn progress(&self) -> Progress {
        let Self { runs_done, runs_total, .. } = *self;
        Progress { runs_done, runs_total, steps: self.steps.load(Ordering::Relaxed) }
    }

    /// What came out, when all runs are done.
    pub(crate) fn report(mut self) -> BacktestReport {
        // They end in any order.
        self.outcomes.sort_by_key(|outcome| (outcome.created_at_us, outcome.run_id));
        let tested = self.rules.len() - usize::from(self.truth.is_some());
        let steps = self.steps.load(Ordering::Relaxed);
        BacktestReport::new(&self.rules[..tested], self.truth, &self.outcomes, steps)
    }
}

/// A rule that says something of every step that was ever received.
fn since_ever(rule: CompiledRule) -> ActiveRule {
    ActiveRule { rule_id: Uuid::nil(), revision: 1, active_from_us: i64::MIN, rule }
}

/// The runs, oldest first, without their configs, which may be long.
///
/// Invariant: a backtest reads the runs that it finds here and no others, so that a caller of one project sees nothing of
/// another.
async fn select(store: &dyn Store, mut query: RunQuery, rules: usize) -> Result<Vec<Run>, Error> {
    let most = MAX_RUNS.min(MAX_RESULTS / rules.max(1));
    let mut selected = Vec::new();
    loop {
        let page = store.runs(&query).await?;
        query.after = page.items.last().map(|run| (run.created_at_us, run.run_id));
        selected.extend(page.items.into_iter().map(|run| Run { config: serde_json::Value::Null, ..run }));
        if selected.len() > most {
            let message = format!("select more than {most} runs, which is the limit with {rules} rules; narrow them");
            return Err(Error::invalid("runs", message));
        }
        if !page.more {
            return Ok(selected);
        }
    }
}
