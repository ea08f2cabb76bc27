//! From notifications to messages to receivers.
//!
//! ```text
//! notifications ─► sealing: one message a group, id and content fixed in one transaction ─► waiting messages
//! one task a receiver: claims a message ─► connection ─► what became of it, recorded with where the message stands
//! ```
//!
//! > **Invariant: at least once, in order.** What is to be told was recorded with the change that it tells. A message waits in
//! > the store until it is delivered or given up, and the next one of its group key waits for that. Whatever crashes in
//! > between, the same id and content are sent again.
//!
//! > **Invariant: nowhere else.** A receiver is reached at an address that was checked (address.rs), and nothing follows where
//! > an answer points to.

mod address;
mod alertmanager;
mod connection;
mod content;
mod dispatcher;
mod outcome;
mod pages;
mod receiver;
mod request;
mod resend;
mod retry;
#[cfg(test)]
mod sample;
mod sealing;
#[cfg(test)]
mod sealing_tests;
mod sign;
mod silence;
mod slack;
mod webhook;

pub(crate) use dispatcher::Dispatcher;
pub(crate) use silence::{Matcher, check_matchers};
