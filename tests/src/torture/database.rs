//! A database beside the server that can be killed too.

use gradwatch_test_postgres::Cluster;

const NAME: &str = "torture";

/// A PostgreSQL of its own; gone when dropped.
pub struct Database(Cluster);

impl Database {
    /// Starts an empty one.
    #[must_use]
    pub fn start() -> Self {
        let cluster = Cluster::start().expect("a PostgreSQL of its own");
        cluster.create_database(NAME, None).expect("an empty database");
        Self(cluster)
    }

    /// What tells a server where it is, as environment variables.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        vec![("DATABASE_URL".to_owned(), self.0.url(NAME))]
    }

    /// SIGKILL to all of it, and a start on the same data.
    pub(super) fn kill_and_start(&mut self) {
        self.0.kill_9().expect("it does not end by itself");
        self.0.start_again().expect("it recovers");
    }
}
