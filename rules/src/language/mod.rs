//! The language of conditions: words (`token`), then a tree whose depth is counted (`parser`), then names and types
//! (`check`). The result is a [`Condition`], small and bounded, so that no evaluation can loop or grow.

mod check;
pub mod condition;
mod display;
mod events;
mod fault;
mod names;
mod nearest;
mod parser;
mod token;
mod tree;

use std::{collections::BTreeMap, sync::Arc};

pub use check::READINGS;
pub use condition::{
    Comparison, Condition, EventCondition, Expression, Family, Function, Number, Term, TermSource, Truth,
};
pub(crate) use fault::Fault;
pub(crate) use nearest::did_you_mean;
pub use parser::{MAX_DEPTH, MAX_NODES};

pub(crate) use token::{printable, shown};

use crate::{Problem, RuleDefinition, Template, group_filter::GroupFilter};

/// The longest text of a condition.
pub const MAX_TEXT_BYTES: usize = 4 * 1024;

/// A rule whose condition was understood.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// As it was written.
    pub definition: RuleDefinition,
    /// What it means.
    pub condition: Arc<Condition>,
    /// The groups or layers that its selector takes.
    pub(crate) groups: GroupFilter,
    /// The summary.
    pub summary: Template,
    /// The annotations.
    pub annotations: BTreeMap<String, Template>,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with it, with line and column in `text`; the field is `when`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        Self::read(text).map_err(|fault| fault.into_problem("when", text))
    }

    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("is {} bytes long; a condition has at most {MAX_TEXT_BYTES}", text.len());
            return Err(Fault::new(0, message));
        }
        let tokens = token::tokens(text)?;
        if tokens.is_empty() {
            let message =
                "is empty; a condition is an event (`transition to forgetting`) or an expression (`edge.ratio < 1.2`)";
            return Err(Fault::new(0, message));
        }
        if let Some(event) = events::parse(&tokens, text.trim_end().len()) {
            return event.map(Self::Event);
        }
        check::check(&parser::parse(&tokens, text)?, text).map(Self::Expression)
    }
}

/// What a text in double quotation marks says.
pub(crate) fn unquoted(text: &str) -> Option<String> {
    match token::tokens(text).ok()?.as_slice() {
        [token::Token { kind: token::TokenKind::Text(text), .. }] => Some(text.clone()),
        _ => None,
    }
}

impl TermSource {
    /// Reads one metric, such as `edge.ratio{group="all"}`.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Fault::new(0, format!("is {} bytes long", text.len())));
        }
        let tokens = token::tokens(text)?;
        match parser::parse(&tokens, text)?.kind {
            tree::NodeKind::Metric(name, qualifiers) => names::resolve(&name, 0, &qualifiers),
            _ => Err(Fault::new(0, "is no metric")),
        }
    }
}
