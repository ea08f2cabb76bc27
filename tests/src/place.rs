//! Where a server of a test keeps its data.

use std::path::Path;

use gradwatch_test_postgres::TestDatabase;
use tempfile::TempDir;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// A directory.
    Sqlite,
    /// A database of its own in the PostgreSQL of this test process.
    Postgres,
}

/// A directory, and a database where there is one; gone when dropped.
pub struct Place {
    data_dir: TempDir,
    database: Option<TestDatabase>,
}

impl Place {
    /// An empty one.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self {
            data_dir: tempfile::tempdir().expect("a temporary directory"),
            database: (backend == Backend::Postgres).then(TestDatabase::new),
        }
    }

    /// The directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The database's address.
    #[must_use]
    pub fn database_url(&self) -> Option<&str> {
        self.database.as_ref().map(TestDatabase::url)
    }
}

/// Makes two tests of each case: one on SQLite and one on PostgreSQL.
#[macro_export]
macro_rules! on_both_backends {
    ($($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::Backend::Sqlite).await;
                }
            )*
        }

        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::Backend::Postgres).await;
                }
            )*
        }
    };
}
