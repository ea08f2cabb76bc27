//! Rules on events. They have machines only where something has happened: most never happen.

use std::collections::BTreeMap;

use gradwatch_spectral::{
    detectors::Regime,
    layers::{FieldType, LayerInstrument},
};
use gradwatch_store::{Kind, LayerKey, StreamKey};

use super::{
    ActiveRule, EventInput, Inputs,
    columns::{Source, Wanted},
    machine::{Holds, State},
    selection::{GroupFilter, RunIndex, instrument_of},
};
use crate::{
    Hold,
    language::{Condition, EventCondition},
};

/// For how many evaluated steps an alert on something that holds at its step only goes on, unless its rule says.
pub const EVENT_KEEP_READINGS: u32 = 50;

/// What every reading of a stream has.
const EVERY_READING: &str = "update_norm";

/// A rule on an event.
#[derive(Clone, Debug)]
pub(super) struct EventRule {
    /// Its place in the set.
    pub(super) rule: usize,
    filter: GroupFilter,
    /// Kind that the selector names.
    only_kind: Option<Kind>,
    /// Kind and window of the streams that it is about.
    kind: Kind,
    window: usize,
    /// It fires after so long without a step.
    pub(super) silence_us: Option<i64>,
    pub(super) holds: Holds,
}

impl EventRule {
    /// None for a rule on an expression.
    pub(super) fn new(place: usize, rule: &ActiveRule, filter: GroupFilter, run: &RunIndex<'_>) -> Option<Self> {
        let Condition::Event(what) = &*rule.rule.condition else { return None };
        let definition = &rule.rule.definition;
        let StreamKey { kind, window, .. } = run.stream(&definition.select, "", None, None);
        let silence_us = match (what, definition.hold) {
            (EventCondition::Stalled, Some(Hold::Microseconds(silence_us))) => Some(silence_us),
            _ => None,
        };
        let keep = definition.keep_firing_for.or(match what {
            EventCondition::Happened(_) => Some(Hold::Readings(EVENT_KEEP_READINGS)),
            _ => None,
        });
        let hold = if silence_us.is_some() { None } else { definition.hold };
        let only_kind = definition.select.kind;
        Some(Self { rule: place, filter, only_kind, kind, window, silence_us, holds: Holds { hold, keep } })
    }

    /// The readings whose steps count as evaluations while an alert is open, of all its groups.
    pub(super) fn want(&self, what: &EventCondition, run: &RunIndex<'_>, wanted: &mut Wanted) {
        let groups = match what {
            EventCondition::Stalled | EventCondition::Crashed => return,
            EventCondition::Transition { .. } => run.groups(),
            EventCondition::Happened(event_type) => match instrument_of(event_type) {
                Some(instrument) => run.layers_of(instrument),
                None if ["run.", "job.", "segment."].iter().any(|it| event_type.starts_with(it)) => return,
                None => run.groups(),
            },
        };
        for group in groups.into_iter().filter(|group| self.filter.takes(group)) {
            if let Some(source) = self.reference(what, group).filter(|source| run.has(source)) {
                wanted.add(&source, 1, 0);
            }
        }
    }

    /// The readings that count for a group; none: every step of the run does.
    fn reference(&self, what: &EventCondition, group: &str) -> Option<Source> {
        let instrument = match what {
            EventCondition::Stalled | EventCondition::Crashed => return None,
            EventCondition::Transition { .. } => None,
            EventCondition::Happened(event_type) => instrument_of(event_type),
        };
        if let Some(instrument) = instrument {
            let layer = LayerKey { instrument, layer: group.to_owned() };
            return Some(Source::Layer(layer, first_number(instrument)?));
        }
        let stream = StreamKey { group: group.to_owned(), kind: self.kind, window: self.window };
        (!group.is_empty()).then_some(Source::Stream(stream, EVERY_READING))
    }

    /// Whether an event says that the condition holds, or that it does not; none: it says nothing of it.
    fn hears(&self, what: &EventCondition, event: &EventInput<'_>) -> Option<bool> {
        match what {
            EventCondition::Stalled => (event.event_type == "run.stalled" && self.silence_us.is_none()).then_some(true),
            EventCondition::Crashed => (event.event_type == "run.crashed").then_some(true),
            EventCondition::Happened(event_type) => {
                (event.event_type == event_type && self.filter.takes(group_of(event)) && self.is_about(event))
                    .then_some(true)
            }
            EventCondition::Transition { from, to } => {
                let group = event.group?;
                if !self.filter.takes(group) {
                    return None;
                }
                let ours = event.kind == Some(self.kind);
                match event.event_type {
                    "edge.regime" if ours && event.window == Some(self.window) => {
                        let left = from.is_none_or(|from| event.from == Some(from.as_str()));
                        Some(left && event.to == Some(to.as_str()))
                    }
                    // A window that starts again is warming; there is no event of its regime.
                    "window.restarted" if ours => Some(from.is_none() && *to == Regime::Warming),
                    _ => None,
                }
            }
        }
    }

    /// Of a detector's event, the rule's own stream. Of others, any kind unless the selector names one.
    fn is_about(&self, event: &EventInput<'_>) -> bool {
        match (event.kind, event.window) {
            (Some(kind), Some(window)) => (kind, window) == (self.kind, self.window),
            (Some(kind), None) => self.only_kind.is_none_or(|only| only == kind),
            _ => true,
        }
    }
}

fn group_of<'a>(event: &EventInput<'a>) -> &'a str {
    event.group.unwrap_or("")
}

fn first_number(instrument: LayerInstrument) -> Option<&'static str> {
    let number = |it: &FieldType| matches!(it, FieldType::Number | FieldType::Count | FieldType::Flag);
    instrument.fields().iter().find(|field| number(&field.field_type)).map(|field| field.name)
}

/// The machine of one (rule, group) that is not inactive.
#[derive(Clone, Debug)]
pub(super) struct EventMachine {
    pub(super) state: State,
    /// The column whose values are its evaluations; none: every step is.
    reference: Option<u32>,
}

/// What a step says of one (rule, group).
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) condition: bool,
    pub(super) at_us: i64,
}

/// Place of the rule, and group.
pub(super) type Key = (usize, String);

/// The rules on events, and their machines.
#[derive(Clone, Debug, Default)]
pub(super) struct Happenings {
    /// By their places.
    pub(super) rules: Vec<EventRule>,
    pub(super) machines: BTreeMap<Key, EventMachine>,
}

impl Happenings {
    pub(super) fn rule(&self, place: usize) -> Option<&EventRule> {
        self.rules.binary_search_by_key(&place, |it| it.rule).ok().and_then(|at| self.rules.get(at))
    }

    /// The state of the machine, which may be new.
    pub(super) fn state(&self, key: &Key) -> State {
        self.machines.get(key).map_or(State::Inactive, |machine| machine.state)
    }

    /// Keeps the state of a machine, where there is something to keep.
    pub(super) fn set(&mut self, key: Key, state: State, what: &EventCondition, inputs: &Inputs) {
        if state == State::Inactive {
            self.machines.remove(&key);
        } else if let Some(machine) = self.machines.get_mut(&key) {
            machine.state = state;
        } else if let Some(rule) = self.rule(key.0) {
            let reference = rule.reference(what, &key.1).and_then(|source| inputs.place(&source));
            self.machines.insert(key, EventMachine { state, reference });
        }
    }

    /// Whether a rule takes this group.
    pub(super) fn takes(&self, place: usize, group: &str, what: &EventCondition) -> bool {
        let of_the_run = matches!(what, EventCondition::Stalled | EventCondition::Crashed);
        self.rule(place).is_some_and(|rule| if of_the_run { group.is_empty() } else { rule.filter.takes(group) })
    }

    /// What events say, the last word of each (rule, group).
    pub(super) fn heard<'a>(
        &self,
        rules: &[ActiveRule],
        events: impl Iterator<Item = &'a EventInput<'a>>,
        said: &mut BTreeMap<Key, Said>,
    ) {
        for event in events {
            for rule in &self.rules {
                let Some(what) = condition(rules, rule.rule) else { continue };
                if let Some(condition) = rule.hears(what, event) {
                    let of_the_run = matches!(what, EventCondition::Stalled | EventCondition::Crashed);
                    let group = if of_the_run { "" } else { group_of(event) };
                    said.insert((rule.rule, group.to_owned()), Said { condition, at_us: event.at_us });
                }
            }
        }
    }

    /// What a step says of the machines at work, whose columns have values or not: that it goes on, or that it is over.
    pub(super) fn stepped(
        &self,
        rules: &[ActiveRule],
        has_value: impl Fn(u32) -> bool,
        other_segment: bool,
        at_us: i64,
        said: &mut BTreeMap<Key, Said>,
    ) {
        for (key, machine) in &self.machines {
            let Some(what) = condition(rules, key.0) else { continue };
            // Followers begin anew with a segment: its regime is another.
            let regime_lost = other_segment && matches!(what, EventCondition::Transition { .. });
            if regime_lost || machine.reference.is_none_or(&has_value) {
                let goes_on = matches!(what, EventCondition::Transition { .. }) && !regime_lost;
                said.insert(key.clone(), Said { condition: goes_on && machine.state.holds(), at_us });
            }
        }
    }
}

/// The event that a rule is on.
pub(super) fn condition(rules: &[ActiveRule], place: usize) -> Option<&EventCondition> {
    match &*rules.get(place)?.rule.condition {
        Condition::Event(what) => Some(what),
        Condition::Expression(_) => None,
    }
}
