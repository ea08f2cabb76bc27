//! What gradwatch keeps: runs, segments, steps, readings, rollups, events and the marks that make an acknowledgement
//! true. [`Store`] speaks domain types; this is the only crate of the workspace that knows SQL.

mod error;
pub mod lineage;
mod model;
mod query;
pub mod sqlite;
mod store;

pub use error::StoreError;
pub use model::{
    AttemptDeclaration, AttemptId, Encoding, Event, EventRow, FollowerSnapshot, GroupSpec, Kind, LIVE_ANALYSIS,
    MarkMove, NonFinitePayload, OpenAttempt, OpenedAttempt, OwnedRun, Reading, ReadingRow, Resumes, RollupRow, Run,
    RunCommit, RunCounters, RunDeclaration, RunId, RunPatch, RunState, Scope, Segment, ShardMark, StepRow, StreamKey,
    StreamSpec, TensorSpec, Token, TokenHash, TokenId,
};
pub use query::{
    EventQuery, Overview, Page, ReadingQuery, RollupPoint, RunQuery, RunSort, SeriesMetric, SeriesPoint, SeriesQuery,
    StepQuery,
};
pub use store::{Durability, Store};
