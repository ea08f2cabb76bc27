//! When rules fire: a function of the inputs of a run, step by step.
//!
//! > **Invariant: live is backtest.** An evaluator sees steps in the order of the live line, and nothing else: no clock but
//! > the server's times that were stored with the steps. So the same steps give the same changes.
//!
//! A rule on an expression has a machine for each group, layer, or the run, that it is evaluated for. It is evaluated at a step at which any of its
//! terms has a value, in Kleene's logic; what is unknown changes nothing.
//!
//! A rule on an event has a machine where the event has happened. It is evaluated at the event, and, while it is not
//! inactive, at each reading of what it is about: of the group's stream of the rule's kind and window, or of the layer;
//! without a group, at each step of the run. What holds at its step only ([`Happened`]) does not hold there, a regime does until it changes, its
//! window restarts, or a segment begins; a crash and silence end with the next step. An event that the server noticed after it had
//! the step is evaluated behind the step, whether it comes with it or alone.
//!
//! [`Happened`]: crate::language::EventCondition::Happened

mod columns;
mod expression;
mod functions;
mod happenings;
mod machine;
mod plan;
mod run;
mod selection;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use gradwatch_store::{Kind, LayerKey, StreamKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{happenings::EVENT_KEEP_READINGS, run::RunEvaluator};
use crate::language::CompiledRule;

/// A rule at work.
#[derive(Clone, Debug)]
pub struct ActiveRule {
    /// Identifies it for good.
    pub rule_id: Uuid,
    /// Grows when selector, condition, `for`, `keep_firing_for` or `max_age` change.
    pub revision: u32,
    /// It says nothing of steps that the server received before this.
    pub active_from_us: i64,
    /// The rule.
    pub rule: CompiledRule,
}

/// What selectors look at, and what a run has.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Its project.
    pub project: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its streams with their update intervals, of all its segments.
    pub streams: Vec<(StreamKey, u32)>,
    /// W that a term without a window means.
    pub first_window: usize,
    /// Its layers, of all its segments.
    pub layers: Vec<LayerKey>,
}

/// What has to be read of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Edge metrics by stream, by their short names, in the order of [`StepInput::values`]: streams one behind the other,
    /// then layers, then scalars.
    pub streams: Vec<(StreamKey, Vec<&'static str>)>,
    /// Fields by layer.
    pub layers: Vec<(LayerKey, Vec<&'static str>)>,
    /// Scalars.
    pub scalars: Vec<String>,
    /// How many of the last values of every column, as far as there are as many, [`RunEvaluator::refill`] needs. A step
    /// at which the column has no value does not count.
    pub look_back: usize,
}

/// One step of a run, on its live line.
#[derive(Clone, Debug)]
pub struct StepInput<'a> {
    /// The segment.
    pub segment: u32,
    /// The step.
    pub step: u64,
    /// When the server had it whole.
    pub received_at_us: i64,
    /// The values of this step, in the order of [`Inputs`]; `None`: it has none (also where it is not finite).
    pub values: &'a [Option<f64>],
    /// What happened at it.
    pub events: &'a [EventInput<'a>],
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct EventInput<'a> {
    /// Such as `edge.gap_collapse`.
    pub event_type: &'a str,
    /// The group, or the layer, where it concerns one.
    pub group: Option<&'a str>,
    /// The kind, where it concerns one.
    pub kind: Option<Kind>,
    /// The window, where it concerns one.
    pub window: Option<usize>,
    /// For a transition.
    pub from: Option<&'a str>,
    /// For a transition.
    pub to: Option<&'a str>,
    /// The server's time of the event. Behind that of its step: it was noticed after the step, or while no step came.
    pub at_us: i64,
}

/// A machine of one (rule, group) that is not inactive, to be kept with its alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineState {
    /// Opaque.
    pub bytes: Vec<u8>,
}

/// What a machine became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The condition holds, not yet for long enough.
    Pending,
    /// It held for long enough.
    Firing,
    /// It fired, and holds no longer.
    Resolved,
    /// It was pending, and holds no longer.
    Inactive,
}

/// A change of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The rule, by its place in the set.
    pub rule: usize,
    /// The group or layer; empty: the run.
    pub group: String,
    /// What it became.
    pub phase: Phase,
    /// The segment.
    pub segment: u32,
    /// The step.
    pub step: u64,
    /// The server's time of the step, or of the tick.
    pub at_us: i64,
    /// The newest values of the condition's terms, by their text, for placeholders and evidence.
    pub values: BTreeMap<String, f64>,
}
