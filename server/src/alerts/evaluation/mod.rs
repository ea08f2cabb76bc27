//! Rules over what was committed.
//!
//! ```text
//! hub ─► listen ─► queue (runs, each once) ─► pass: read ─► evaluate on background threads ─► one commit of up to 64 runs
//!                                              └ watched: a run in memory; its lanes, each with evaluator and cursor
//! ```
//!
//! > **Invariant: nothing is said twice, and nothing is forgotten.** Alerts, what is told of them and the cursor are one
//! > transaction, which moves the cursor by compare-and-set. Whatever does not land is read from the store again.
//!
//! > **Invariant: one run cannot stop another.** One portion of a run is evaluated at a time; a run on which the evaluator
//! > panics, or which the store refuses, is given up for a while.

pub(super) mod facts;
mod frontier;
pub(super) mod input;
mod lane;
pub(super) mod line;
mod listen;
mod queue;
mod reader;
mod record;
mod refill;
mod rewind;
mod watched;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use gradwatch_rules::evaluator::ActiveRule;
use gradwatch_store::{AlertCommit, AlertLane, RunId, Store, StoreError};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    lane::Interrupted,
    queue::News,
    watched::{About, LaneRules, Passed, WatchedRun},
};
pub(super) use self::{lane::event_types, queue::Queue};
use super::{RuleBook, RuleSet};
use crate::{
    clock,
    metrics::Metrics,
    pipeline::Pipeline,
    recorder::{Hub, StoreTrouble},
};

/// Runs evaluated and committed at once.
const BATCH: usize = 64;
/// Runs read at once. One of the store's connections for reading is left to everybody else.
const READ_AT_ONCE: usize = 3;
const LANES: [AlertLane; 2] = [AlertLane::Steps, AlertLane::Layers];
/// How often time alone is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Runs that nobody has heard of for longer are not looked at after a start.
const LONG_AGO_US: i64 = 30 * DAY_US;
const DAY_US: i64 = 86_400 * 1_000_000;
/// How long to wait for a store that does not answer, and for a run that was given up.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
const FIRST_REST: Duration = Duration::from_secs(1);
const LAST_REST: Duration = Duration::from_secs(600);

/// What evaluation works with.
pub(super) struct Parts {
    pub(super) public_url: Option<String>,
    pub(super) store: Arc<dyn Store>,
    pub(super) hub: Arc<Hub>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) trouble: Arc<StoreTrouble>,
    pub(super) draining: CancellationToken,
    pub(super) book: Arc<RuleBook>,
    pub(super) queue: Arc<Queue>,
    pub(super) recorded: Arc<watch::Sender<u64>>,
}

/// The rules by lane.
type Lanes = [LaneRules; 2];

/// What is in memory of a run.
enum Held {
    /// No rule has anything to say about it.
    Unwatched,
    Watched(Box<WatchedRun>),
}

/// Evaluates rules until the server drains.
pub(super) struct Evaluation {
    parts: Parts,
    rules: Arc<RuleSet>,
    lanes: Lanes,
    /// Runs that are not over.
    runs: HashMap<RunId, Held>,
    /// Runs that were given up, and how often in a row.
    given_up: HashMap<RunId, u32>,
    /// While we did not listen, silence was ours.
    listening_since_us: i64,
    retry: Duration,
}

/// A run taken out of memory for a look at it.
struct Look {
    run_id: RunId,
    held: Option<Held>,
    outcome: Result<Passed, Interrupted>,
}

impl Evaluation {
    pub(super) fn new(parts: Parts) -> Self {
        let rules = parts.book.current();
        Self {
            lanes: by_lane(&rules.active),
            rules,
            runs: HashMap::new(),
            given_up: HashMap::new(),
            listening_since_us: clock::now_us(),
            retry: FIRST_RETRY,
            parts,
        }
    }

    pub(super) async fn run(mut self) {
        let missed = Arc::new(watch::Sender::new(0_u64));
        // Before the store is asked what there is: what is committed from here on is heard of.
        let last_seq = *self.parts.hub.subscribe().borrow();
        let listening = tokio::spawn(listen::listen(
            Arc::clone(&self.parts.hub),
            Arc::clone(&self.parts.queue),
            Arc::clone(&missed),
            self.parts.draining.clone(),
            last_seq,
        ));
        let mut missed = missed.subscribe();
        let mut changed = self.parts.book.subscribe();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since_us = Some(clock::now_us() - LONG_AGO_US);
        while !self.parts.draining.is_cancelled() {
            if let Some(from_us) = since_us {
                match self.find(from_us).await {
                    Ok(()) => since_us = None,
                    Err(error) => self.wait(&error).await,
                }
                continue;
            }
            tokio::select! {
                () = self.parts.draining.cancelled() => break,
                // The book outlives this.
                _ = changed.changed() => {
                    let rules = Arc::clone(&changed.borrow_and_update());
                    if self.take_rules(rules) {
                        since_us = Some(clock::now_us() - DAY_US);
                    }
                }
                heard = missed.changed() => {
                    if heard.is_ok() {
                        self.runs.clear();
                        since_us = Some(clock::now_us() - DAY_US);
                    }
                }
                _ = ticks.tick() => self.tick(),
                () = self.parts.queue.ready() => self.batch().await,
            }
        }
        listening.abort();
    }

    /// Wakes the runs that the store knows something new of.
    async fn find(&mut self, since_us: i64) -> Result<(), StoreError> {
        for run_id in self.parts.store.runs_to_evaluate(since_us).await? {
            self.parts.queue.reload(run_id);
        }
        self.retry = FIRST_RETRY;
        Ok(())
    }

    /// Takes new rules into force; false when only receivers have changed.
    fn take_rules(&mut self, rules: Arc<RuleSet>) -> bool {
        let same = rules.rules == self.rules.rules;
        self.rules = rules;
        if !same {
            self.lanes = by_lane(&self.rules.active);
            // Whatever runs is read again with the rules as they are now.
            self.runs.clear();
        }
        !same
    }

    /// Looks at what time alone changes, and counts.
    fn tick(&mut self) {
        let mut firing = 0;
        let mut resting = Vec::new();
        for (run_id, held) in &self.runs {
            let Held::Watched(run) = held else { continue };
            firing += run.firing();
            if run.waits_for_silence() || run.wants_saving() {
                self.parts.queue.wake(*run_id, News::default());
            } else if run.can_rest() {
                resting.push(*run_id);
            }
        }
        for run_id in resting {
            self.runs.remove(&run_id);
            self.parts.queue.forget(run_id);
        }
        self.parts.metrics.alerts_firing.set(i64::try_from(firing).unwrap_or(i64::MAX));
        self.parts.metrics.alert_evaluation_lag_seconds.set(self.parts.queue.lag().as_secs_f64());
    }

    /// Evaluates some runs and commits what that brought.
    async fn batch(&mut self) {
        let taken = self.parts.queue.take(BATCH);
        let now_us = clock::now_us();
        let looks: Vec<_> = taken.into_iter().map(|(run_id, news)| (run_id, news, self.runs.remove(&run_id))).collect();
        let this = &*self;
        let looks = looks.into_iter().map(|(run_id, news, held)| this.look(run_id, news, held, now_us));
        let looks: Vec<Look> = stream::iter(looks).buffer_unordered(READ_AT_ONCE).collect().await;

        let mut commits = Vec::new();
        let mut passed = Vec::new();
        let mut trouble = None;
        for Look { run_id, held, outcome } in looks {
            match (outcome, held) {
                (Ok(found), Some(held)) => {
                    commits.extend(found.commits);
                    passed.push((run_id, held, found.more));
                }
                // It is over, and no rule has anything to say about it.
                (Ok(_), None) => self.parts.queue.forget(run_id),
                (Err(Interrupted::Panicked(cause)), _) => {
                    tracing::error!(%run_id, cause, "rules panicked on a run; it is given up for a while");
                    self.give_up(run_id, "panic");
                }
                (Err(Interrupted::Store(error @ StoreError::Unavailable(_))), _) => {
                    self.parts.queue.reload(run_id);
                    trouble = Some(error);
                }
                (Err(Interrupted::Store(error)), _) => {
                    tracing::error!(%run_id, %error, "a run cannot be read for its rules; it is given up for a while");
                    self.give_up(run_id, "store");
                }
            }
        }
        let landed = self.commit(commits, &mut trouble).await;
        for (run_id, held, more) in passed {
            self.put_back(run_id, held, more, &landed);
        }
        match trouble {
            Some(error) => self.wait(&error).await,
            None => self.retry = FIRST_RETRY,
        }
    }

    /// Keeps what was looked at, unless it is over, or something of it has not landed.
    fn put_back(&mut self, run_id: RunId, mut held: Held, more: bool, landed: &BTreeMap<(RunId, AlertLane), Landed>) {
        if let Held::Watched(run) = &mut held {
            for lane in LANES {
                match landed.get(&(run_id, lane)) {
                    None => {}
                    Some(Landed::Yes) => run.landed(lane),
                    Some(Landed::No) => return self.parts.queue.reload(run_id),
                    Some(Landed::Refused) => return self.give_up(run_id, "refused"),
                }
            }
            if !more && run.is_done() {
                self.given_up.remove(&run_id);
                return self.parts.queue.forget(run_id);
            }
        }
        self.given_up.remove(&run_id);
        if more {
            self.parts.queue.wake(run_id, News::default());
        }
        self.runs.insert(run_id, held);
    }

    /// Reads what is new of a run and evaluates it.
    async fn look(&self, run_id: RunId, news: News, mut held: Option<Held>, now_us: i64) -> Look {
        let parts = &self.parts;
        let stands = match &mut held {
            Some(Held::Watched(run)) => run.hear(&news),
            Some(Held::Unwatched) => !news.reload,
            None => false,
        };
        let outcome = async {
            if !stands {
                let about = self.about(run_id, now_us);
                let watched = WatchedRun::load((&*parts.store, &parts.pipeline), run_id, &self.lanes, about).await?;
                held = Some(watched.map_or(Held::Unwatched, |run| Held::Watched(Box::new(run))));
            }
            let Some(Held::Watched(run)) = &mut held else { return Ok(Passed { commits: Vec::new(), more: false }) };
            // While the store is in trouble, and before the start, no step could be heard of.
            let hearing_since_us = parts.trouble.last_us().max(self.listening_since_us);
            run.pass((&*parts.store, &parts.pipeline), &self.rules, now_us, hearing_since_us).await
        };
        let outcome = outcome.await;
        // After a panic or half a read it is not what it was; and of what is over nothing more is expected.
        let is_idle = matches!(held, Some(Held::Unwatched)) && news.is_over == Some(true);
        let held = held.filter(|_| outcome.is_ok() && !is_idle);
        Look { run_id, held, outcome }
    }

    fn about(&self, run_id: RunId, now_us: i64) -> About {
        About {
            run_id,
            run_name: String::new(),
            project: String::new(),
            labels: BTreeMap::new(),
            rules: Arc::clone(&self.rules),
            metrics: Arc::clone(&self.parts.metrics),
            public_url: self.parts.public_url.clone(),
            now_us,
        }
    }

    /// Commits evaluations in one transaction; one by one when it is refused as data.
    async fn commit(
        &self,
        commits: Vec<AlertCommit>,
        trouble: &mut Option<StoreError>,
    ) -> BTreeMap<(RunId, AlertLane), Landed> {
        let key = |commit: &AlertCommit| (commit.run_id, commit.cursor.lane);
        if commits.is_empty() {
            return BTreeMap::new();
        }
        let store = &self.parts.store;
        let outcomes = match store.commit_alerts(&commits).await {
            Ok(landed) => landed.into_iter().map(Landed::from).collect(),
            Err(error @ StoreError::Unavailable(_)) => {
                // It may have landed all the same: every one of them is read again.
                *trouble = Some(error);
                vec![Landed::No; commits.len()]
            }
            Err(error) => {
                tracing::error!(%error, commits = commits.len(), "evaluations refused; trying each alone");
                let mut outcomes = Vec::new();
                for commit in &commits {
                    let alone = store.commit_alerts(std::slice::from_ref(commit)).await;
                    outcomes.push(match alone {
                        Ok(landed) => Landed::from(landed.first().copied().unwrap_or(false)),
                        Err(StoreError::Unavailable(_)) => Landed::No,
                        Err(error) => {
                            tracing::error!(run_id = %commit.run_id, %error, "evaluation refused");
                            Landed::Refused
                        }
                    });
                }
                outcomes
            }
        };
        for (commit, landed) in commits.iter().zip(&outcomes) {
            match landed {
                Landed::Yes if !commit.notifications.is_empty() => {
                    self.parts.recorded.send_modify(|count| *count += 1);
                }
                Landed::No => Metrics::count(&self.parts.metrics.alert_evaluation_failures, "not_landed"),
                Landed::Yes | Landed::Refused => {}
            }
        }
        commits.iter().map(key).zip(outcomes).collect()
    }

    /// Invariant (promise 11): a run that cannot be evaluated rests, longer each time, and the others go on.
    fn give_up(&mut self, run_id: RunId, cause: &str) {
        Metrics::count(&self.parts.metrics.alert_evaluation_failures, cause);
        let times = self.given_up.entry(run_id).or_insert(0);
        let rest = FIRST_REST.saturating_mul(1 << (*times).min(16)).min(LAST_REST);
        *times += 1;
        self.parts.queue.reload_later(run_id, rest);
    }

    async fn wait(&mut self, error: &StoreError) {
        Metrics::count(&self.parts.metrics.alert_evaluation_failures, "store");
        tracing::warn!(%error, delay_ms = self.retry.as_millis() as u64, "rules wait for the store");
        let _ = self.parts.draining.run_until_cancelled(sleep(self.retry)).await;
        self.retry = (self.retry * 2).min(LAST_RETRY);
    }
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landed {
    Yes,
    /// The cursor was not where it should be, or nobody knows.
    No,
    /// It cannot be stored.
    Refused,
}

impl From<bool> for Landed {
    fn from(landed: bool) -> Self {
        if landed { Self::Yes } else { Self::No }
    }
}

fn by_lane(rules: &[ActiveRule]) -> Lanes {
    LANES.map(|lane| LaneRules::new(lane, rules))
}
