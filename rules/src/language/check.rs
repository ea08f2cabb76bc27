//! From a tree of words to a condition: names are looked up, types checked, constants computed.

use super::{
    condition::{Expression, Family, Function, Number, Term, TermSource, Truth},
    fault::Fault,
    names,
    token::{Name, shown},
    tree::{Node, NodeKind, Operator},
};

/// How many readings a windowed function may look at.
pub const READINGS: std::ops::RangeInclusive<usize> = 2..=1_000;

/// Checks an expression; `text` is what it was parsed from.
pub(super) fn check(node: &Node, text: &str) -> Result<Expression, Fault> {
    let mut checker = Checker { text, terms: Vec::new(), places: Vec::new() };
    let truth = checker.truth(node, "a condition")?;
    if let Some(always) = constant(&truth) {
        let message = format!("is always {always}, whatever a run does; a condition looks at readings or scalars");
        return Err(Fault::new(node.span.start, message));
    }
    let family = checker.family()?;
    Ok(Expression { text: text.trim().to_owned(), terms: checker.terms, truth, family })
}

struct Checker<'t> {
    text: &'t str,
    terms: Vec<Term>,
    /// Where each term stands first.
    places: Vec<usize>,
}

impl Checker<'_> {
    fn excerpt(&self, node: &Node) -> String {
        shown(self.text.get(node.span.clone()).unwrap_or_default())
    }

    /// `whose` needs it.
    fn truth(&mut self, node: &Node, whose: &str) -> Result<Truth, Fault> {
        Ok(match &node.kind {
            NodeKind::Truth(value) => Truth::Constant(*value),
            NodeKind::Not(inner) => Truth::Not(Box::new(self.truth(inner, "`not`")?)),
            NodeKind::And(parts) => Truth::And(self.truths(parts, "`and`")?),
            NodeKind::Or(parts) => Truth::Or(self.truths(parts, "`or`")?),
            NodeKind::Compare(comparison, left, right) => {
                let whose = format!("`{}`", comparison.as_str());
                let (left, right) = (self.number(left, &whose)?, self.number(right, &whose)?);
                match (&left, &right) {
                    (Number::Constant(left), Number::Constant(right)) => {
                        Truth::Constant(comparison.holds(*left, *right))
                    }
                    _ => Truth::Compare(*comparison, left, right),
                }
            }
            NodeKind::Metric(..)
            | NodeKind::Number(_)
            | NodeKind::Call(..)
            | NodeKind::Negate(_)
            | NodeKind::Arithmetic(..) => {
                // What is wrong within it is worse than a number in the wrong place.
                self.number(node, whose)?;
                return Err(self.not_a_truth(node, whose));
            }
        })
    }

    fn truths(&mut self, parts: &[Node], whose: &str) -> Result<Vec<Truth>, Fault> {
        parts.iter().map(|part| self.truth(part, whose)).collect()
    }

    fn not_a_truth(&self, node: &Node, whose: &str) -> Fault {
        let it = self.excerpt(node);
        let message =
            format!("{whose} needs what is true or false, and `{it}` is a number; compare it, such as `{it} > 1`");
        Fault::new(node.span.start, message)
    }

    /// `whose` needs it.
    fn number(&mut self, node: &Node, whose: &str) -> Result<Number, Fault> {
        let number = match &node.kind {
            NodeKind::Number(value) => Number::Constant(*value),
            NodeKind::Metric(name, qualifiers) => {
                let source = names::resolve(name, node.span.start, qualifiers)?;
                Number::Term(self.term(source, 1, node.span.start))
            }
            NodeKind::Negate(inner) => match self.number(inner, "`-`")? {
                Number::Constant(value) => Number::Constant(-value),
                other => Number::Negate(Box::new(other)),
            },
            NodeKind::Arithmetic(operator, left, right) => {
                let whose = format!("`{}`", operator.as_str());
                let (left_number, right_number) = (self.number(left, &whose)?, self.number(right, &whose)?);
                if *operator == Operator::Divide && right_number == Number::Constant(0.0) {
                    return Err(Fault::new(right.span.start, format!("divides by zero: `{}`", self.excerpt(node))));
                }
                return combined(*operator, left_number, right_number).ok_or_else(|| {
                    Fault::new(node.span.start, format!("`{}` is no finite number", self.excerpt(node)))
                });
            }
            NodeKind::Call(name, arguments) => self.call(name, arguments, node)?,
            NodeKind::Truth(_) | NodeKind::Not(_) | NodeKind::Compare(..) | NodeKind::And(_) | NodeKind::Or(_) => {
                let compares = ["`<`", "`<=`", "`>`", "`>=`", "`==`", "`!=`"].contains(&whose);
                let hint = if compares && matches!(node.kind, NodeKind::Compare(..)) {
                    "; join comparisons with `and`"
                } else {
                    ""
                };
                let message = format!("{whose} needs a number, and `{}` is true or false{hint}", self.excerpt(node));
                return Err(Fault::new(node.span.start, message));
            }
        };
        Ok(number)
    }

    fn call(&mut self, name: &Name, arguments: &[Node], node: &Node) -> Result<Number, Fault> {
        let text = name.text.as_str();
        let wrong_count = || {
            let given = arguments.len();
            let plural = if given == 1 { "" } else { "s" };
            let message = format!("`{text}` was given {given} argument{plural}; write {}", names::usage(text));
            Err(Fault::new(node.span.start, message))
        };
        match (text, arguments) {
            ("abs", [of]) => Ok(match self.number(of, "`abs`")? {
                Number::Constant(value) => Number::Constant(value.abs()),
                other => Number::Absolute(Box::new(other)),
            }),
            ("delta", [of]) => self.windowed(Function::Delta, of, 2, text),
            ("quantile", [of, q, readings]) => {
                let q = self.quantile(q)?;
                let readings = self.readings(readings, text)?;
                self.windowed(Function::Quantile(q), of, readings, text)
            }
            (_, [of, readings]) if names::windowed(text).is_some() => {
                let readings = self.readings(readings, text)?;
                match names::windowed(text) {
                    Some(function) => self.windowed(function, of, readings, text),
                    None => wrong_count(),
                }
            }
            _ if names::FUNCTIONS.contains(&text) => wrong_count(),
            _ => Err(Fault::new(node.span.start, names::unknown_function(name))),
        }
    }

    fn windowed(&mut self, function: Function, of: &Node, readings: usize, name: &str) -> Result<Number, Fault> {
        let NodeKind::Metric(metric, qualifiers) = &of.kind else {
            let message = format!("`{name}` looks at the readings of one metric, not of `{}`", self.excerpt(of));
            return Err(Fault::new(of.span.start, message));
        };
        let source = names::resolve(metric, of.span.start, qualifiers)?;
        Ok(Number::Windowed { function, term: self.term(source, readings, of.span.start), readings })
    }

    fn quantile(&mut self, node: &Node) -> Result<f64, Fault> {
        match self.number(node, "`quantile`")? {
            Number::Constant(q) if (0.0..=1.0).contains(&q) => Ok(q),
            _ => Err(Fault::new(node.span.start, format!("q is a number from 0 to 1, not `{}`", self.excerpt(node)))),
        }
    }

    fn readings(&mut self, node: &Node, function: &str) -> Result<usize, Fault> {
        // The newest reading is measured by those before it, whose standard deviation takes two.
        let least = if function == "zscore" { 3 } else { *READINGS.start() };
        let most = *READINGS.end();
        match self.number(node, &format!("`{function}`"))? {
            Number::Constant(n) if n.fract() == 0.0 && n >= least as f64 && n <= most as f64 => Ok(n as usize),
            _ => {
                let it = self.excerpt(node);
                let message = format!("n of `{function}` is a whole number of readings, {least} to {most}, not `{it}`");
                Err(Fault::new(node.span.start, message))
            }
        }
    }

    /// The place of a term, which may be there already.
    fn term(&mut self, source: TermSource, readings: usize, at: usize) -> usize {
        if let Some(index) = self.terms.iter().position(|term| term.source == source) {
            self.terms[index].readings = self.terms[index].readings.max(readings);
            return index;
        }
        self.terms.push(Term { source, readings });
        self.places.push(at);
        self.terms.len() - 1
    }

    /// What the expression is evaluated for: the terms that name neither group nor layer agree on it.
    fn family(&self) -> Result<Family, Fault> {
        let mut family = Family::Run;
        for (term, at) in self.terms.iter().zip(&self.places) {
            let wanted = match &term.source {
                TermSource::Edge { group: None, .. } => Family::Groups,
                TermSource::Layer { layer: None, instrument, .. } => Family::Layers(*instrument),
                _ => continue,
            };
            match (family, wanted) {
                (Family::Run, _) => family = wanted,
                (Family::Layers(one), Family::Layers(other)) if one != other => {
                    let message = format!(
                        "`{term}` is read for each layer of {other}, and the condition already for each layer of {one}; name a \
                         layer for one of them: `{term}{{layer=\"…\"}}`"
                    );
                    return Err(Fault::new(*at, message));
                }
                (Family::Groups, Family::Layers(_)) => {
                    let message = format!(
                        "`{term}` is read for each layer, and the condition already for each group; name the layer here \
                         (`{{layer=\"…\"}}`) or the group there (`{{group=\"…\"}}`)"
                    );
                    return Err(Fault::new(*at, message));
                }
                (Family::Layers(_), Family::Groups) => {
                    let message = format!(
                        "`{term}` is read for each group, and the condition already for each layer; name the group here \
                         (`{{group=\"…\"}}`) or the layer there (`{{layer=\"…\"}}`)"
                    );
                    return Err(Fault::new(*at, message));
                }
                _ => {}
            }
        }
        Ok(family)
    }
}

/// An operation, computed where both sides are constants; none when the result is not finite.
fn combined(operator: Operator, left: Number, right: Number) -> Option<Number> {
    if let (Number::Constant(left), Number::Constant(right)) = (&left, &right) {
        let value = match operator {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
        };
        return value.is_finite().then_some(Number::Constant(value));
    }
    let (left, right) = (Box::new(left), Box::new(right));
    Some(match operator {
        Operator::Add => Number::Add(left, right),
        Operator::Subtract => Number::Subtract(left, right),
        Operator::Multiply => Number::Multiply(left, right),
        Operator::Divide => Number::Divide(left, right),
    })
}

/// What a truth is whatever its terms are, by Kleene's logic.
fn constant(truth: &Truth) -> Option<bool> {
    match truth {
        Truth::Constant(value) => Some(*value),
        Truth::Compare(..) => None,
        Truth::Not(inner) => constant(inner).map(|value| !value),
        Truth::And(parts) => decided(parts, false),
        Truth::Or(parts) => decided(parts, true),
    }
}

/// One part that is `decisive` decides; otherwise all have to be known.
fn decided(parts: &[Truth], decisive: bool) -> Option<bool> {
    let mut all_known = true;
    for part in parts {
        match constant(part) {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(!decisive)
}
