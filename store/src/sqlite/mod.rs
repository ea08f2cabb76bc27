//! The store in one SQLite file.
//!
//! One connection writes (a read transaction that upgrades would fail as busy without waiting), a few read; the
//! write-ahead log lets them work at the same time. Every write is one `BEGIN IMMEDIATE` transaction, which is on disk
//! when it answers: `synchronous` is `FULL`.

mod bulk;
pub(crate) mod error;
mod open;
mod session;
mod values;

use std::{fs::File, path::Path, sync::Arc};

use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::Semaphore;

use crate::{
    backend::{Access, Backend, Dialect},
    error::StoreError,
    store::Durability,
};
use session::SqliteSession;

/// A [`Store`](crate::Store) in `gradwatch.db` of a data directory, which it holds alone while it is open.
pub struct SqliteStore {
    /// The one connection that writes.
    writer: SqlitePool,
    /// Whoever writes what alerts are about queues here first, so that in the queue for the writer there is never more
    /// than one of them before the recorder.
    alerts: Arc<Semaphore>,
    /// Connections that only read.
    readers: SqlitePool,
    /// Locked while the store is open, so that two servers never share a data directory.
    lock: File,
}

impl SqliteStore {
    /// Opens a data directory, creating it if need be, and brings its schema up to date.
    ///
    /// # Errors
    /// `DataDir` when the directory cannot be created, is in use by another process or holds a newer schema;
    /// `Durability` when the file system refuses what an acknowledgement promises; `Unavailable` otherwise.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        open::open(data_dir).await
    }

    /// Begins a transaction that may write.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

impl Backend for SqliteStore {
    type Session = SqliteSession;

    const DIALECT: Dialect = Dialect {
        lock_name: None,
        for_update: "",
        skip_locked: "",
        // How durable a commit is was set on the one connection that writes.
        number_commit: "UPDATE meta SET commit_seq = commit_seq + 1, last_event_id = last_event_id + $1
                        RETURNING commit_seq, last_event_id, TRUE AS durable",
        // CROSS JOIN: from the streams to their readings, never the other way round.
        latest_readings: "
            SELECT reading.*, steps.wall_time_us
            FROM json_each($4) AS stream CROSS JOIN edge_readings AS reading
                 LEFT JOIN steps USING (run_id, segment, step)
            WHERE reading.run_id = $1 AND reading.analysis = $3 AND reading.segment = $2
              AND reading.group_name = stream.value ->> 0 AND reading.kind = stream.value ->> 1
              AND reading.window = stream.value ->> 2
              AND reading.step = (
                  SELECT max(step) FROM edge_readings
                  WHERE run_id = $1 AND analysis = $3 AND segment = $2 AND group_name = stream.value ->> 0
                    AND kind = stream.value ->> 1 AND window = stream.value ->> 2)
            ORDER BY stream.key",
        has_label: [
            "EXISTS (SELECT 1 FROM json_each(runs.labels) AS label WHERE label.key = ",
            " AND label.value = ",
            ")",
        ],
        type_among: ["event_type IN (SELECT value FROM json_each(", "))"],
        in_ranges: [
            "EXISTS (SELECT 1 FROM json_each(",
            ") AS range WHERE events.segment = range.value ->> 0
               AND (events.step IS NULL OR events.step BETWEEN range.value ->> 1 AND range.value ->> 2))",
        ],
    };

    async fn session(&self, access: Access) -> Result<SqliteSession, StoreError> {
        Ok(match access {
            Access::Commit | Access::Write => SqliteSession::Transaction(self.begin().await?, None),
            Access::Alerts => {
                let turn = Arc::clone(&self.alerts).acquire_owned().await;
                let turn = turn.map_err(|_| StoreError::Unavailable("the store is closed".to_owned()))?;
                SqliteSession::Transaction(self.begin().await?, Some(turn))
            }
            Access::Snapshot => SqliteSession::Transaction(self.readers.begin().await?, None),
            Access::Single => SqliteSession::Single(self.readers.acquire().await?),
        })
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        open::durability(&self.writer).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        // Nothing is lost when this fails: the lock goes with the file handle at the latest.
        let _ = self.lock.unlock();
    }
}
