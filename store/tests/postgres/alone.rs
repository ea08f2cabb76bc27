//! One server works on a database; commands may open it meanwhile.

use std::time::Duration;

use gradwatch_store::{Store, StoreError, postgres::PostgresStore};
use gradwatch_test_postgres::TestDatabase;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{sleep, timeout};

/// The session that keeps other servers off, if there is one.
async fn holder(admin: &mut PgConnection) -> Option<i32> {
    let select = "SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
                  WHERE locktype = 'advisory' AND granted AND datname = current_database()";
    sqlx::query_scalar(select).fetch_optional(admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_until_the_first_has_stopped() {
    let database = TestDatabase::new();
    let first = PostgresStore::open_alone(database.url()).await.unwrap();
    let Err(StoreError::Database(message)) = PostgresStore::open_alone(database.url()).await.map(drop) else {
        panic!("opened twice")
    };
    assert!(message.contains("another server"), "{message}");
    // What a command does.
    let command = PostgresStore::open(database.url()).await.unwrap();
    assert_eq!(command.tokens().await.unwrap(), []);

    // A server that starts while the first one still drains waits for it.
    let url = database.url().to_owned();
    let starting = tokio::spawn(async move { PostgresStore::open_alone(&url).await });
    first.durability().await.unwrap();
    first.close().await;
    let second = starting.await.unwrap().unwrap();
    // Also without having been closed.
    drop(second);
    PostgresStore::open_alone(database.url()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_connection_breaks_keeps_others_off_again() {
    let database = TestDatabase::new();
    let store = PostgresStore::open_alone(database.url()).await.unwrap();
    let mut admin = PgConnection::connect(database.url()).await.unwrap();
    let first = holder(&mut admin).await.expect("a server works on it");
    admin.execute(sqlx::query("SELECT pg_terminate_backend($1)").bind(first)).await.unwrap();
    let again = async {
        while holder(&mut admin).await.is_none_or(|pid| pid == first) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(60), again).await.expect("it has the lock again");
    store.durability().await.unwrap();
}
