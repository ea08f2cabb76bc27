//! Conditions as text. What is printed parses to the same condition.

use std::fmt::{self, Display, Formatter};

use super::condition::{Comparison, Condition, EventCondition, Expression, Function, Number, Term, TermSource, Truth};

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => event.fmt(f),
            Self::Expression(expression) => expression.fmt(f),
        }
    }
}

impl Display for EventCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transition { from: None, to } => write!(f, "transition to {to}"),
            Self::Transition { from: Some(from), to } => write!(f, "transition from {from} to {to}"),
            Self::Stalled => f.write_str("run.stalled"),
            Self::Crashed => f.write_str("run.crashed"),
            Self::Happened(event) => f.write_str(event),
        }
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        truth(&self.truth, &self.terms, 0, f)
    }
}

/// The text of a term identifies it: two terms of a rule never have the same.
impl Display for Term {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Display for TermSource {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Edge { metric, group, kind, window } => {
                let instrument = if *metric == "norm_z" { "update" } else { "edge" };
                write!(f, "{instrument}.{metric}")?;
                let group = group.as_ref().map(|group| format!("group={}", Quoted(group)));
                let kind = kind.map(|kind| format!("kind=\"{}\"", kind.as_str()));
                let window = window.map(|window| format!("window={window}"));
                let given: Vec<String> = [group, kind, window].into_iter().flatten().collect();
                if given.is_empty() { Ok(()) } else { write!(f, "{{{}}}", given.join(", ")) }
            }
            Self::Layer { instrument, field, layer: None } => write!(f, "{instrument}.{field}"),
            Self::Layer { instrument, field, layer: Some(layer) } => {
                write!(f, "{instrument}.{field}{{layer={}}}", Quoted(layer))
            }
            Self::Scalar { name } => {
                let is_plain = |part: &str| {
                    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                };
                if name.split('.').all(is_plain) {
                    write!(f, "scalar.{name}")
                } else {
                    write!(f, "scalar.{}", Quoted(name))
                }
            }
        }
    }
}

/// A text in quotation marks.
struct Quoted<'t>(&'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

impl Comparison {
    /// The sign.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }
}

// How strongly things bind, from weak to strong.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MULTIPLY: u8 = 6;
const NEGATE: u8 = 7;
const ATOM: u8 = 8;

fn open(needed: bool, f: &mut Formatter<'_>) -> fmt::Result {
    if needed { f.write_str("(") } else { Ok(()) }
}

fn close(needed: bool, f: &mut Formatter<'_>) -> fmt::Result {
    if needed { f.write_str(")") } else { Ok(()) }
}

/// Writes a truth, in parentheses where it binds less strongly than `least`.
fn truth(it: &Truth, terms: &[Term], least: u8, f: &mut Formatter<'_>) -> fmt::Result {
    let binds = match it {
        Truth::Constant(_) => ATOM,
        Truth::Compare(..) => COMPARE,
        Truth::And(_) => AND,
        Truth::Or(_) => OR,
        Truth::Not(_) => NOT,
    };
    open(binds < least, f)?;
    match it {
        Truth::Constant(value) => write!(f, "{value}")?,
        Truth::Compare(comparison, left, right) => {
            number(left, terms, ADD, f)?;
            write!(f, " {} ", comparison.as_str())?;
            number(right, terms, ADD, f)?;
        }
        Truth::And(parts) => joined(parts, " and ", terms, NOT, f)?,
        Truth::Or(parts) => joined(parts, " or ", terms, AND, f)?,
        Truth::Not(inner) => {
            f.write_str("not ")?;
            truth(inner, terms, NOT, f)?;
        }
    }
    close(binds < least, f)
}

fn joined(parts: &[Truth], by: &str, terms: &[Term], least: u8, f: &mut Formatter<'_>) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(by)?;
        }
        truth(part, terms, least, f)?;
    }
    Ok(())
}

/// Writes a number, in parentheses where it binds less strongly than `least`.
fn number(it: &Number, terms: &[Term], least: u8, f: &mut Formatter<'_>) -> fmt::Result {
    let binds = match it {
        Number::Constant(value) if value.is_sign_negative() => NEGATE,
        Number::Constant(_) | Number::Term(_) | Number::Windowed { .. } | Number::Absolute(_) => ATOM,
        Number::Negate(_) => NEGATE,
        Number::Add(..) | Number::Subtract(..) => ADD,
        Number::Multiply(..) | Number::Divide(..) => MULTIPLY,
    };
    let mut infix = |left: &Number, sign: &str, right: &Number| {
        open(binds < least, f)?;
        number(left, terms, binds, f)?;
        write!(f, " {sign} ")?;
        number(right, terms, binds + 1, f)?;
        close(binds < least, f)
    };
    match it {
        Number::Add(left, right) => infix(left, "+", right),
        Number::Subtract(left, right) => infix(left, "-", right),
        Number::Multiply(left, right) => infix(left, "*", right),
        Number::Divide(left, right) => infix(left, "/", right),
        // Shortest digits that read back as the same number.
        Number::Constant(value) => write!(f, "{value:?}"),
        Number::Term(term) => terms[*term].fmt(f),
        Number::Windowed { function, term, readings } => windowed(*function, &terms[*term], *readings, f),
        Number::Negate(inner) => {
            f.write_str("-")?;
            number(inner, terms, NEGATE, f)
        }
        Number::Absolute(inner) => {
            f.write_str("abs(")?;
            number(inner, terms, ADD, f)?;
            f.write_str(")")
        }
    }
}

fn windowed(function: Function, term: &Term, readings: usize, f: &mut Formatter<'_>) -> fmt::Result {
    let name = match function {
        Function::Mean => "mean",
        Function::Min => "min",
        Function::Max => "max",
        Function::Stddev => "stddev",
        Function::Slope => "slope",
        Function::Zscore => "zscore",
        Function::Quantile(q) => return write!(f, "quantile({term}, {q:?}, {readings})"),
        Function::Delta => return write!(f, "delta({term})"),
    };
    write!(f, "{name}({term}, {readings})")
}
