//! A condition as it is written: names are not looked up yet, and types not checked.

use std::ops::Range;

use super::{condition::Comparison, token::Name};

/// A part of an expression with its place in the text, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) span: Range<usize>,
    /// How many levels it has; bounded by the parser, so that whatever walks the tree may recurse.
    pub(super) depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeKind {
    Number(f64),
    Truth(bool),
    Metric(Name, Vec<Qualifier>),
    Call(Name, Vec<Node>),
    Negate(Box<Node>),
    Not(Box<Node>),
    Arithmetic(Operator, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
        }
    }
}

/// `group="all"` in braces behind a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Qualifier {
    pub(super) key: String,
    pub(super) key_at: usize,
    pub(super) value: QualifierValue,
    pub(super) value_at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum QualifierValue {
    Text(String),
    Number(f64),
}

impl NodeKind {
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Number(_) | Self::Truth(_) | Self::Metric(..) => Vec::new(),
            Self::Call(_, nodes) | Self::And(nodes) | Self::Or(nodes) => nodes.iter().collect(),
            Self::Negate(node) | Self::Not(node) => vec![node],
            Self::Arithmetic(_, left, right) | Self::Compare(_, left, right) => vec![left, right],
        }
    }
}
