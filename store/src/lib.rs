//! What gradwatch keeps: runs, segments, steps, readings, rollups, events and the marks that make an acknowledgement
//! true. [`Store`] speaks domain types; this is the only crate of the workspace that knows SQL.

mod alert_store;
mod backend;
mod bulk_columns;
mod codec;
mod declaration;
mod error;
mod layer_table;
pub mod lineage;
mod model;
pub mod postgres;
mod query;
mod sql;
pub mod sqlite;
mod store;

use std::{path::Path, sync::Arc};

pub use alert_store::AlertStore;
pub use error::StoreError;
pub use model::{
    Alert, AlertCommit, AlertCursor, AlertLane, AlertMoment, AlertReceiver, AlertRule, AlertSource, AlertState,
    Analysis, AnalysisCommit, AnalysisEnd, AnalysisPosition, AnalysisSpec, AnalysisState, AttemptDeclaration,
    AttemptId, Delivery, Encoding, Event, EventRow, FollowerKey, FollowerSnapshot, GroupSpec, Kind, LIVE_ANALYSIS,
    LayerKey, LayerReadingAt, LayerReadingRow, LayerSpec, MarkMove, Message, MessageState, NewAnalysis,
    NewNotification, NonFinitePayload, Notification, OpenAttempt, OpenedAttempt, OwnedRun, PendingSnapshot,
    PredictionRow, Reading, ReadingRow, ResumeFrom, Resumes, RollupRow, Run, RunCommit, RunCounters, RunDeclaration,
    RunId, RunPatch, RunState, Scope, Segment, ShardMark, Silence, SketchBlock, SketchBlockInfo, SketchExtent,
    SketchStream, SnapshotKey, StepRow, StreamKey, StreamSpec, TensorSpec, Token, TokenHash, TokenId,
};
pub use query::{
    AlertCount, AlertQuery, DeliveryQuery, EventQuery, LayerReadingQuery, MessageQuery, Overview, Page, ReadingQuery,
    RollupPoint, RunQuery, RunSort, SeriesMetric, SeriesPoint, SeriesQuery, StepQuery, ValuesQuery, ValuesRow,
    ValuesSource,
};
pub use store::{Durability, Store};

/// Opens the store that the settings ask for, for a server: no other server works on it meanwhile. PostgreSQL where there
/// is a URL, else SQLite in a directory.
///
/// # Errors
/// As [`postgres::PostgresStore::open_alone`] and [`sqlite::SqliteStore::open`].
pub async fn open_alone(database_url: Option<&str>, data_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match database_url {
        Some(url) => Arc::new(postgres::PostgresStore::open_alone(url).await?),
        None => Arc::new(sqlite::SqliteStore::open(data_dir).await?),
    })
}

/// As [`open_alone`], for a command: a database may be open in a server meanwhile, a directory not.
///
/// # Errors
/// As [`postgres::PostgresStore::open`] and [`sqlite::SqliteStore::open`].
pub async fn open(database_url: Option<&str>, data_dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match database_url {
        Some(url) => Arc::new(postgres::PostgresStore::open(url).await?),
        None => Arc::new(sqlite::SqliteStore::open(data_dir).await?),
    })
}
