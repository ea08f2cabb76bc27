//! Where the measured servers keep their data.

use std::collections::BTreeMap;

/// A backend.
pub(crate) enum Database {
    /// In the server's own process.
    Sqlite,
    /// At a URL; its processes are those below `pid`, where that is known.
    Postgres { url: String, pid: Option<u32> },
}

impl Database {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// Environment variables that make a server use it.
    pub(crate) fn settings(&self) -> BTreeMap<&'static str, String> {
        match self {
            Self::Sqlite => BTreeMap::new(),
            Self::Postgres { url, .. } => BTreeMap::from([("DATABASE_URL", url.clone())]),
        }
    }

    /// The process whose CPU is the database's.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Sqlite => None,
            Self::Postgres { pid, .. } => *pid,
        }
    }
}
