//! A database in trouble: locks that others hold, a schema that somebody changes, a server that becomes a standby.

use std::{sync::Arc, time::Duration};

use gradwatch_store::{Store, StoreError, postgres::PostgresStore};
use gradwatch_test_postgres::{Cluster, Proxy, TestDatabase};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::{Owner, address, open, recorded, run_id};

/// What recording needs never waits behind what others ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_no_other_session() {
    let database = TestDatabase::new();
    let store = Arc::new(PostgresStore::open(database.url()).await.unwrap());
    for run in [1, 2] {
        store.open_attempt(&open(run)).await.unwrap();
    }
    let owner = Owner::take(&store, 1).await;
    // Somebody in psql holds a run: whoever changes it waits, with every connection that there is for that.
    let mut admin = PgConnection::connect(database.url()).await.unwrap();
    admin.execute("BEGIN").await.unwrap();
    let held = run_id(2).0;
    sqlx::query("SELECT * FROM runs WHERE run_id = $1 FOR UPDATE").bind(held).execute(&mut admin).await.unwrap();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.take_ownership(run_id(2)).await })
        })
        .collect();
    while waiting_for_locks(database.url()).await < 2 {}
    // Nobody lets go before these have answered.
    store.commit(&[owner.next(3)]).await.unwrap();
    store.durability().await.unwrap();
    admin.execute("ROLLBACK").await.unwrap();
    for waiting in waiting {
        let answer = waiting.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    Owner::take(&store, 2).await;
}

/// How many sessions of servers wait for a lock.
async fn waiting_for_locks(url: &str) -> i64 {
    let mut admin = PgConnection::connect(url).await.unwrap();
    let count = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'gradwatch' AND wait_event_type = 'Lock'";
    sqlx::query_scalar(count).fetch_one(&mut admin).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_broken_for_a_while_rejects_nothing_for_good() {
    let database = TestDatabase::new();
    let store = PostgresStore::open(database.url()).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let mut owner = Owner::take(&store, 1).await;
    store.commit(&[owner.next(3)]).await.unwrap();
    (owner.commits, owner.mark) = (1, 3);
    let mut admin = PgConnection::connect(database.url()).await.unwrap();
    let partition: String =
        sqlx::query_scalar("SELECT tableoid::regclass::text FROM steps LIMIT 1").fetch_one(&mut admin).await.unwrap();
    let remainder = partition.rsplit('_').next().unwrap();
    let detach = format!("ALTER TABLE steps DETACH PARTITION {partition}");
    let attach =
        format!("ALTER TABLE steps ATTACH PARTITION {partition} FOR VALUES WITH (MODULUS 16, REMAINDER {remainder})");
    let troubles = [
        (
            "ALTER TABLE steps RENAME TO elsewhere".to_owned(),
            "ALTER TABLE elsewhere RENAME TO steps".to_owned(),
            "42P01",
        ),
        (detach, attach, "23514"),
    ];
    for (breaks, mends, code) in troubles {
        admin.execute(sqlx::AssertSqlSafe(breaks)).await.unwrap();
        let answer = store.commit(&[owner.next(3)]).await;
        let Err(StoreError::Unavailable(message)) = answer else { panic!("{answer:?}") };
        assert!(message.contains(code), "{message}");
        admin.execute(sqlx::AssertSqlSafe(mends)).await.unwrap();
        store.commit(&[owner.next(3)]).await.unwrap();
        (owner.commits, owner.mark) = (owner.commits + 1, owner.mark + 3);
    }
    assert_eq!(recorded(&store, 1).await.0, (1..=owner.mark).collect::<Vec<_>>());
}

/// After a fail-over the old primary, now a standby, refuses to write on connections that are still there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_only_reads_is_not_used_again() {
    let cluster = Cluster::start().unwrap();
    cluster.create_database("standby", None).unwrap();
    let url = cluster.url("standby");
    let store = PostgresStore::open(&url).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let owner = Owner::take(&store, 1).await;
    let mut admin = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    // A session takes this when it begins, and keeps it.
    admin.execute("ALTER DATABASE standby SET default_transaction_read_only = on").await.unwrap();
    let close = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'standby'";
    admin.execute(close).await.unwrap();
    loop {
        match store.commit(&[owner.next(3)]).await {
            Err(StoreError::Unavailable(message)) if message.contains("25006") => break,
            Err(StoreError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    admin.execute("ALTER DATABASE standby RESET default_transaction_read_only").await.unwrap();
    store.commit(&[owner.next(3)]).await.unwrap();
    assert_eq!(recorded(&store, 1).await.0, [1, 2, 3]);
}

/// Somebody holds a run in psql, and does not let go.
async fn hold_run(url: &str, run: u128) -> PgConnection {
    let mut admin = PgConnection::connect(url).await.unwrap();
    admin.execute("BEGIN").await.unwrap();
    let hold = sqlx::query("SELECT * FROM runs WHERE run_id = $1 FOR UPDATE").bind(run_id(run).0);
    hold.execute(&mut admin).await.unwrap();
    admin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_somebody_holds_is_unavailable_until_they_let_go() {
    let database = TestDatabase::new();
    let store = PostgresStore::open(database.url()).await.unwrap();
    store.open_attempt(&open(1)).await.unwrap();
    let owner = Owner::take(&store, 1).await;
    let mut admin = hold_run(database.url(), 1).await;
    let commit = [owner.next(3)];
    let (committed, taken) = tokio::join!(store.commit(&commit), store.take_ownership(run_id(1)));
    // Lock not available: the database gave the wait up, not we the answer.
    for error in [committed.map(drop).unwrap_err(), taken.map(drop).unwrap_err()] {
        assert!(matches!(&error, StoreError::Unavailable(message) if message.contains("55P03")), "{error:?}");
    }
    admin.execute("ROLLBACK").await.unwrap();
    store.commit(&commit).await.unwrap();
    assert_eq!(recorded(&store, 1).await.0, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_unavailable_and_comes_back() {
    let database = TestDatabase::new();
    let proxy = Proxy::start(address(database.url())).await.unwrap();
    let store = Arc::new(PostgresStore::open(&proxy.url(database.url())).await.unwrap());
    store.open_attempt(&open(1)).await.unwrap();
    let owner = Owner::take(&store, 1).await;
    // A commit is in the middle of it when the answers stop to come.
    let mut admin = hold_run(database.url(), 1).await;
    let commit = owner.next(3);
    let committing = tokio::spawn({
        let (store, commit) = (Arc::clone(&store), commit.clone());
        async move { store.commit(&[commit]).await }
    });
    while !committing.is_finished() && waiting_for_locks(database.url()).await == 0 {}
    proxy.stall(true);
    // All that is asked meanwhile ends; generous, because what decides is that it does.
    let patience = Duration::from_secs(120);
    let (committed, read, durability) =
        timeout(patience, async { tokio::join!(committing, store.last_commit_seq(), store.durability()) })
            .await
            .expect("an answer while the database hangs");
    for error in [committed.unwrap().map(drop), read.map(drop), durability.map(drop)].map(Result::unwrap_err) {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    admin.execute("ROLLBACK").await.unwrap();
    proxy.stall(false);
    let recovering = async {
        while store.commit(std::slice::from_ref(&commit)).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(patience, recovering).await.expect("the database is used again");
    assert_eq!(recorded(&store, 1).await.0, [1, 2, 3]);
}
