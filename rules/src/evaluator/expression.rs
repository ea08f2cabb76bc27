//! What an expression says at a step. Bounded: a tree is as deep and as large as the parser lets it be, and a function
//! looks at as many values as it says.

use super::{functions, series::Series};
use crate::language::{Function, Number, Truth};

/// The place of a column that the run does not have.
pub(super) const NO_COLUMN: u32 = u32::MAX;

/// A function of a column that more than one rule or group asks for: computed once for each new value.
#[derive(Clone, Debug)]
pub(super) struct SharedCall {
    pub(super) function: Function,
    pub(super) column: u32,
    pub(super) readings: u32,
    /// The step of the column's newest value when `result` was computed.
    at_step: Option<u64>,
    result: f64,
}

impl SharedCall {
    pub(super) fn new(function: Function, column: u32, readings: u32) -> Self {
        Self { function, column, readings, at_step: None, result: f64::NAN }
    }
}

/// Vectors to work in.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    values: Vec<f64>,
    steps: Vec<f64>,
}

/// What an expression is evaluated with.
pub(super) struct Scope<'a> {
    pub(super) series: &'a [Series],
    pub(super) calls: &'a mut [SharedCall],
    pub(super) scratch: &'a mut Scratch,
    /// The columns of the expression's terms.
    pub(super) columns: &'a [u32],
    /// Which of `calls` it makes.
    pub(super) shared: &'a [u32],
    pub(super) step: u64,
    pub(super) max_age: Option<u64>,
}

impl Scope<'_> {
    /// Kleene's logic: what is known decides where it can.
    pub(super) fn truth(&mut self, truth: &Truth) -> Option<bool> {
        match truth {
            Truth::Constant(value) => Some(*value),
            Truth::Compare(comparison, left, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                Some(comparison.holds(left, right))
            }
            Truth::And(all) => self.decided(all, false),
            Truth::Or(all) => self.decided(all, true),
            Truth::Not(inner) => self.truth(inner).map(|value| !value),
        }
    }

    /// `deciding` when one says so, unknown when none does and one is unknown, else its opposite.
    fn decided(&mut self, all: &[Truth], deciding: bool) -> Option<bool> {
        let mut result = Some(!deciding);
        for one in all {
            match self.truth(one) {
                Some(value) if value == deciding => return Some(deciding),
                Some(_) => {}
                None => result = None,
            }
        }
        result
    }

    fn number(&mut self, number: &Number) -> Option<f64> {
        let value = match number {
            Number::Constant(value) => *value,
            Number::Term(term) => return self.term(*term),
            Number::Windowed { function, term, readings } => self.windowed(*function, *term, *readings)?,
            Number::Negate(inner) => -self.number(inner)?,
            Number::Absolute(inner) => self.number(inner)?.abs(),
            Number::Add(left, right) => self.number(left)? + self.number(right)?,
            Number::Subtract(left, right) => self.number(left)? - self.number(right)?,
            Number::Multiply(left, right) => self.number(left)? * self.number(right)?,
            Number::Divide(left, right) => self.number(left)? / self.number(right)?,
        };
        value.is_finite().then_some(value)
    }

    /// The newest value of a term, by its place in the expression.
    pub(super) fn term(&self, term: usize) -> Option<f64> {
        self.column(term)?.newest(self.step, self.max_age)
    }

    fn column(&self, term: usize) -> Option<&Series> {
        self.series.get(*self.columns.get(term)? as usize)
    }

    fn windowed(&mut self, function: Function, term: usize, readings: usize) -> Option<f64> {
        self.term(term)?;
        let column = *self.columns.get(term)?;
        let series = self.series.get(column as usize)?;
        let is_it = |call: &SharedCall| {
            call.column == column && call.readings as usize == readings && call.function == function
        };
        let place = self.shared.iter().map(|place| *place as usize).find(|place| is_it(&self.calls[*place]));
        let Some(place) = place else { return Some(self.scratch.compute(function, series, readings)) };
        let call = &mut self.calls[place];
        if call.at_step != series.newest_step() {
            call.at_step = series.newest_step();
            call.result = self.scratch.compute(function, series, readings);
        }
        Some(call.result)
    }
}

impl Scratch {
    /// NaN where there are too few values, or it is undefined.
    fn compute(&mut self, function: Function, series: &Series, readings: usize) -> f64 {
        let Self { values, steps } = self;
        if !series.last_values(readings, values) {
            return f64::NAN;
        }
        match function {
            Function::Mean => functions::mean(values),
            Function::Min => functions::min(values),
            Function::Max => functions::max(values),
            Function::Stddev => functions::stddev(values),
            Function::Slope => {
                if series.last_steps(readings, steps) {
                    functions::slope(steps, values)
                } else {
                    f64::NAN
                }
            }
            Function::Zscore => functions::zscore(values),
            Function::Quantile(q) => functions::quantile(values, q),
            Function::Delta => match values[..] {
                [.., before, newest] => newest - before,
                _ => f64::NAN,
            },
        }
    }
}

/// Every function call of an expression: function, place of the term, readings.
pub(super) fn calls(truth: &Truth, found: &mut impl FnMut(Function, usize, usize)) {
    match truth {
        Truth::Constant(_) => {}
        Truth::Compare(_, left, right) => {
            calls_in(left, found);
            calls_in(right, found);
        }
        Truth::And(all) | Truth::Or(all) => all.iter().for_each(|one| calls(one, found)),
        Truth::Not(inner) => calls(inner, found),
    }
}

fn calls_in(number: &Number, found: &mut impl FnMut(Function, usize, usize)) {
    match number {
        Number::Constant(_) | Number::Term(_) => {}
        Number::Windowed { function, term, readings } => found(*function, *term, *readings),
        Number::Negate(inner) | Number::Absolute(inner) => calls_in(inner, found),
        Number::Add(left, right)
        | Number::Subtract(left, right)
        | Number::Multiply(left, right)
        | Number::Divide(left, right) => {
            calls_in(left, found);
            calls_in(right, found);
        }
    }
}
