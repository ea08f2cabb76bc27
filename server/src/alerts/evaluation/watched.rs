//! A run under watch: all that is kept of it in memory, and how it comes there.

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_rules::evaluator::{ActiveRule, MachineState, RunEvaluator};
use gradwatch_store::{Alert, AlertCommit, AlertCursor, AlertLane, AlertMoment, RunId, RunState, Store, StoreError};
use tokio::time::Instant;

use super::{
    facts,
    frontier::{Frontier, before_pending, look},
    lane::{self, AtTheEnd, Interrupted, Lane},
    line::{Line, Place},
    queue::News,
    reader::Reader,
    record::{Open, Unsaved},
    refill,
    rewind::Rewind,
};
use crate::{alerts::RuleSet, metrics::Metrics, pipeline::Pipeline};

/// The rules of a lane.
pub(super) struct LaneRules {
    lane: AlertLane,
    pub(super) rules: Arc<Vec<ActiveRule>>,
    /// What they look at besides values.
    event_types: Arc<Vec<String>>,
}

impl LaneRules {
    /// Those of all rules that belong to a lane.
    pub(super) fn new(lane: AlertLane, rules: &[ActiveRule]) -> Self {
        let rules: Vec<_> = rules.iter().filter(|rule| rule.lane() == lane).cloned().collect();
        let event_types = Arc::new(lane::event_types(&rules));
        Self { lane, rules: Arc::new(rules), event_types }
    }
}

/// What is said of a run and its rules in an alert.
pub(super) struct About {
    pub(super) run_id: RunId,
    pub(super) run_name: String,
    pub(super) project: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) rules: Arc<RuleSet>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) public_url: Option<String>,
    /// When it is evaluated.
    pub(super) now_us: i64,
}

/// A run that rules have something to say about, or that has open alerts.
pub(super) struct WatchedRun {
    about: About,
    line: Line,
    frontier: Frontier,
    lanes: Vec<Lane>,
    state: RunState,
    revision: (u64, u64),
    /// When the server last heard of it, as of when it was read.
    last_seen_us: i64,
}

/// What a look at a run came to.
pub(super) struct Passed {
    pub(super) commits: Vec<AlertCommit>,
    /// There are more steps.
    pub(super) more: bool,
}

impl WatchedRun {
    /// Reads all of it from the store; none when there is nothing to watch.
    pub(super) async fn load(
        (store, pipeline): (&dyn Store, &Pipeline),
        run_id: RunId,
        lanes: &[LaneRules],
        mut about: About,
    ) -> Result<Option<Self>, Interrupted> {
        if lanes.iter().all(|lane| lane.rules.is_empty()) && store.open_alerts(run_id).await?.is_empty() {
            return Ok(None);
        }
        let Some((run, segments, frontier)) = look(store, run_id).await? else { return Ok(None) };
        let facts = Arc::new(facts::of(&run, &segments));
        let line = Line::new(&segments);
        about.run_name = run.name;
        about.project = run.project;
        about.labels = run.labels;
        let mut cursors = store.alert_cursors(run_id).await?;
        let (steps, layers): (Vec<Alert>, Vec<Alert>) =
            store.open_alerts(run_id).await?.into_iter().partition(|alert| alert.lane == AlertLane::Steps);
        let mut alerts = BTreeMap::from([(AlertLane::Steps, steps), (AlertLane::Layers, layers)]);
        let mut watched = Self {
            about,
            line,
            frontier,
            lanes: Vec::new(),
            state: run.state,
            revision: run.revision,
            last_seen_us: run.last_seen_us,
        };
        for LaneRules { lane, rules, event_types } in lanes {
            let (active, of_run) = (Arc::clone(rules), Arc::clone(&facts));
            let evaluator = lane::beside(pipeline, move || RunEvaluator::new(active, &of_run)).await?;
            let alerts = alerts.remove(lane).unwrap_or_default();
            if evaluator.is_none() && alerts.is_empty() {
                continue;
            }
            let cursor = cursors.iter().position(|cursor| cursor.lane == *lane).map(|at| cursors.swap_remove(at));
            let fresh = AlertCursor { lane: *lane, at: None, event_id: 0, number: 0, run_revision: (0, 0) };
            let taken = || {
                let rules = rules.iter().enumerate();
                rules.filter(|(_, rule)| facts::takes(&rule.rule.definition.select, &facts))
            };
            let active_from_us = taken().map(|(_, rule)| rule.active_from_us).min().unwrap_or(i64::MAX);
            let silences = taken().filter(|(_, rule)| lane::is_silence(rule)).map(|(place, _)| place);
            let lane = Lane {
                lane: *lane,
                rules: Arc::clone(rules),
                evaluator,
                cursor: cursor.unwrap_or(fresh),
                open: BTreeMap::new(),
                rewind: None,
                unsaved: Unsaved::default(),
                events_pending: true,
                event_types: Arc::clone(event_types),
                active_from_us,
                silences: silences.collect(),
                finished: false,
                saved_at: Instant::now(),
            };
            watched.begin((store, pipeline), lane, alerts).await?;
        }
        Ok((!watched.lanes.is_empty()).then_some(watched))
    }

    /// Brings a lane to where it was evaluated last.
    async fn begin(
        &mut self,
        (store, pipeline): (&dyn Store, &Pipeline),
        mut lane: Lane,
        alerts: Vec<Alert>,
    ) -> Result<(), Interrupted> {
        let (run_id, active_from_us) = (self.about.run_id, lane.active_from_us);
        let (open, ended) = lane::by_machine(&lane.rules, alerts);
        for alert in ended {
            let known = self.about.rules.rules.iter().any(|rule| rule.rule_id == alert.rule_id);
            self.end(&mut lane, alert, if known { "rule_changed" } else { "rule_removed" });
        }
        let went_back = |place: &Place| !self.line.holds(*place);
        // All alerts end with a run that is over. Should it go on, then as if it had never ended, as over stored steps.
        let goes_on = |place: &Place| {
            let is_news =
                !self.state.is_over() || self.frontier.at.is_some_and(|at| self.line.rank(at) > self.line.rank(*place));
            open.is_empty() && lane.evaluator.is_some() && self.line.newest() != Some(place.0) && is_news
        };
        let again = lane.cursor.at.filter(|place| went_back(place) || goes_on(place));
        // Nothing is said of steps that came before all rules: a long history need not be evaluated.
        let skip = |after: Option<Place>, through: Option<Place>| {
            let line = self.line.clone();
            async move {
                let Some(through) = through else { return Ok::<_, StoreError>(after) };
                Ok(refill::last_before(store, run_id, &line, (after, through), active_from_us).await?.or(after))
            }
        };
        if let Some(place) = again {
            let until = if went_back(&place) { self.line.parted(place) } else { Some(place) };
            let from = skip(None, until).await?;
            self.refill((store, pipeline), &mut lane, from).await?;
            lane.rewind = Some(Rewind::new(from, until, open));
        } else {
            if open.is_empty() {
                lane.cursor.at = skip(lane.cursor.at, self.frontier.at).await?;
            }
            let at = lane.cursor.at;
            self.refill((store, pipeline), &mut lane, at).await?;
            for ((rule, group), open) in open {
                let state = MachineState { bytes: open.alert.machine.clone() };
                let evaluator = lane.evaluator.as_mut();
                if evaluator.is_some_and(|evaluator| evaluator.restore(rule, &group, &state)) {
                    lane.open.insert((rule, group), open);
                } else {
                    self.end(&mut lane, open.alert, "not_selected");
                }
            }
        }
        self.lanes.push(lane);
        Ok(())
    }

    async fn refill(
        &self,
        with: (&dyn Store, &Pipeline),
        lane: &mut Lane,
        at: Option<Place>,
    ) -> Result<(), Interrupted> {
        if let Some(at) = at
            && let Some(evaluator) = lane.evaluator.take()
        {
            lane.evaluator = Some(refill::refill(with, self.about.run_id, &self.line, at, evaluator).await?);
        }
        Ok(())
    }

    /// Ends an alert whose rule looks for something else now.
    fn end(&self, lane: &mut Lane, alert: Alert, reason: &str) {
        let (segment, step) = lane.cursor.at.unwrap_or((alert.pending.segment, alert.pending.step));
        let moment = AlertMoment { segment, step, at_us: self.about.now_us };
        lane.end(Open { alert, stored: true }, &self.about, moment, reason);
    }

    /// Takes in what was heard of it. False: it has to be read again.
    ///
    /// Invariant: nothing is evaluated that was not on the live line when it was committed. A commit says which line that
    /// was; when it is another than the one that was read, the run is read again.
    pub(super) fn hear(&mut self, news: &News) -> bool {
        if news.reload || news.live_to_step.as_ref().is_some_and(|live| !self.line.is(live)) {
            return false;
        }
        if let (Some(step), Some(segment)) = (news.last_step, self.line.newest()) {
            let place = (segment, step);
            let is_news = self.frontier.at.is_none_or(|at| self.line.rank(at) < self.line.rank(place));
            self.frontier.at = if is_news { Some(place) } else { self.frontier.at };
        }
        if let Some(event_id) = news.event_id.filter(|event_id| *event_id > self.frontier.event_id) {
            self.frontier.event_id = event_id;
            self.lanes.iter_mut().for_each(|lane| lane.events_pending = true);
        }
        true
    }

    /// Evaluates what is new, at most one portion of it.
    pub(super) async fn pass(
        &mut self,
        (store, pipeline): (&dyn Store, &Pipeline),
        rules: &Arc<RuleSet>,
        now_us: i64,
        hearing_since_us: i64,
    ) -> Result<Passed, Interrupted> {
        self.about.now_us = now_us;
        self.about.rules = Arc::clone(rules);
        let metrics = Arc::clone(&self.about.metrics);
        let reader = Reader { store, pipeline, metrics: &metrics, line: &self.line };
        let mut passed = Passed { commits: Vec::new(), more: false };
        for lane in &mut self.lanes {
            let mut through = self.frontier.at;
            let mut all = true;
            if lane.lane == AlertLane::Layers {
                (through, all) = before_pending(store, self.about.run_id, &self.line, through).await?;
                lane.events_pending = true;
            }
            let end = match (self.state.is_over(), all) {
                // Silence ends with the word of the end, however late it is looked at.
                (true, true) => AtTheEnd::Finish(self.last_seen_us.min(now_us)),
                (true, false) => AtTheEnd::Wait,
                (false, _) if lane.silences.is_empty() => AtTheEnd::Wait,
                (false, _) => AtTheEnd::Tick { hearing_since_us, now_us },
            };
            let more = lane.pass(&reader, &self.about, (through, self.frontier.event_id), end).await?;
            passed.more |= more;
            let is_over = self.state.is_over() && !more;
            passed.commits.extend(lane.commit(self.revision, &self.about, is_over));
        }
        Ok(passed)
    }

    /// What the last [`Self::pass`] wanted committed is in the store.
    pub(super) fn landed(&mut self, lane: AlertLane) {
        let Self { lanes, about, revision, .. } = self;
        lanes.iter_mut().filter(|it| it.lane == lane).for_each(|lane| lane.landed(*revision, &about.metrics));
    }

    /// There is nothing more to say of it.
    pub(super) fn is_done(&self) -> bool {
        let idle = |lane: &Lane| lane.rewind.is_none() && lane.unsaved.is_empty() && lane.open.is_empty();
        let without_rules = self.lanes.iter().all(|lane| lane.evaluator.is_none() && idle(lane));
        let over = self.state.is_over()
            && self.lanes.iter().all(|lane| (lane.finished || lane.evaluator.is_none()) && idle(lane));
        without_rules || over
    }

    /// Time alone can make it fire.
    pub(super) fn waits_for_silence(&self) -> bool {
        !self.state.is_over() && self.lanes.iter().any(Lane::waits_for_silence)
    }

    /// Alerts that fire.
    pub(super) fn firing(&self) -> usize {
        self.lanes.iter().map(Lane::firing).sum()
    }

    /// A cursor has moved, and was not saved for a while.
    pub(super) fn wants_saving(&self) -> bool {
        self.lanes.iter().any(Lane::wants_saving)
    }

    /// Nothing is expected of it, so that it need not be kept in memory: it crashed, and no rule waits for more silence.
    pub(super) fn can_rest(&self) -> bool {
        let at_rest = |lane: &Lane| lane.rewind.is_none() && lane.unsaved.is_empty() && lane.unsaved.steps == 0;
        self.state == RunState::Crashed && !self.waits_for_silence() && self.lanes.iter().all(at_rest)
    }
}
