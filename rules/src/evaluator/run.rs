//! The evaluator of one run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ActiveRule, Change, EventInput, Inputs, MachineState, Phase, RunFacts, StepInput,
    columns::Wanted,
    expression::{Scope, Scratch, SharedCall},
    happenings::{EventRule, Happenings, Key, Said, event_of},
    machine::{Holds, State},
    plan::{self, Machines},
    selection::{RunIndex, takes_run},
    series::Series,
};
use crate::language::{Condition, Expression, Term};

/// The evaluator of one run.
///
/// > **Invariant: what was cut goes on the same.** An evaluator made anew, refilled with the last [`Inputs::look_back`] values of every
/// > column up to a step and with that step, and given the machines' states, gives the same changes from there on as one that has
/// > seen the whole run.
#[derive(Clone, Debug)]
pub struct RunEvaluator {
    rules: Arc<Vec<ActiveRule>>,
    inputs: Inputs,
    series: Vec<Series>,
    calls: Vec<SharedCall>,
    machines: Machines,
    happenings: Happenings,
    /// The newest step.
    last: Option<Place>,
    touched: BTreeSet<Key>,
    scratch: Scratch,
    /// A bit for each machine that is to be evaluated at the step at hand; 0 in between.
    due: Vec<u64>,
}

/// A place on the live line, and a time.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u32,
    step: u64,
    at_us: i64,
}

impl Place {
    fn of(step: &StepInput<'_>) -> Self {
        Self { segment: step.segment, step: step.step, at_us: step.received_at_us }
    }
}

impl RunEvaluator {
    /// For the rules that select this run; `None` when none does, or none of them has anything to look at in it.
    #[must_use]
    pub fn new(rules: Arc<Vec<ActiveRule>>, facts: &RunFacts) -> Option<Self> {
        let run = RunIndex::new(facts);
        let (mut planned, mut wanted, mut events) = (Vec::new(), Wanted::default(), Vec::new());
        for (place, rule) in rules.iter().enumerate() {
            if !takes_run(&rule.rule.definition.select, facts) {
                continue;
            }
            plan::plan(place, rule, &run, &mut planned);
            if let Some(on_event) = EventRule::new(place, rule, &run) {
                on_event.want(rule, &run, &mut wanted);
                events.push(on_event);
            }
        }
        if planned.is_empty() && events.is_empty() {
            return None;
        }
        planned.iter().for_each(|one| one.want(&mut wanted));
        let (inputs, places, series) = wanted.columns(&run);
        let (machines, calls) = Machines::new(&planned, &places);
        let due = vec![0; machines.all.len().div_ceil(64)];
        drop(planned);
        events.shrink_to_fit();
        Some(Self {
            rules,
            inputs,
            series,
            calls,
            machines,
            happenings: Happenings { rules: events, machines: BTreeMap::new() },
            last: None,
            touched: BTreeSet::new(),
            scratch: Scratch::default(),
            due,
        })
    }

    /// What it has to be given.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// How many machines its expressions have: as many evaluations a step may take, and as many changes it may bring.
    #[must_use]
    pub fn machines(&self) -> usize {
        self.machines.all.len()
    }

    /// A step before the first that is to be evaluated: fills the terms' windows and tells nothing. The last of them
    /// has to be the last step that was evaluated, also where nobody asks for a value of it: silence counts from there.
    pub fn refill(&mut self, step: &StepInput<'_>) {
        if !self.is_behind(step) {
            self.push(step);
            self.last = Some(Place::of(step));
        }
    }

    /// Takes up a machine that was not inactive. False when there is no such machine any more: its alert ends.
    pub fn restore(&mut self, rule: usize, group: &str, state: &MachineState) -> bool {
        let Some(state) = State::from_bytes(state) else { return false };
        let Some(active) = self.rules.get(rule) else { return false };
        if let Some(what) = event_of(active) {
            let takes = self.happenings.takes(rule, group, active);
            if takes {
                self.happenings.set((rule, group.to_owned()), state, what, &self.inputs);
            }
            return takes;
        }
        let Some(place) = self.machines.find(rule, group) else { return false };
        self.machines.all[place].state = state;
        true
    }

    /// The next step. A step that is not behind all before brings events only, such as those that happened while no
    /// step came: no term gets a value by it.
    pub fn advance(&mut self, step: &StepInput<'_>, changes: &mut Vec<Change>) {
        let place = Place::of(step);
        if self.is_behind(step) {
            step.events.iter().for_each(|event| self.hear(event, place, changes));
            return;
        }
        self.tick(step.received_at_us, changes);
        self.push(step);
        self.evaluate_touched(step, changes);
        let on_time = |event: &&EventInput<'_>| event.at_us <= step.received_at_us;
        let mut said = BTreeMap::new();
        let other_segment = self.last.is_some_and(|last| last.segment != step.segment);
        let has_value = |column: u32| value(step, column as usize).is_some();
        self.happenings.stepped(&self.rules, has_value, other_segment, step.received_at_us, &mut said);
        self.happenings.heard(&self.rules, step.events.iter().filter(on_time), &mut said);
        self.settle(said, place, changes);
        self.last = Some(place);
        // What the server noticed after it had the step is looked at after the step, one by one, as it is when it comes alone.
        step.events.iter().filter(|event| !on_time(event)).for_each(|event| self.hear(event, place, changes));
    }

    /// Something that happened behind the newest step, and before the next. Before the first step it is told of step 0 of its
    /// segment, which does not make that a step.
    pub fn happened(&mut self, segment: u32, event: &EventInput<'_>, changes: &mut Vec<Change>) {
        let place = self.last.unwrap_or(Place { segment, step: 0, at_us: event.at_us });
        self.hear(event, place, changes);
    }

    /// Time passes without a step: only `run.stalled` with a `for` looks at it. It fires at the time at which the silence was
    /// long enough, however late this is called.
    pub fn tick(&mut self, now_us: i64, changes: &mut Vec<Change>) {
        self.tick_hearing_since(i64::MIN, now_us, changes);
    }

    /// The same where no step could be heard of before `since_us`: until then silence was not the run's.
    pub fn tick_hearing_since(&mut self, since_us: i64, now_us: i64, changes: &mut Vec<Change>) {
        let Some(last) = self.last else { return };
        let heard_us = last.at_us.max(since_us);
        let mut said = BTreeMap::new();
        for rule in &self.happenings.rules {
            let Some(silence_us) = rule.silence_us else { continue };
            let since_us = self.rules.get(rule.rule).map_or(heard_us, |it| it.active_from_us.max(heard_us));
            let at_us = since_us.saturating_add(silence_us);
            if at_us <= now_us {
                said.insert((rule.rule, String::new()), Said { condition: true, at_us });
            }
        }
        self.settle(said, last, changes);
    }

    /// The run is over, or its machines are to end for another reason: whatever is pending or firing ends.
    pub fn finish(&mut self, now_us: i64, changes: &mut Vec<Change>) {
        self.tick(now_us, changes);
        let at = Place { at_us: now_us, ..self.last.unwrap_or(Place { segment: 0, step: 0, at_us: now_us }) };
        let rules = Arc::clone(&self.rules);
        for place in 0..self.machines.all.len() {
            let machine = &self.machines.all[place];
            if let Some(phase) = machine.state.end() {
                let (rule, group) = (machine.rule as usize, self.machines.group_of(machine).to_owned());
                let values = self.values(&rules, place, at.step);
                changes.push(change(rule, group, phase, at, values));
                self.machines.all[place].state = State::Inactive;
            }
        }
        for ((rule, group), machine) in std::mem::take(&mut self.happenings.machines) {
            if let Some(phase) = machine.state.end() {
                changes.push(change(rule, group, phase, at, BTreeMap::new()));
            }
        }
        self.touched.clear();
    }

    /// The machine of a (rule, group) that is pending or firing; what it is goes with its alert.
    #[must_use]
    pub fn state(&self, rule: usize, group: &str) -> Option<MachineState> {
        match self.machines.find(rule, group) {
            Some(place) => self.machines.all[place].state,
            None => self.happenings.state(&(rule, group.to_owned())),
        }
        .to_bytes()
    }

    /// The machines whose state has changed since this was asked last without a change of phase.
    pub fn take_touched(&mut self) -> Vec<(usize, String)> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter(|(rule, group)| self.state(*rule, group).is_some()).collect()
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[ActiveRule] {
        &self.rules
    }

    fn is_behind(&self, step: &StepInput<'_>) -> bool {
        // Segments are numbered as they were opened first, which need not be their order on the line.
        self.last.is_some_and(|last| step.segment == last.segment && step.step <= last.step)
    }

    fn push(&mut self, step: &StepInput<'_>) {
        for (column, series) in self.series.iter_mut().enumerate() {
            if let Some(value) = value(step, column) {
                series.push(step.step, value);
            }
        }
    }

    /// Evaluates the machines that look at one of the values of a step, in their order. Machines that look at none of them cost
    /// nothing but a bit.
    fn evaluate_touched(&mut self, step: &StepInput<'_>, changes: &mut Vec<Change>) {
        let (rules, mut due, at) = (Arc::clone(&self.rules), std::mem::take(&mut self.due), Place::of(step));
        for column in (0..self.series.len()).filter(|column| value(step, *column).is_some()) {
            for &machine in self.machines.touched_by(column) {
                due[machine as usize / 64] |= 1 << (machine % 64);
            }
        }
        for (word, bits) in due.iter_mut().enumerate() {
            while *bits != 0 {
                self.evaluate(&rules, 64 * word + bits.trailing_zeros() as usize, at, changes);
                *bits &= *bits - 1;
            }
        }
        self.due = due;
    }

    fn evaluate(&mut self, rules: &[ActiveRule], place: usize, at: Place, changes: &mut Vec<Change>) {
        let rule_place = self.machines.all[place].rule as usize;
        let rule = &rules[rule_place];
        if at.at_us < rule.active_from_us {
            return;
        }
        let Condition::Expression(expression) = &*rule.rule.condition else { return };
        let Some(condition) = self.scope(place, rule, at.step).truth(&expression.truth) else { return };
        let definition = &rule.rule.definition;
        let holds = Holds { hold: definition.hold, keep: definition.keep_firing_for };
        let before = self.machines.all[place].state;
        let (state, phase) = before.after(condition, holds, at.at_us);
        if state == before {
            return;
        }
        self.machines.all[place].state = state;
        let group = self.machines.group_of(&self.machines.all[place]).to_owned();
        match phase {
            Some(phase) => changes.push(change(rule_place, group, phase, at, self.values(rules, place, at.step))),
            None => {
                self.touched.insert((rule_place, group));
            }
        }
    }

    fn scope(&mut self, place: usize, rule: &ActiveRule, step: u64) -> Scope<'_> {
        let machine = &self.machines.all[place];
        Scope {
            series: &self.series,
            calls: &mut self.calls,
            scratch: &mut self.scratch,
            columns: self.machines.columns_of(machine),
            shared: self.machines.shared_of(machine),
            step,
            max_age: rule.rule.definition.max_age,
        }
    }

    /// The values of an expression's terms that are not too old.
    fn values(&mut self, rules: &[ActiveRule], place: usize, step: u64) -> BTreeMap<String, f64> {
        let rule = &rules[self.machines.all[place].rule as usize];
        let Condition::Expression(Expression { terms, .. }) = &*rule.rule.condition else { return BTreeMap::new() };
        let scope = self.scope(place, rule, step);
        let value = |(place, term): (usize, &Term)| Some((term.to_string(), scope.term(place)?));
        terms.iter().enumerate().filter_map(value).collect()
    }

    fn hear(&mut self, event: &EventInput<'_>, place: Place, changes: &mut Vec<Change>) {
        let mut said = BTreeMap::new();
        self.happenings.heard(&self.rules, std::iter::once(event), &mut said);
        self.settle(said, place, changes);
    }

    /// Lets the machines of rules on events know what was said of them.
    fn settle(&mut self, said: BTreeMap<Key, Said>, place: Place, changes: &mut Vec<Change>) {
        for (key, Said { condition, at_us }) in said {
            let (Some(rule), Some(active)) = (self.happenings.rule(key.0), self.rules.get(key.0)) else { continue };
            let Some(what) = event_of(active) else { continue };
            if at_us < active.active_from_us {
                continue;
            }
            let before = self.happenings.state(&key);
            let (state, phase) = before.after(condition, rule.holds, at_us);
            match phase {
                Some(phase) => {
                    changes.push(change(key.0, key.1.clone(), phase, Place { at_us, ..place }, BTreeMap::new()));
                }
                None if state != before => {
                    self.touched.insert(key.clone());
                }
                None => continue,
            }
            self.happenings.set(key, state, what, &self.inputs);
        }
    }
}

fn value(step: &StepInput<'_>, column: usize) -> Option<f64> {
    step.values.get(column).copied().flatten().filter(|value| value.is_finite())
}

fn change(rule: usize, group: String, phase: Phase, at: Place, values: BTreeMap<String, f64>) -> Change {
    Change { rule, group, phase, segment: at.segment, step: at.step, at_us: at.at_us, values }
}
