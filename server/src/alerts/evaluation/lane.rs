//! The rules of a run that can be evaluated at the same time, and how far they were.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gradwatch_rules::{
    Hold,
    evaluator::{ActiveRule, Change, MachineState, RunEvaluator},
    language::{Condition, EventCondition},
};
use gradwatch_store::{Alert, AlertCommit, AlertCursor, AlertLane, StoreError};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    input::{Chunk, steps_at_once},
    line::Place,
    reader::Reader,
    record::{Open, Unsaved},
    rewind::Rewind,
    watched::About,
};
use crate::{metrics::Metrics, pipeline::Pipeline};

/// A cursor that has moved is saved at least so often, also when nothing else changed: what is behind it is read again
/// after a restart.
const SAVE_STEPS: usize = 2_048;
const SAVE_SECONDS: u64 = 10;

/// A rule by its place among those of the lane, and the group or layer.
pub(super) type MachineKey = (usize, String);

/// Why an evaluation of a run does not go on.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// The store failed.
    Store(StoreError),
    /// The evaluator panicked, which is a bug.
    Panicked(String),
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs what may take long, or panic, beside the async runtime.
pub(super) async fn beside<T: Send + 'static>(
    pipeline: &Pipeline,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Interrupted> {
    pipeline.in_background(job).await.map_err(|error| Interrupted::Panicked(error.to_string()))
}

/// What comes once everything up to the frontier was evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtTheEnd {
    /// More will come.
    Wait,
    /// So much time has passed, by the server's clock; steps could be heard of since then.
    Tick { hearing_since_us: i64, now_us: i64 },
    /// Nothing: the run is over.
    Finish(i64),
}

/// One lane of one run.
pub(super) struct Lane {
    pub(super) lane: AlertLane,
    pub(super) rules: Arc<Vec<ActiveRule>>,
    /// None when no rule has anything to say any more: its open alerts end.
    pub(super) evaluator: Option<RunEvaluator>,
    /// As far as it was evaluated; its number is that of the last commit.
    pub(super) cursor: AlertCursor,
    pub(super) open: BTreeMap<MachineKey, Open>,
    pub(super) rewind: Option<Rewind>,
    pub(super) unsaved: Unsaved,
    /// There may be events that were not looked at.
    pub(super) events_pending: bool,
    /// Types of events that rules ask for; none: nobody asks.
    pub(super) event_types: Arc<Vec<String>>,
    /// Nothing is said of what came before.
    pub(super) active_from_us: i64,
    /// Rules that fire when time passes without a step.
    pub(super) silences: Vec<usize>,
    /// The run is over, and its alerts have ended.
    pub(super) finished: bool,
    pub(super) saved_at: Instant,
}

/// What a stretch of evaluation brought.
pub(super) struct Evaluated {
    pub(super) changes: Vec<Change>,
    /// What the end of the run brought behind them.
    pub(super) ended: Vec<Change>,
    /// Machines that were touched, as they are now; none: inactive.
    pub(super) states: BTreeMap<MachineKey, Option<MachineState>>,
}

impl Lane {
    /// Evaluates the next steps up to `through`; true when there are more.
    pub(super) async fn pass(
        &mut self,
        reader: &Reader<'_>,
        about: &About,
        (through, last_event_id): (Option<Place>, u64),
        end: AtTheEnd,
    ) -> Result<bool, Interrupted> {
        if self.rewind.is_some() {
            self.go_back(reader, about).await?;
            return Ok(true);
        }
        let Some(evaluator) = &self.evaluator else { return Ok(false) };
        let ranges = through.map(|through| reader.line.between(self.cursor.at, through)).unwrap_or_default();
        let mut chunk =
            Chunk::read(reader.store, about.run_id, evaluator.inputs(), ranges, steps_at_once(evaluator)).await?;
        let more = chunk.more;
        let reached = if more { chunk.last() } else { through };
        let wants_events = self.events_pending && !self.event_types.is_empty();
        if wants_events {
            self.add_events(reader, about, &mut chunk, reached.filter(|_| more), last_event_id).await?;
        }
        let end = if more || self.finished { AtTheEnd::Wait } else { end };
        if !chunk.is_empty() || end != AtTheEnd::Wait {
            let steps = chunk.len();
            let evaluated = self.evaluate(reader.pipeline, chunk, end).await?;
            reader.metrics.alert_steps_evaluated.inc_by(steps as u64);
            self.unsaved.steps += steps;
            self.record(evaluated, about, "condition");
            self.finished |= matches!(end, AtTheEnd::Finish(_));
        }
        if let Some(reached) = reached {
            let is_ahead = self.cursor.at.is_none_or(|at| reader.line.rank(at) < reader.line.rank(reached));
            self.cursor.at = if is_ahead { Some(reached) } else { self.cursor.at };
        }
        if !more {
            self.events_pending = false;
            // Also where nobody asks for events now: a rule that does may be made, of which none of these are.
            self.cursor.event_id = self.cursor.event_id.max(last_event_id);
        }
        Ok(more)
    }

    /// Adds the events of the steps of a chunk, and what was noticed behind them. `until`: there are more steps behind this
    /// place, with events of their own.
    async fn add_events(
        &mut self,
        reader: &Reader<'_>,
        about: &About,
        chunk: &mut Chunk,
        until: Option<Place>,
        last_event_id: u64,
    ) -> Result<(), StoreError> {
        let events = match self.lane {
            AlertLane::Steps => {
                let window = (self.cursor.event_id, last_event_id);
                let asked = (self.event_types.as_slice(), self.active_from_us);
                let (events, seen) = reader.events_behind(about.run_id, asked, window, until).await?;
                self.cursor.event_id = if until.is_some() { seen } else { seen.max(last_event_id) };
                events
            }
            AlertLane::Layers => reader.events_of_steps(about.run_id, &self.event_types, chunk).await?,
        };
        chunk.place(events, reader.line);
        Ok(())
    }

    /// Runs the evaluator over a chunk, beside the async runtime.
    pub(super) async fn evaluate(
        &mut self,
        pipeline: &Pipeline,
        chunk: Chunk,
        end: AtTheEnd,
    ) -> Result<Evaluated, Interrupted> {
        let Some(mut evaluator) = self.evaluator.take() else {
            return Ok(Evaluated { changes: Vec::new(), ended: Vec::new(), states: BTreeMap::new() });
        };
        let job = move || {
            let (mut changes, mut ended) = (Vec::new(), Vec::new());
            chunk.advance(&mut evaluator, &mut changes);
            match end {
                AtTheEnd::Wait => {}
                AtTheEnd::Tick { hearing_since_us, now_us } => {
                    evaluator.tick_hearing_since(hearing_since_us, now_us, &mut changes);
                }
                AtTheEnd::Finish(now_us) => evaluator.finish(now_us, &mut ended),
            }
            let changed = changes.iter().map(|change| (change.rule, change.group.clone()));
            let keys: BTreeSet<MachineKey> = evaluator.take_touched().into_iter().chain(changed).collect();
            let states = keys.into_iter().map(|key| (key.clone(), evaluator.state(key.0, &key.1))).collect();
            (evaluator, Evaluated { changes, ended, states })
        };
        let (evaluator, evaluated) = beside(pipeline, job).await?;
        self.evaluator = Some(evaluator);
        Ok(evaluated)
    }

    /// What is to be committed, if anything is, or the cursor was not saved for a while. `now`: it has to be.
    pub(super) fn commit(&self, run_revision: (u64, u64), about: &About, now: bool) -> Option<AlertCommit> {
        if self.rewind.is_some() && self.unsaved.is_empty() {
            return None;
        }
        let moved = self.unsaved.steps > 0 || self.cursor.run_revision != run_revision;
        let is_due = self.unsaved.steps >= SAVE_STEPS || self.saved_at.elapsed().as_secs() >= SAVE_SECONDS;
        if self.unsaved.is_empty() && !(moved && (is_due || now)) {
            return None;
        }
        Some(AlertCommit {
            run_id: about.run_id,
            after_number: self.cursor.number,
            cursor: AlertCursor { number: self.cursor.number + 1, run_revision, ..self.cursor.clone() },
            alerts: self.unsaved.in_order(),
            forgotten: self.unsaved.forgotten.iter().copied().collect(),
            notifications: self.unsaved.notifications.clone(),
        })
    }

    /// What [`Self::commit`] answered is in the store.
    pub(super) fn landed(&mut self, run_revision: (u64, u64), metrics: &Metrics) {
        self.cursor.number += 1;
        self.cursor.run_revision = run_revision;
        metrics.alerts_fired.inc_by(self.unsaved.fired);
        metrics.alerts_resolved.inc_by(self.unsaved.resolved);
        self.unsaved = Unsaved::default();
        self.saved_at = Instant::now();
        self.open.values_mut().for_each(|open| open.stored = true);
    }

    /// Its cursor has moved, and was not saved for a while.
    pub(super) fn wants_saving(&self) -> bool {
        self.unsaved.steps > 0 && self.saved_at.elapsed().as_secs() >= SAVE_SECONDS
    }

    /// Rules that fire when time passes without a step, and whose alerts do not fire yet.
    pub(super) fn waits_for_silence(&self) -> bool {
        self.silences.iter().any(|rule| !self.open.contains_key(&(*rule, String::new())))
    }

    /// Alerts that fire.
    pub(super) fn firing(&self) -> usize {
        self.open.values().filter(|open| open.alert.state == gradwatch_store::AlertState::Firing).count()
    }
}

/// Whether time alone makes a rule fire.
pub(super) fn is_silence(rule: &ActiveRule) -> bool {
    let is_stalled = matches!(*rule.rule.condition, Condition::Event(EventCondition::Stalled));
    is_stalled && matches!(rule.rule.definition.hold, Some(Hold::Microseconds(_)))
}

/// The types of events that rules look at.
pub(in crate::alerts) fn event_types(rules: &[ActiveRule]) -> Vec<String> {
    let mut types = BTreeSet::new();
    for rule in rules {
        match &*rule.rule.condition {
            Condition::Event(EventCondition::Transition { .. }) => {
                // A window that starts again is in another regime.
                types.extend(["edge.regime", "window.restarted"].map(str::to_owned));
            }
            Condition::Event(EventCondition::Stalled) => {
                types.insert("run.stalled".to_owned());
            }
            Condition::Event(EventCondition::Crashed) => {
                types.insert("run.crashed".to_owned());
            }
            Condition::Event(EventCondition::Happened(event_type)) => {
                types.insert(event_type.clone());
            }
            Condition::Expression(_) => {}
        }
    }
    types.into_iter().collect()
}

/// The open alerts of a lane by their machines; and those whose rule is no longer what it was.
pub(super) fn by_machine(rules: &[ActiveRule], alerts: Vec<Alert>) -> (BTreeMap<MachineKey, Open>, Vec<Alert>) {
    let places: BTreeMap<(Uuid, u32), usize> =
        rules.iter().enumerate().map(|(place, rule)| ((rule.rule_id, rule.revision), place)).collect();
    let (mut open, mut ended) = (BTreeMap::new(), Vec::new());
    for alert in alerts {
        match places.get(&(alert.rule_id, alert.rule_revision)) {
            Some(&place) => {
                open.insert((place, alert.group.clone()), Open { alert, stored: true });
            }
            None => ended.push(alert),
        }
    }
    (open, ended)
}
