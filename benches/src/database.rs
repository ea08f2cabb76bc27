//! Where the measured servers keep their data.

use std::collections::BTreeMap;

use anyhow::Result;
use gradwatch_test_postgres::Cluster;
use uuid::Uuid;

/// A backend.
pub(crate) enum Database {
    /// In the server's own process.
    Sqlite,
    /// A private PostgreSQL with its default settings, which are durable.
    Postgres(Box<Cluster>),
}

impl Database {
    /// Every backend there is.
    pub(crate) fn all() -> Result<Vec<Self>> {
        Ok(vec![Self::Sqlite, Self::Postgres(Box::new(Cluster::start()?))])
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Environment variables that make a server use it, with nothing in it yet.
    pub(crate) fn settings(&self) -> Result<BTreeMap<&'static str, String>> {
        let Self::Postgres(cluster) = self else { return Ok(BTreeMap::new()) };
        let name = format!("bench_{}", Uuid::new_v4().simple());
        cluster.create_database(&name, None)?;
        Ok(BTreeMap::from([("DATABASE_URL", cluster.url(&name))]))
    }

    /// The process whose CPU, and whose children's, is the database's.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Sqlite => None,
            Self::Postgres(cluster) => Some(cluster.pid()),
        }
    }
}
