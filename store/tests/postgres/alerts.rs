//! What alerts hold in a database keeps no commit waiting.

use std::sync::Arc;

use gradwatch_store::{AlertCommit, AlertCursor, AlertLane, AlertStore, Store, postgres::PostgresStore};
use gradwatch_test_postgres::TestDatabase;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{Owner, open, run_id};

fn evaluation(run: u128) -> AlertCommit {
    AlertCommit {
        run_id: run_id(run),
        after_number: 0,
        cursor: AlertCursor { lane: AlertLane::Steps, at: None, event_id: 0, number: 1, run_revision: (0, 0) },
        alerts: Vec::new(),
        forgotten: Vec::new(),
        notifications: Vec::new(),
    }
}

/// Waits until as many statements wait for a lock as said.
async fn until_waiting(connection: &mut PgConnection, wanted: i64) {
    let select = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        let waiting: i64 = sqlx::query_scalar(select).fetch_one(&mut *connection).await.unwrap();
        if waiting == wanted {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// An evaluation that hangs has the runs in its hands, and another waits behind it: the same runs are recorded, and others
/// opened. The run's deletion alone waits for it, and takes what it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_that_hangs_keeps_no_commit_waiting() {
    let database = TestDatabase::new();
    let store = Arc::new(PostgresStore::open(database.url()).await.unwrap());
    for run in 1..=2 {
        store.open_attempt(&open(run)).await.unwrap();
    }
    let owner = Owner::take(&store, 1).await;
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    let mut observer = PgConnection::connect(database.url()).await.unwrap();
    other.execute("BEGIN; LOCK TABLE alert_cursors IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let evaluate = |run: u128| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit_alerts(&[evaluation(1), evaluation(run)]).await })
    };
    let first = evaluate(2);
    until_waiting(&mut observer, 1).await;
    let second = evaluate(9);
    until_waiting(&mut observer, 2).await;

    store.commit(&[owner.next(3)]).await.unwrap();
    store.open_attempt(&open(3)).await.unwrap();
    store.mark_deleting(run_id(1)).await.unwrap();
    let purging = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { while !store.purge(run_id(1), 100).await.unwrap() {} })
    };
    until_waiting(&mut observer, 3).await;

    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(first.await.unwrap().unwrap(), [true, true]);
    assert_eq!(second.await.unwrap().unwrap(), [false, false]);
    purging.await.unwrap();
    assert!(store.alert_cursors(run_id(1)).await.unwrap().is_empty());
    assert_eq!(store.alert_cursors(run_id(2)).await.unwrap().len(), 1);
    store.close().await;
}
