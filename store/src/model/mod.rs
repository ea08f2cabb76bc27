//! The nouns of the domain, as the store takes and gives them.

mod commit;
mod run;
mod segment;
mod token;

pub use commit::{
    Event, EventRow, FollowerSnapshot, LIVE_ANALYSIS, MarkMove, NonFinitePayload, Reading, ReadingRow, RollupRow,
    RunCommit, RunPatch, StepRow, StreamKey,
};
pub use run::{Run, RunCounters, RunDeclaration, RunId, RunState};
pub use segment::{
    AttemptDeclaration, AttemptId, Encoding, GroupSpec, Kind, OpenAttempt, OpenedAttempt, OwnedRun, Resumes, Segment,
    ShardMark, StreamSpec, TensorSpec,
};
pub use token::{Scope, Token, TokenHash, TokenId};
