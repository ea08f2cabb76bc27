//! What came out of one run.

use gradwatch_rules::backtest::Firings;
use gradwatch_store::RunId;

/// Whether the truth came true in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// Nobody asked.
    NotAsked,
    /// Nothing that it looks at was ever recorded of the run, so that it is neither true nor false.
    Unknown,
    /// It did not.
    Never,
    /// It did, for the first time at this step.
    At(u64),
}

/// What came out of one run.
#[derive(Clone, Debug)]
pub(super) struct RunOutcome {
    pub(super) run_id: RunId,
    pub(super) name: String,
    pub(super) created_at_us: i64,
    pub(super) truth: Truth,
    /// By rule; `None`: it does not select the run.
    pub(super) firings: Vec<Option<Firings>>,
}
