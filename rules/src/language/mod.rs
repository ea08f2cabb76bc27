//! The language of conditions.

pub mod condition;

use std::sync::Arc;

pub use condition::{
    Comparison, Condition, EventCondition, Expression, Family, Function, Number, Term, TermSource, Truth,
};

use crate::RuleDefinition;

/// A rule whose condition was understood.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// As it was written.
    pub definition: RuleDefinition,
    /// What it means.
    pub condition: Arc<Condition>,
}
