//! When rules fire: a function of the inputs of a run, step by step.
//!
//! > **Invariant: live is backtest.** An evaluator sees steps in the order of the live line, and nothing else: no clock but
//! > the server's times that were stored with the steps. So the same steps give the same changes.

use std::{collections::BTreeMap, sync::Arc};

use gradwatch_store::{LayerKey, StreamKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
    /// Of how many values of any term a function needs the last ones.
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
    /// The stream's kind and window, where it concerns one.
    pub stream: Option<(gradwatch_store::Kind, usize)>,
    /// For a transition.
    pub from: Option<&'a str>,
    /// For a transition.
    pub to: Option<&'a str>,
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

/// The evaluator of one run.
#[derive(Clone, Debug)]
pub struct RunEvaluator {
    rules: Arc<Vec<ActiveRule>>,
}

impl RunEvaluator {
    /// For the rules that select this run; `None` when none does.
    #[must_use]
    pub fn new(_rules: Arc<Vec<ActiveRule>>, _facts: &RunFacts) -> Option<Self> {
        unimplemented!()
    }

    /// What it has to be given.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        unimplemented!()
    }

    /// A step before the first that is to be evaluated: fills the terms' windows and tells nothing.
    pub fn refill(&mut self, _step: &StepInput<'_>) {
        unimplemented!()
    }

    /// Takes up a machine that was not inactive. False when there is no such machine any more: its alert ends.
    pub fn restore(&mut self, _rule: usize, _group: &str, _state: &MachineState) -> bool {
        unimplemented!()
    }

    /// The next step.
    pub fn advance(&mut self, _step: &StepInput<'_>, _changes: &mut Vec<Change>) {
        unimplemented!()
    }

    /// Time passes without a step: only `run.stalled` with a `for` looks at it.
    pub fn tick(&mut self, _now_us: i64, _changes: &mut Vec<Change>) {
        unimplemented!()
    }

    /// The run is over, or its machines are to end for another reason: whatever is pending or firing ends.
    pub fn finish(&mut self, _now_us: i64, _changes: &mut Vec<Change>) {
        unimplemented!()
    }

    /// The machine of a (rule, group) that is pending or firing; what it is goes with its alert.
    #[must_use]
    pub fn state(&self, _rule: usize, _group: &str) -> Option<MachineState> {
        unimplemented!()
    }

    /// The machines whose state has changed since this was asked last without a change of phase.
    pub fn take_touched(&mut self) -> Vec<(usize, String)> {
        unimplemented!()
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[ActiveRule] {
        &self.rules
    }
}
