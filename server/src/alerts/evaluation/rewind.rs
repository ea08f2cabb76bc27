//! A run that went back: what its rules say now is what they would have said had the steps that were left never been.

use std::collections::BTreeMap;

use gradwatch_rules::evaluator::{Change, Phase};
use gradwatch_store::{Alert, AlertMoment, AlertState};

use super::{
    input::{Chunk, steps_at_once},
    lane::{AtTheEnd, Interrupted, Lane, MachineKey},
    line::Place,
    reader::Reader,
    record::Open,
    watched::About,
};

/// The live line is evaluated again in silence, from its beginning to where the run went back to.
pub(super) struct Rewind {
    /// As far as it was evaluated again.
    at: Option<Place>,
    event_id: u64,
    until: Option<Place>,
    /// Machines that are not inactive there, with what made them so: pending, then firing.
    active: BTreeMap<MachineKey, Vec<Change>>,
    /// Alerts that were open when it went back.
    alerts: BTreeMap<MachineKey, Open>,
}

impl Rewind {
    pub(super) fn new(at: Option<Place>, until: Option<Place>, alerts: BTreeMap<MachineKey, Open>) -> Self {
        Self { at, event_id: 0, until, active: BTreeMap::new(), alerts }
    }

    fn note(&mut self, change: Change) {
        let key = (change.rule, change.group.clone());
        match change.phase {
            Phase::Pending => {
                self.active.insert(key, vec![change]);
            }
            Phase::Firing => self.active.entry(key).or_default().push(change),
            Phase::Resolved | Phase::Inactive => {
                self.active.remove(&key);
            }
        }
    }
}

impl Lane {
    /// Evaluates the next steps again. Nothing is committed before all of them are, so that a crash begins it anew.
    pub(super) async fn go_back(&mut self, reader: &Reader<'_>, about: &About) -> Result<(), Interrupted> {
        let Some(mut rewind) = self.rewind.take() else { return Ok(()) };
        let mut more = false;
        if let (Some(until), Some(evaluator)) = (rewind.until, &self.evaluator) {
            let ranges = reader.line.between(rewind.at, until);
            let mut chunk =
                Chunk::read(reader.store, about.run_id, evaluator.inputs(), ranges, steps_at_once(evaluator)).await?;
            more = chunk.more;
            let reached = if more { chunk.last() } else { Some(until) };
            let events = match self.lane {
                _ if self.event_types.is_empty() => Vec::new(),
                gradwatch_store::AlertLane::Steps => {
                    // What was noticed behind the place that it went back to was noticed of steps that are gone.
                    let window = (rewind.event_id, self.cursor.event_id);
                    let asked = (self.event_types.as_slice(), self.active_from_us);
                    let seen = reader.events_behind(about.run_id, asked, window, reached).await?;
                    rewind.event_id = seen.1;
                    seen.0
                }
                gradwatch_store::AlertLane::Layers => {
                    reader.events_of_steps(about.run_id, &self.event_types, &chunk).await?
                }
            };
            chunk.place(events, reader.line);
            let steps = chunk.len();
            let evaluated = self.evaluate(reader.pipeline, chunk, AtTheEnd::Wait).await?;
            reader.metrics.alert_steps_evaluated.inc_by(steps as u64);
            evaluated.changes.into_iter().for_each(|change| rewind.note(change));
            rewind.at = reached;
        }
        if more {
            self.rewind = Some(rewind);
        } else {
            self.went_back(rewind, about);
        }
        Ok(())
    }

    /// Invariant: superseded steps fire nothing, and what fired on them only ends. What fires on the live line fires: the
    /// same alert goes on where there is one.
    fn went_back(&mut self, rewind: Rewind, about: &About) {
        let Rewind { until, active, mut alerts, event_id, .. } = rewind;
        let moment = |alert: &Alert| {
            let (segment, step) = until.unwrap_or((alert.pending.segment, alert.pending.step));
            AlertMoment { segment, step, at_us: about.now_us }
        };
        for (key, changes) in active {
            let fires = changes.iter().any(|change| change.phase == Phase::Firing);
            if let Some(open) = alerts.remove(&key) {
                // One that began elsewhere, or fires where nothing does, is of the steps that were left.
                let began = changes.first().map(|change| (change.segment, change.step));
                let is_same = began == Some((open.alert.pending.segment, open.alert.pending.step));
                if !is_same || (open.alert.state == AlertState::Firing && !fires) {
                    let moment = moment(&open.alert);
                    self.end(open, about, moment, "superseded");
                } else {
                    self.open.insert(key.clone(), open);
                }
            }
            let is_open = self.open.contains_key(&key);
            for change in changes {
                // An alert that is there has begun already; that it fires may be new.
                if !(is_open && change.phase == Phase::Pending) {
                    self.change(change, about, "condition");
                }
            }
            let state = self.evaluator.as_ref().and_then(|evaluator| evaluator.state(key.0, &key.1));
            self.keep_state(&key, state);
        }
        for (_, open) in alerts {
            let moment = moment(&open.alert);
            self.end(open, about, moment, "superseded");
        }
        self.cursor.at = until;
        if until.is_some() && self.lane == gradwatch_store::AlertLane::Steps {
            // What happened behind that place, on the line as it is now, is told as the line goes on.
            self.cursor.event_id = event_id;
        }
        // The cursor has moved, also where no alert has changed.
        self.unsaved.steps += 1;
    }
}
