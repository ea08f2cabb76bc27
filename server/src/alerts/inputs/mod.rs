//! From what is stored of a run to what an evaluator sees: rows of several sources and events, step by step in the order of
//! the live line. Evaluation as it goes, the replay behind a rewind and backtests all come through here:
//!
//! ```text
//! facts_of(run, segments) ─► RunEvaluator::new ─► inputs()
//! LineReader::next (store) ─► Chunk ─► Chunk::feed(evaluator)          replays and backtests
//! Chunk::new(line, rows, events) ─► Chunk::feed(evaluator)             whoever reads by a cursor of its own
//! ```
//!
//! > **Invariant: the place of an event is a function of what is stored**, not of when somebody looked: so live evaluation
//! > and backtests see the same things in the same order.

mod chunk;
mod facts;
mod reader;

pub(crate) use chunk::{Chunk, Rows};
pub(crate) use facts::facts_of;
pub(crate) use reader::LineReader;
