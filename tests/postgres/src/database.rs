//! A database for one test.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection, migrate::Migrator};

use crate::Cluster;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Copied for each test: the schema is made once.
const TEMPLATE: &str = "gradwatch_template";

static SHARED: OnceLock<Cluster> = OnceLock::new();

/// A database of its own in the one cluster of this test process, with the schema in place; removed when dropped.
pub struct TestDatabase {
    name: String,
    url: String,
}

impl TestDatabase {
    /// Makes one.
    ///
    /// # Panics
    /// When PostgreSQL cannot be started: a test that needs it fails and says why.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = shared();
        cluster.create_database(&name, Some(TEMPLATE)).expect("a copy of the template");
        Self { url: cluster.url(&name), name }
    }

    /// Its address, as `DATABASE_URL` wants it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Default for TestDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // It goes with the cluster at the latest.
        let _ = shared().drop_database(&self.name);
    }
}

fn shared() -> &'static Cluster {
    SHARED.get_or_init(|| start().expect("a PostgreSQL for the tests of this process"))
}

fn start() -> Result<Cluster> {
    let cluster = Cluster::start()?;
    cluster.create_database(TEMPLATE, None)?;
    let url = cluster.url(TEMPLATE);
    // A thread of its own, because the caller may be inside a runtime.
    let migrated = thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await?;
            MIGRATIONS.run(&mut connection).await?;
            connection.close().await?;
            Ok(())
        })
    });
    migrated.join().map_err(|_| anyhow::anyhow!("panic while migrating"))?.context("the schema cannot be made")?;
    Ok(cluster)
}
