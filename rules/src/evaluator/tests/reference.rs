//! What expressions say, computed the slow way from the whole history: no rings, nothing shared, nothing carried along.

use super::made::{Column, MadeStep};
use crate::{
    Hold,
    evaluator::{ActiveRule, Phase},
    language::{Condition, Expression, Family, Function, Number, TermSource, Truth},
};

/// Rule, group, step and phase.
pub(super) type Told = (usize, String, u64, Phase);

/// All changes that rules on expressions make, rule by rule and group by group.
pub(super) fn changes(rules: &[ActiveRule], history: &[MadeStep]) -> Vec<Told> {
    let mut told = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let Condition::Expression(expression) = &*rule.rule.condition else { continue };
        let groups: &[&str] = match expression.family {
            Family::Run => &[""],
            Family::Groups => &["g0", "g1"],
            Family::Layers(_) => &["l0", "l1"],
        };
        for group in groups {
            let takes = match rule.rule.definition.select.group.as_deref() {
                None | Some("*") => true,
                Some("?1") => group.ends_with('1'),
                Some(name) => name == *group,
            };
            if takes || expression.family == Family::Run {
                let phases = phases(rule, &evaluations(rule, expression, group, history));
                told.extend(phases.into_iter().map(|(step, phase)| (place, (*group).to_owned(), step, phase)));
            }
        }
    }
    told
}

/// Step, time, and whether the condition held, of every evaluation in which that is known.
fn evaluations(rule: &ActiveRule, expression: &Expression, group: &str, history: &[MadeStep]) -> Vec<(u64, i64, bool)> {
    let mut known = Vec::new();
    for (index, step) in history.iter().enumerate() {
        let view = View { rule, expression, group, past: &history[..=index] };
        let is_touched = (0..expression.terms.len()).any(|term| step.values[view.column(term) as usize].is_some());
        if is_touched && step.received_at_us >= rule.active_from_us {
            known.extend(view.truth(&expression.truth).map(|holds| (step.step, step.received_at_us, holds)));
        }
    }
    known
}

fn is_enough(hold: Option<Hold>, stretch: &[(u64, i64, bool)]) -> bool {
    let (first, last) = (stretch.first().expect("not empty"), stretch.last().expect("not empty"));
    match hold {
        None => true,
        Some(Hold::Readings(n)) => stretch.len() >= n as usize,
        Some(Hold::Microseconds(time)) => last.1 - first.1 >= time,
    }
}

/// Cuts the evaluations into stretches in which the condition holds and in which it does not.
fn phases(rule: &ActiveRule, evaluations: &[(u64, i64, bool)]) -> Vec<(u64, Phase)> {
    let (hold, keep) = (rule.rule.definition.hold, rule.rule.definition.keep_firing_for);
    let mut told = Vec::new();
    let mut is_firing = false;
    for stretch in evaluations.chunk_by(|one, next| one.2 == next.2) {
        let holds = stretch[0].2;
        let needed = if holds { hold } else { keep };
        let enough = (0..stretch.len()).find(|&end| is_enough(needed, &stretch[..=end]));
        match (holds, is_firing) {
            (true, false) => {
                if enough != Some(0) {
                    told.push((stretch[0].0, Phase::Pending));
                }
                if let Some(at) = enough {
                    told.push((stretch[at].0, Phase::Firing));
                    is_firing = true;
                }
            }
            (false, false) => {
                if matches!(told.last(), Some((_, Phase::Pending))) {
                    told.push((stretch[0].0, Phase::Inactive));
                }
            }
            (true, true) => {}
            (false, true) => {
                if let Some(at) = enough {
                    told.push((stretch[at].0, Phase::Resolved));
                    is_firing = false;
                }
            }
        }
    }
    told
}

struct View<'a> {
    rule: &'a ActiveRule,
    expression: &'a Expression,
    group: &'a str,
    past: &'a [MadeStep],
}

impl View<'_> {
    fn column(&self, term: usize) -> Column {
        let named = |name: &Option<String>| name.clone().unwrap_or_else(|| self.group.to_owned());
        match &self.expression.terms[term].source {
            TermSource::Edge { metric, group, .. } => Column::find(&named(group), metric),
            TermSource::Layer { field, layer, .. } => Column::find(&named(layer), field),
            TermSource::Scalar { name } => Column::find("", name),
        }
    }

    /// Steps and values so far.
    fn values(&self, term: usize) -> Vec<(u64, f64)> {
        let column = self.column(term) as usize;
        self.past.iter().filter_map(|step| Some((step.step, step.values[column]?))).collect()
    }

    fn newest(&self, term: usize) -> Option<f64> {
        let now = self.past.last()?.step;
        let values = self.values(term);
        let &(step, value) = values.last()?;
        let cadence = match (self.column(term).is_stream(), values.len()) {
            (true, _) => 1,
            (false, 1) => 0,
            (false, n) => step - values[n - 2].0,
        };
        (now - step <= self.rule.rule.definition.max_age.unwrap_or(2 * cadence)).then_some(value)
    }

    fn truth(&self, truth: &Truth) -> Option<bool> {
        match truth {
            Truth::Constant(value) => Some(*value),
            Truth::Compare(comparison, left, right) => Some(comparison.holds(self.number(left)?, self.number(right)?)),
            Truth::And(all) => {
                let all: Vec<_> = all.iter().map(|one| self.truth(one)).collect();
                if all.contains(&Some(false)) {
                    Some(false)
                } else if all.contains(&None) {
                    None
                } else {
                    Some(true)
                }
            }
            Truth::Or(all) => {
                let all: Vec<_> = all.iter().map(|one| self.truth(one)).collect();
                if all.contains(&Some(true)) {
                    Some(true)
                } else if all.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
            Truth::Not(inner) => Some(!self.truth(inner)?),
        }
    }

    fn number(&self, number: &Number) -> Option<f64> {
        let value = match number {
            Number::Constant(value) => *value,
            Number::Term(term) => self.newest(*term)?,
            Number::Windowed { function, term, readings } => {
                self.newest(*term)?;
                let values = self.values(*term);
                function_of(*function, &values[values.len().checked_sub(*readings)?..])
            }
            Number::Negate(inner) => -self.number(inner)?,
            Number::Absolute(inner) => self.number(inner)?.abs(),
            Number::Add(left, right) => self.number(left)? + self.number(right)?,
            Number::Subtract(left, right) => self.number(left)? - self.number(right)?,
            Number::Multiply(left, right) => self.number(left)? * self.number(right)?,
            Number::Divide(left, right) => self.number(left)? / self.number(right)?,
        };
        value.is_finite().then_some(value)
    }
}

/// Textbook formulas.
pub(super) fn function_of(function: Function, values: &[(u64, f64)]) -> f64 {
    let n = values.len() as f64;
    let y: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let mut sorted = y.clone();
    sorted.sort_by(f64::total_cmp);
    let mean = |y: &[f64]| y.iter().sum::<f64>() / y.len() as f64;
    let stddev = |y: &[f64]| {
        let squares: f64 = y.iter().map(|value| (value - mean(y)).powi(2)).sum();
        (squares / (y.len() as f64 - 1.0)).sqrt()
    };
    match function {
        Function::Mean => mean(&y),
        Function::Min => sorted[0],
        Function::Max => sorted[y.len() - 1],
        Function::Stddev => stddev(&y),
        Function::Slope => {
            let x: Vec<f64> = values.iter().map(|(step, _)| *step as f64).collect();
            let xy: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
            let (sum_x, sum_y): (f64, f64) = (x.iter().sum(), y.iter().sum());
            let xx: f64 = x.iter().map(|x| x * x).sum();
            (n * xy - sum_x * sum_y) / (n * xx - sum_x * sum_x)
        }
        Function::Zscore => (y[y.len() - 1] - mean(&y[..y.len() - 1])) / stddev(&y[..y.len() - 1]),
        Function::Quantile(q) => {
            let place = (n - 1.0) * q;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (place - place.floor()) * (above - below)
        }
        Function::Delta => y[y.len() - 1] - y[y.len() - 2],
    }
}
