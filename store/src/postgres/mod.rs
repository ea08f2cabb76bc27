//! The store in a PostgreSQL database.
//!
//! Every write is one transaction, which is on disk when it answers: a database whose settings promise less is refused
//! when it is opened, and every commit looks again. Rows go in as arrays, one per column, so that a statement is one
//! round trip and one prepared plan however many rows it has.
//!
//! One server works on a database, which an advisory lock sees to ([`PostgresStore::open_alone`]): two would take each
//! other's runs all the time. Where two meet all the same, behind a network that broke, epochs keep them apart, and nobody
//! waits for ever: a commit locks the one row of `meta` first, so that commits come one behind the other; every other
//! transaction locks one run and waits for nothing else. Transactions of alerts have connections of their own, those that
//! change many rows come one behind the other by an advisory lock, and they hold runs in a way that no commit waits for. So
//! no two can wait for each other in a circle.

mod bulk;
pub(crate) mod error;
mod lock;
mod open;
mod session;
mod values;

use sqlx::PgPool;

use crate::{
    backend::{Access, Backend, Dialect},
    error::StoreError,
    store::Durability,
};
use lock::ServerLock;
use session::PostgresSession;

/// A [`Store`](crate::Store) in a PostgreSQL database.
pub struct PostgresStore {
    /// The recorder's connection, which nothing else ever takes.
    recorder: PgPool,
    /// Connections for every other write, which do not wait for the recorder.
    writers: PgPool,
    /// Connections that write what alerts are about.
    alerts: PgPool,
    /// Connections that only read.
    readers: PgPool,
    /// Keeps other servers off.
    lock: Option<ServerLock>,
}

impl PostgresStore {
    /// Connects to a database, such as `postgres://user:password@host/database`, and brings its schema up to date.
    ///
    /// # Errors
    /// `Database` when the URL is none or the schema is newer; `Durability` when its settings are weaker than an
    /// acknowledgement promises; `Unavailable` otherwise.
    pub async fn open(database_url: &str) -> Result<Self, StoreError> {
        open::open(database_url, false).await
    }

    /// As [`Self::open`], for a server: no other opens it like this until this one is closed, dropped or its process
    /// ends. Waits up to 15 s for the one before.
    ///
    /// # Errors
    /// As [`Self::open`]; `Database` while another server uses the database.
    pub async fn open_alone(database_url: &str) -> Result<Self, StoreError> {
        open::open(database_url, true).await
    }
}

impl Backend for PostgresStore {
    type Session = PostgresSession;

    const DIALECT: Dialect = Dialect {
        lock_name: Some("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"),
        for_update: " FOR UPDATE OF runs",
        skip_locked: " FOR UPDATE OF candidate SKIP LOCKED",
        number_commit: "UPDATE meta SET commit_seq = commit_seq + 1, last_event_id = last_event_id + $1
                        RETURNING commit_seq, last_event_id,
                                  current_setting('synchronous_commit') <> 'off' AND current_setting('fsync') = 'on'
                                  AND current_setting('full_page_writes') = 'on' AS durable",
        latest_readings: "
            SELECT reading.*, steps.wall_time_us
            FROM jsonb_array_elements($4::jsonb) WITH ORDINALITY AS stream (value, place)
                 CROSS JOIN LATERAL (
                     SELECT * FROM edge_readings
                     WHERE run_id = $1 AND analysis = $3 AND segment = $2 AND group_name = stream.value ->> 0
                       AND kind = stream.value ->> 1 AND \"window\" = (stream.value ->> 2)::bigint
                     ORDER BY step DESC LIMIT 1) AS reading
                 LEFT JOIN steps ON steps.run_id = $1 AND steps.segment = $2 AND steps.step = reading.step
            ORDER BY stream.place",
        has_label: ["labels::jsonb ->> ", " = ", ""],
        type_among: ["event_type IN (SELECT jsonb_array_elements_text(", "::jsonb))"],
        in_ranges: [
            "EXISTS (SELECT 1 FROM jsonb_array_elements(",
            "::jsonb) AS range (value) WHERE events.segment = (range.value ->> 0)::bigint
               AND (events.step IS NULL
                    OR events.step BETWEEN (range.value ->> 1)::bigint AND (range.value ->> 2)::bigint))",
        ],
    };

    async fn session(&self, access: Access) -> Result<PostgresSession, StoreError> {
        match access {
            Access::Commit => PostgresSession::begin(&self.recorder, "BEGIN").await,
            Access::Write => PostgresSession::begin(&self.writers, "BEGIN").await,
            Access::Alerts => PostgresSession::begin(&self.alerts, "BEGIN").await,
            Access::Snapshot => {
                PostgresSession::begin(&self.readers, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
            }
            Access::Single => PostgresSession::acquire(&self.readers).await,
        }
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        open::durability(self).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.alerts.close().await;
        self.writers.close().await;
        self.recorder.close().await;
        // Last: the next server finds nothing of this one under way.
        if let Some(lock) = &self.lock {
            lock.give_back();
        }
    }
}
