//! Connecting to a database: settings, schema, and what an acknowledgement rests on.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{PostgresStore, lock::ServerLock, session::PostgresSession};
use crate::{
    backend::{Session as _, Statement},
    codec,
    error::StoreError,
    store::Durability,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Connections that open, change and delete runs while the recorder commits on its own.
const WRITERS: u32 = 2;

/// Connections that write what alerts are about: one evaluation is settled while what came of others is delivered.
const ALERT_WRITERS: u32 = 2;

/// How long a commit waits for a lock. Shorter than for others, because all runs wait with the one that is locked.
const RECORDER_LOCK_TIMEOUT: &str = "2s";

/// Readers at the same time.
const READERS: u32 = 4;

/// How long a call waits for a connection, one that has to be made included.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Each bulk statement, and each combination of conditions of a list, has its own prepared statement.
const STATEMENT_CACHE_CAPACITY: usize = 256;

/// Settings of every connection. Invariant: nothing that hangs, here or there, keeps a lock for long. The database gives
/// up statements and waits for locks, and transactions whose client has gone, well before we stop waiting for an answer.
const SETTINGS: [(&str, &str); 8] = [
    ("statement_timeout", "25s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "15s"),
    // A statement whose client has gone is given up.
    ("client_connection_check_interval", "5s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25000"),
];

/// The settings that decide what a commit survives, and no others: anybody may read them at `/readyz`.
const SELECT_DURABILITY: &str = "SELECT name, setting FROM pg_settings
     WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";

pub(super) async fn open(database_url: &str, alone: bool) -> Result<PostgresStore, StoreError> {
    let without_limits = parse(database_url)?;
    let options = without_limits.clone().options(SETTINGS);
    // Before the schema changes under another server.
    let lock = if alone { Some(ServerLock::take(options.clone()).await?) } else { None };
    migrate(&without_limits).await?;
    let store = PostgresStore {
        recorder: pool(1).connect_with(options.clone().options([("lock_timeout", RECORDER_LOCK_TIMEOUT)])).await?,
        writers: pool(WRITERS).connect_lazy_with(options.clone()),
        alerts: pool(ALERT_WRITERS).connect_lazy_with(options.clone()),
        readers: pool(READERS).connect_lazy_with(options),
        lock,
    };
    durability(&store).await?;
    Ok(store)
}

/// Invariant: no error says the URL, which may hold a password.
fn parse(database_url: &str) -> Result<PgConnectOptions, StoreError> {
    if !(database_url.starts_with("postgres://") || database_url.starts_with("postgresql://")) {
        let message = "database_url: must begin with postgres:// or postgresql://";
        return Err(StoreError::Database(message.to_owned()));
    }
    let options = PgConnectOptions::from_str(database_url)
        .map_err(|error| StoreError::Database(format!("database_url: {error}")))?;
    Ok(options
        .application_name("gradwatch")
        .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
        .disable_statement_logging())
}

fn pool(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Invariant: one server migrates at a time; the driver takes an advisory lock. Without the limits of [`SETTINGS`],
/// because a migration of a large table takes as long as it takes.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let pool = pool(1).connect_with(options.clone()).await?;
    let migrated = MIGRATIONS.run(&pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Database(format!(
            "it was written by a newer gradwatch: its schema has migration {version}, which this one does not know"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StoreError::from(error),
        other => StoreError::Database(other.to_string()),
    });
    // Also after an error: the lock goes with the connection.
    pool.close().await;
    migrated
}

/// Reads back what makes a commit survive a crash, through a connection with the settings of those that write, and never
/// through one of theirs: whoever asks keeps no write waiting.
pub(super) async fn durability(store: &PostgresStore) -> Result<Durability, StoreError> {
    let mut session = PostgresSession::acquire(&store.readers).await?;
    let rows = session.fetch_all(Statement::new(SELECT_DURABILITY)).await?;
    let setting = |row| Ok((codec::string(row, "name")?, codec::string(row, "setting")?));
    judge(rows.iter().map(setting).collect::<Result<_, StoreError>>()?)
}

/// Invariant: a commit is on disk when it answers, and a crash leaves no torn page. Every other value of
/// `synchronous_commit` than `off` waits for the local disk
/// (<https://www.postgresql.org/docs/current/runtime-config-wal.html>).
fn judge(settings: BTreeMap<String, String>) -> Result<Durability, StoreError> {
    let value = |name: &str| settings.get(name).map_or("unknown", String::as_str);
    for (name, is_safe) in [
        ("synchronous_commit", !matches!(value("synchronous_commit"), "off" | "unknown")),
        ("fsync", value("fsync") == "on"),
        ("full_page_writes", value("full_page_writes") == "on"),
    ] {
        if !is_safe {
            return Err(StoreError::Durability(format!(
                "{name}: {} is weaker than on: a crash of the database could take acknowledged frames",
                value(name)
            )));
        }
    }
    Ok(Durability { backend: "postgres", settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changed: Option<(&str, &str)>) -> BTreeMap<String, String> {
        let safe = [("synchronous_commit", "on"), ("fsync", "on"), ("full_page_writes", "on")];
        safe.into_iter().chain(changed).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn only_settings_that_reach_the_disk_keep_the_promise() {
        for level in ["on", "local", "remote_write", "remote_apply"] {
            assert!(judge(settings(Some(("synchronous_commit", level)))).is_ok(), "{level}");
        }
        for name in ["synchronous_commit", "fsync", "full_page_writes"] {
            let Err(StoreError::Durability(message)) = judge(settings(Some((name, "off")))) else { panic!("{name}") };
            assert!(message.starts_with(name), "{message}");
            let mut unknown = settings(None);
            unknown.remove(name);
            assert!(matches!(judge(unknown), Err(StoreError::Durability(_))), "{name}");
        }
    }

    #[test]
    fn an_address_of_something_else_is_refused_without_being_repeated() {
        for url in ["", "mysql://u:secret@h/d", "sqlite://secret", "postgres://u:secret@h:port/d", "secret"] {
            let Err(StoreError::Database(message)) = parse(url) else { panic!("{url}") };
            assert!(message.starts_with("database_url: ") && !message.contains("secret"), "{message}");
        }
    }
}
