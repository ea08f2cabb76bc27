//! Alert rules: what a user writes ([`RuleFile`], [`RuleDefinition`]), the language of conditions ([`language`]), the
//! evaluator that says when a rule fires ([`evaluator`]), and what a backtest counts ([`backtest`]).
//!
//! Pure: no I/O, no async, no clock. Live evaluation and backtests run the very same code over the same inputs.

pub mod backtest;
mod checks;
pub mod definition;
pub mod evaluator;
pub mod file;
mod hold;
pub mod language;
pub mod problem;
pub mod receiver;
mod receiver_checks;
pub mod template;
mod yaml;

pub use definition::{RuleDefinition, Selector, Severity};
pub use file::RuleFile;
pub use hold::{Hold, MAX_HOLD_READINGS};
pub use problem::{Position, Problem};
pub use receiver::{GroupBy, ReceiverDefinition, ReceiverKind};
pub use template::{Template, TemplateContext};
