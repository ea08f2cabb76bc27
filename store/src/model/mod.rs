//! The nouns of the domain, as the store takes and gives them.

mod alert;
mod analysis;
mod commit;
mod run;
mod segment;
mod sketch;
mod token;

pub use alert::{
    Alert, AlertCommit, AlertCursor, AlertLane, AlertMoment, AlertReceiver, AlertRule, AlertSource, AlertState,
    Delivery, Message, MessageState, NewNotification, Notification, Silence,
};
pub use analysis::{Analysis, AnalysisCommit, AnalysisEnd, AnalysisPosition, AnalysisSpec, AnalysisState, NewAnalysis};
pub use commit::{
    Event, EventRow, FollowerKey, FollowerSnapshot, LIVE_ANALYSIS, LayerReadingAt, LayerReadingRow, MarkMove,
    NonFinitePayload, PendingSnapshot, PredictionRow, Reading, ReadingRow, RollupRow, RunCommit, RunPatch, SnapshotKey,
    StepRow, StreamKey,
};
pub use run::{Run, RunCounters, RunDeclaration, RunId, RunState};
pub use segment::{
    AttemptDeclaration, AttemptId, Encoding, GroupSpec, Kind, LayerKey, LayerSpec, OpenAttempt, OpenedAttempt,
    OwnedRun, ResumeFrom, Resumes, Segment, ShardMark, StreamSpec, TensorSpec,
};
pub use sketch::{SketchBlock, SketchBlockInfo, SketchExtent, SketchStream};
pub use token::{Scope, Token, TokenHash, TokenId};
