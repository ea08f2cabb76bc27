//! Which machines the expressions of a run's rules have, and what they look at.

use std::{cmp::Ordering, collections::BTreeMap};

use gradwatch_store::LayerKey;

use super::{
    ActiveRule,
    columns::{Source, Wanted},
    expression::{self, NO_COLUMN, SharedCall},
    machine::State,
    selection::{GroupFilter, RunIndex},
};
use crate::language::{Condition, Expression, Family, Function, TermSource};

/// The machine of one (rule, group).
#[derive(Clone, Debug)]
pub(super) struct ExpressionMachine {
    pub(super) rule: u32,
    /// Its place among the names.
    group: u32,
    /// Where its columns, and its shared calls, lie among those of all machines.
    columns: (u32, u32),
    shared: (u32, u32),
    pub(super) state: State,
}

/// An expression of a rule for one group, with what its terms mean there; none where the run does not have it.
pub(super) struct Planned<'a> {
    rule: usize,
    group: &'a str,
    expression: &'a Expression,
    sources: Vec<Option<Source>>,
}

/// What a rule is evaluated for, group by group.
pub(super) fn plan<'a>(
    place: usize,
    rule: &'a ActiveRule,
    filter: &GroupFilter,
    run: &RunIndex<'a>,
    planned: &mut Vec<Planned<'a>>,
) {
    let Condition::Expression(expression) = &*rule.rule.condition else { return };
    let names = match expression.family {
        Family::Run => [""].into(),
        Family::Groups => run.groups(),
        Family::Layers(instrument) => run.layers_of(instrument),
    };
    for group in names {
        if expression.family != Family::Run && !filter.takes(group) {
            continue;
        }
        let sources: Vec<_> = expression.terms.iter().map(|term| source(&term.source, rule, group, run)).collect();
        // Named terms alone are no reason: they are the same for all groups.
        let there = |(term, source): (&crate::language::Term, &Option<Source>)| {
            source.is_some() && (expression.family == Family::Run || names_none(&term.source))
        };
        if expression.terms.iter().zip(&sources).any(there) {
            planned.push(Planned { rule: place, group, expression, sources });
        }
    }
}

fn names_none(source: &TermSource) -> bool {
    match source {
        TermSource::Edge { group, .. } => group.is_none(),
        TermSource::Layer { layer, .. } => layer.is_none(),
        TermSource::Scalar { .. } => false,
    }
}

fn source(source: &TermSource, rule: &ActiveRule, evaluated: &str, run: &RunIndex<'_>) -> Option<Source> {
    let source = match source {
        TermSource::Edge { metric, group, kind, window } => {
            let group = group.as_deref().unwrap_or(evaluated);
            Source::Stream(run.stream(&rule.rule.definition.select, group, *kind, *window), metric)
        }
        TermSource::Layer { instrument, field, layer } => {
            let layer = layer.as_deref().unwrap_or(evaluated).to_owned();
            Source::Layer(LayerKey { instrument: *instrument, layer }, field)
        }
        TermSource::Scalar { name } => Source::Scalar(name.clone()),
    };
    run.has(&source).then_some(source)
}

impl Planned<'_> {
    /// Tells what it needs the last values of.
    pub(super) fn want(&self, wanted: &mut Wanted) {
        for (term, source) in self.expression.terms.iter().zip(&self.sources) {
            if let Some(source) = source {
                wanted.add(source, term.readings, 0);
            }
        }
        expression::calls(&self.expression.truth, &mut |function, term, readings| {
            if let Some(Some(source)) = self.sources.get(term) {
                let steps = if function == Function::Slope { readings } else { 0 };
                wanted.add(source, readings, steps);
            }
        });
    }
}

/// All machines of a run, sorted by rule and name of the group.
#[derive(Clone, Debug, Default)]
pub(super) struct Machines {
    pub(super) all: Vec<ExpressionMachine>,
    names: Vec<Box<str>>,
    columns: Vec<u32>,
    shared: Vec<u32>,
    /// Behind the column's own place: where its part of `touched` ends.
    touched_ends: Vec<u32>,
    /// Machines by the columns that they look at.
    touched: Vec<u32>,
}

impl Machines {
    /// Binds what was planned to the columns, and finds the calls that are made more than once.
    pub(super) fn new(planned: &[Planned<'_>], places: &BTreeMap<&Source, u32>) -> (Self, Vec<SharedCall>) {
        let mut machines = Self::default();
        let (names, counts) = (names(planned), count_calls(planned, places));
        let mut calls: Vec<SharedCall> = Vec::new();
        let mut call_places: BTreeMap<CallKey, u32> = BTreeMap::new();
        for one in planned {
            let first_column = machines.columns.len() as u32;
            machines.columns.extend(one.sources.iter().map(|source| column(source.as_ref(), places)));
            let first_shared = machines.shared.len();
            expression::calls(&one.expression.truth, &mut |function, term, readings| {
                let column = column(one.sources.get(term).and_then(Option::as_ref), places);
                let key = call_key(function, column, readings);
                if column == NO_COLUMN || counts.get(&key).is_none_or(|count| *count < 2) {
                    return;
                }
                let place = *call_places.entry(key).or_insert_with(|| {
                    calls.push(SharedCall::new(function, column, readings as u32));
                    (calls.len() - 1) as u32
                });
                if !machines.shared[first_shared..].contains(&place) {
                    machines.shared.push(place);
                }
            });
            machines.all.push(ExpressionMachine {
                rule: one.rule as u32,
                group: names[one.group],
                columns: (first_column, machines.columns.len() as u32),
                shared: (first_shared as u32, machines.shared.len() as u32),
                state: State::default(),
            });
        }
        machines.names = names.into_keys().map(Into::into).collect();
        machines.index(places.len());
        machines.shrink();
        calls.shrink_to_fit();
        (machines, calls)
    }

    fn index(&mut self, columns: usize) {
        let mut by_column: Vec<Vec<u32>> = vec![Vec::new(); columns];
        for (place, machine) in self.all.iter().enumerate() {
            for &column in self.columns_of(machine) {
                if let Some(machines) = by_column.get_mut(column as usize)
                    && machines.last() != Some(&(place as u32))
                {
                    machines.push(place as u32);
                }
            }
        }
        for machines in by_column {
            self.touched.extend(machines);
            self.touched_ends.push(self.touched.len() as u32);
        }
    }

    fn shrink(&mut self) {
        self.all.shrink_to_fit();
        self.columns.shrink_to_fit();
        self.shared.shrink_to_fit();
        self.touched.shrink_to_fit();
        self.touched_ends.shrink_to_fit();
    }

    /// Columns of the machine's terms.
    pub(super) fn columns_of(&self, machine: &ExpressionMachine) -> &[u32] {
        &self.columns[machine.columns.0 as usize..machine.columns.1 as usize]
    }

    /// Shared calls that it makes.
    pub(super) fn shared_of(&self, machine: &ExpressionMachine) -> &[u32] {
        &self.shared[machine.shared.0 as usize..machine.shared.1 as usize]
    }

    /// Its group.
    pub(super) fn group_of(&self, machine: &ExpressionMachine) -> &str {
        &self.names[machine.group as usize]
    }

    /// Machines that look at a column.
    pub(super) fn touched_by(&self, column: usize) -> &[u32] {
        let start = if column == 0 { 0 } else { self.touched_ends[column - 1] };
        &self.touched[start as usize..self.touched_ends[column] as usize]
    }

    /// The place of the machine of a rule and group.
    pub(super) fn find(&self, rule: usize, group: &str) -> Option<usize> {
        let order = |it: &ExpressionMachine| match (it.rule as usize).cmp(&rule) {
            Ordering::Equal => self.group_of(it).cmp(group),
            other => other,
        };
        self.all.binary_search_by(order).ok()
    }
}

fn names<'a>(planned: &[Planned<'a>]) -> BTreeMap<&'a str, u32> {
    let mut names: BTreeMap<&str, u32> = planned.iter().map(|one| (one.group, 0)).collect();
    names.values_mut().zip(0..).for_each(|(place, next)| *place = next);
    names
}

fn column(source: Option<&Source>, places: &BTreeMap<&Source, u32>) -> u32 {
    source.and_then(|source| places.get(source)).copied().unwrap_or(NO_COLUMN)
}

/// Function with its parameter as bits, column, readings.
type CallKey = (u8, u64, u32, usize);

fn call_key(function: Function, column: u32, readings: usize) -> CallKey {
    let (kind, parameter) = match function {
        Function::Mean => (0, 0.0),
        Function::Min => (1, 0.0),
        Function::Max => (2, 0.0),
        Function::Stddev => (3, 0.0),
        Function::Slope => (4, 0.0),
        Function::Zscore => (5, 0.0),
        Function::Quantile(q) => (6, q),
        Function::Delta => (7, 0.0),
    };
    (kind, parameter.to_bits(), column, readings)
}

fn count_calls(planned: &[Planned<'_>], places: &BTreeMap<&Source, u32>) -> BTreeMap<CallKey, u32> {
    let mut counts = BTreeMap::new();
    for one in planned {
        expression::calls(&one.expression.truth, &mut |function, term, readings| {
            let column = column(one.sources.get(term).and_then(Option::as_ref), places);
            *counts.entry(call_key(function, column, readings)).or_default() += 1;
        });
    }
    counts
}
