//! Opening a data directory: lock, settings, schema, and what an acknowledgement rests on.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Semaphore;

use super::SqliteStore;
use crate::{error::StoreError, store::Durability};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

const LOCK_FILE: &str = "gradwatch.lock";
const DATABASE_FILE: &str = "gradwatch.db";

/// Readers at the same time; more would only compete for the same page cache and disk.
const READERS: u32 = 4;

/// How long a statement waits for a lock. Nobody else writes, so that only checkpoints are ever waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call waits for its turn at a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows of readings are about 700 bytes: with 4 KiB pages many would not fit without an overflow page.
const PAGE_SIZE_BYTES: u32 = 8192;

/// Every chunk size of every table has its own prepared statement, see [`super::bulk`].
const STATEMENT_CACHE_CAPACITY: usize = 256;

pub(super) async fn open(data_dir: &Path) -> Result<SqliteStore, StoreError> {
    let lock = lock(data_dir)?;
    let options = SqliteConnectOptions::new()
        .filename(data_dir.join(DATABASE_FILE))
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENT_CACHE_CAPACITY)
        .disable_statement_logging();
    let writer_options = options
        .clone()
        .create_if_missing(true)
        .page_size(PAGE_SIZE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // Kibibytes when negative.
        .pragma("cache_size", "-32768")
        // The log is cut back to this after a checkpoint, however long a reader let it grow.
        .pragma("journal_size_limit", "67108864");
    let writer =
        pool(1).after_release(|connection, _| Box::pin(is_reusable(connection))).connect_with(writer_options).await?;
    durability(&writer).await?;
    migrate(&writer, data_dir).await?;
    let readers = pool(READERS).connect_with(options.read_only(true)).await?;
    Ok(SqliteStore { writer, alerts: Arc::new(Semaphore::new(1)), readers, lock })
}

/// After errors such as a full disk SQLite rolls the transaction back by itself. The driver's own rollback then fails,
/// and the driver goes on believing that the connection is inside a transaction, in which none can begin: such a
/// connection is replaced.
async fn is_reusable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind a rollback that may still be under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file does not go away like a network connection does.
        .test_before_acquire(false)
}

/// Invariant: two stores never have the same data directory open. The lock belongs to the open file and ends with the
/// process however it ends.
fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::DataDir(format!("{} {what}: {error}", data_dir.display()))
    };
    std::fs::create_dir_all(data_dir).map_err(|error| refused("cannot be created", &error))?;
    sync_parent(data_dir).map_err(|error| refused("cannot be made durable", &error))?;
    let path = data_dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| refused("cannot be written to", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(refused("is in use", &"another gradwatch process holds its lock file")),
        Err(TryLockError::Error(error)) => Err(refused("cannot be locked", &error)),
    }
}

/// A directory that was just created survives a power loss only when its own directory is synced; SQLite does the same
/// for the files in it.
fn sync_parent(data_dir: &Path) -> std::io::Result<()> {
    if cfg!(unix)
        && let Some(parent) = data_dir.canonicalize()?.parent()
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

async fn migrate(writer: &SqlitePool, data_dir: &Path) -> Result<(), StoreError> {
    MIGRATIONS.run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::DataDir(format!(
            "{} was written by a newer gradwatch: its schema has migration {version}, which this one does not know",
            data_dir.display()
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => StoreError::from(error),
        other => StoreError::DataDir(format!("{}: {other}", data_dir.display())),
    })
}

/// Reads back, through the connection that writes, what makes a commit survive a power loss.
pub(super) async fn durability(writer: &SqlitePool) -> Result<Durability, StoreError> {
    let mut connection = writer.acquire().await?;
    let journal_mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *connection).await?;
    judge(journal_mode, synchronous)
}

/// Invariant: a commit is on disk when it answers. With a write-ahead log that takes `synchronous` = `full` (2) or
/// `extra` (3); every other journal mode would do with it too, but was not asked for, so that it means that something
/// refused ours (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
fn judge(journal_mode: String, synchronous: i64) -> Result<Durability, StoreError> {
    let synchronous = match synchronous {
        2 => "full",
        3 => "extra",
        weaker => {
            return Err(StoreError::Durability(format!(
                "synchronous: {weaker} is weaker than full (2): a power loss could take acknowledged frames"
            )));
        }
    };
    if journal_mode != "wal" {
        return Err(StoreError::Durability(format!(
            "journal_mode: {journal_mode} instead of wal: does the file system of the data directory support it?"
        )));
    }
    let settings = [("journal_mode".to_owned(), journal_mode), ("synchronous".to_owned(), synchronous.to_owned())];
    Ok(Durability { backend: "sqlite", settings: BTreeMap::from(settings) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn only_full_and_extra_keep_the_promise() {
        for (synchronous, word) in [(2, "full"), (3, "extra")] {
            let durability = judge("wal".to_owned(), synchronous).unwrap();
            assert_eq!(durability.settings["synchronous"], word);
        }
        for weaker in [0, 1] {
            assert!(matches!(judge("wal".to_owned(), weaker), Err(StoreError::Durability(_))));
        }
        for mode in ["memory", "off", "delete"] {
            assert!(matches!(judge(mode.to_owned(), 2), Err(StoreError::Durability(_))));
        }
    }

    #[tokio::test]
    async fn a_weakened_connection_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        store.durability().await.unwrap();
        sqlx::query("PRAGMA synchronous = NORMAL").execute(&store.writer).await.unwrap();
        assert!(matches!(store.durability().await, Err(StoreError::Durability(_))));
    }

    #[tokio::test]
    async fn writing_goes_on_after_a_full_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        // The smallest limit that SQLite accepts is the present size.
        sqlx::query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let insert = "INSERT INTO runs (run_id, project, name, state, regime, created_at_us, last_seen_us, labels)
                      VALUES (zeroblob(1000000), '', '', '', '', 0, 0, '')";
        let error = StoreError::from(sqlx::query(insert).execute(&mut *tx).await.unwrap_err());
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        drop(tx);
        let mut tx = store.begin().await.unwrap();
        sqlx::query("UPDATE meta SET commit_seq = 7").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.last_commit_seq().await.unwrap(), 7);
        store.durability().await.unwrap();
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'of the future', TRUE, x'00', 0)",
        )
        .execute(&store.writer)
        .await
        .unwrap();
        store.close().await;
        let Err(StoreError::DataDir(message)) = SqliteStore::open(dir.path()).await else { panic!("opened") };
        assert!(message.contains("9999"), "{message}");
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path()).await.unwrap();
        assert!(sqlx::query("DELETE FROM meta").execute(&store.readers).await.is_err());
    }
}
