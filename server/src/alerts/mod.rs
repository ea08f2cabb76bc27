//! Alerts: rules over what was committed, and what is told of them.
//!
//! ```text
//! book (rules, receivers) ─► evaluation: committed readings ─► alerts, notifications and cursor in one transaction
//!                            delivery: notifications ─► messages ─► receivers
//! ```
//!
//! > **Invariant: nothing of it is on the path of an acknowledgement.** It reads what was committed, and commits for itself.

mod book;
mod delivery;
mod evaluation;
mod inputs;
mod notice;

pub(crate) use book::{BookError, Receiver, RuleBook, RuleSet};
