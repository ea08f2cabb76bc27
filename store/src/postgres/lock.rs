//! One server works on a database.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::error::StoreError;

/// "gradwatc".
const KEY: i64 = 0x6772_6164_7761_7463;

/// How long a server that starts waits for the one before it, which may have been killed just now or still be draining.
const START_PATIENCE: Duration = Duration::from_secs(15);
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// How often a server looks whether it still has the lock.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long our own last connection may keep the lock when only the network broke, until the database notices.
const OWN_PATIENCE: Duration = Duration::from_secs(60);

/// Says that a server works on the database.
///
/// Invariant: it goes with the connection, and so with the process, however that ends. It keeps two servers from taking
/// each other's runs all the time; that nothing is stored twice rests on the owner epochs alone, so that a server whose
/// connection breaks goes on and takes the lock again.
pub(super) struct ServerLock {
    keeping: JoinHandle<()>,
}

impl ServerLock {
    /// Waits until no other server works on the database.
    pub(super) async fn take(options: PgConnectOptions) -> Result<Self, StoreError> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(connection) = attempt(&options).await? {
                return Ok(Self { keeping: tokio::spawn(keep(connection, options)) });
            }
            if Instant::now() >= deadline {
                let message =
                    "another server uses this database; stop it first, or give this one a database of its own";
                return Err(StoreError::Database(message.to_owned()));
            }
            sleep(RETRY_EVERY).await;
        }
    }

    /// Lets the next server in.
    pub(super) fn give_back(&self) {
        self.keeping.abort();
    }
}

impl Drop for ServerLock {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A connection that has the lock; none while another has it.
async fn attempt(options: &PgConnectOptions) -> Result<Option<PgConnection>, StoreError> {
    let attempt = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let query = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(KEY);
        let taken: bool = query.fetch_one(&mut connection).await?;
        Ok(taken.then_some(connection))
    };
    let no_answer = |_| StoreError::Unavailable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
    timeout(ANSWER_TIMEOUT, attempt).await.map_err(no_answer)?
}

async fn keep(mut connection: PgConnection, options: PgConnectOptions) {
    loop {
        sleep(CHECK_EVERY).await;
        if !matches!(timeout(ANSWER_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
            tracing::warn!("the connection that keeps other servers off the database broke; making it again");
            connection = take_again(&options).await;
        }
    }
}

async fn take_again(options: &PgConnectOptions) -> PgConnection {
    let mut other_since = None;
    loop {
        match attempt(options).await {
            Ok(Some(connection)) => return connection,
            Ok(None) => {
                let since = *other_since.get_or_insert_with(Instant::now);
                if since.elapsed() > OWN_PATIENCE {
                    tracing::error!("another server uses this database: both take each other's runs; stop one of them");
                    other_since = None;
                }
            }
            // The database is gone; commits say so.
            Err(_) => other_since = None,
        }
        sleep(CHECK_EVERY).await;
    }
}
