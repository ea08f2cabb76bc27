//! A server that ends in the middle of an analysis, and a store that fails: afterwards the analysis is the one it would have
//! been.

use std::{sync::Arc, time::Duration};

use gradwatch_client::Encoding;
use gradwatch_store::{Store, postgres::PostgresStore, sqlite::SqliteStore};
use gradwatch_tests::{
    Backend, CrashingServer, Fault, FaultyStore, Job, Place, Planned, Rest, assert_readings, on_both_backends,
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Made, STEPS, begin, done, path, readings, until};

on_both_backends!(
    a_server_that_ends_goes_on_from_the_last_commit,
    a_store_that_fails_costs_nothing,
    what_a_running_analysis_reads_stays_while_the_run_goes_on,
);

/// A server on a store that breaks when it is told to.
async fn server(place: &Place, keep_sketches: usize) -> (Arc<FaultyStore>, CrashingServer) {
    let inner: Arc<dyn Store> = match place.database_url() {
        Some(url) => Arc::new(PostgresStore::open(url).await.expect("a store")),
        None => Arc::new(SqliteStore::open(place.data_dir()).await.expect("a store")),
    };
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, place.data_dir(), |config| {
        config.keep_sketches = keep_sketches;
    });
    (store, server.await)
}

async fn assert_wide(rest: &Rest, made: &Made, run_id: uuid::Uuid) {
    let analysis = done(rest, run_id, "wide").await;
    assert_eq!(analysis["readings"], 2 * (STEPS + STEPS / 3), "{analysis}");
    for (group, every) in &made.options.groups {
        for (window, expected) in [7, 20].iter().zip(&made.offline(*every, &[7, 20]).readings) {
            let stream = format!("group={group}&window={window}");
            assert_readings(&readings(rest, run_id, "wide", &stream).await, expected);
        }
    }
}

async fn a_server_that_ends_goes_on_from_the_last_commit(backend: Backend) {
    let place = Place::new(backend);
    let (store, server) = server(&place, 512).await;
    let rest = Rest::new(&server.url());
    let made = Made::new(&[("often", 1), ("seldom", 3)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    store.hold_analyses();
    begin(&rest, run_id, &json!({ "name": "wide", "windows": [7, 20] })).await;
    let wide = path(run_id, "wide");
    let mut rows = 0;
    // Each may make one commit more than it is allowed, in the middle of which it ends. There are five.
    for _ in 0..2 {
        // What is allowed may be taken by the server that has crashed, which is at work for an instant still and commits
        // nothing any more: then the next is allowed one too.
        let stands = loop {
            store.allow_analysis_commits(1);
            let commit = until(&rest, &wide, "a commit", |it| it["rows_done"].as_u64() > Some(rows));
            if let Ok(stands) = timeout(Duration::from_secs(7), commit).await {
                break stands;
            }
        };
        rows = stands["rows_done"].as_u64().expect("a number");
        assert_eq!(stands["state"], "running", "{stands}");
        server.crash().await;
    }
    assert!(rows < (STEPS + STEPS / 3) as u64, "it was over before the server ended");
    store.allow_analysis_commits(1_000);
    assert_wide(&rest, &made, run_id).await;
    assert_eq!(store.violations(), Vec::<String>::new());
    server.stop().await;
}

async fn a_store_that_fails_costs_nothing(backend: Backend) {
    let place = Place::new(backend);
    let (store, server) = server(&place, 512).await;
    let rest = Rest::new(&server.url());
    let made = Made::new(&[("often", 1), ("seldom", 3)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    let faults = [Fault::Before, Fault::Behind, Fault::Cut(3), Fault::Behind, Fault::Cut(9)];
    store.plan_analyses(faults.map(|fault| Planned { after: 1, fault }));
    begin(&rest, run_id, &json!({ "name": "wide", "windows": [7, 20] })).await;
    assert_wide(&rest, &made, run_id).await;
    assert_eq!(store.violations(), Vec::<String>::new());
    server.stop().await;
}

async fn what_a_running_analysis_reads_stays_while_the_run_goes_on(backend: Backend) {
    const KEEP: usize = 64;
    let place = Place::new(backend);
    let (store, server) = server(&place, KEEP).await;
    let rest = Rest::new(&server.url());
    let made = Made::new(&[("all", 1)]);
    let mut job = Job::open(&server.url(), &made.options);
    let run_id = job.run_id();
    let (before, after) = made.parameters.split_at(61);
    for (step, parameters) in (0..).zip(before) {
        job.submit(step, parameters);
    }
    job.settled(61).await;
    store.hold_analyses();
    let begun = begin(&rest, run_id, &json!({ "name": "wide", "windows": [7, 20] })).await;
    assert_eq!((&begun["rows_total"], &begun["marks"]), (&json!(60), &json!([{ "segment": 1, "step": 60 }])));
    // More than is kept comes behind its mark.
    for (step, parameters) in (61..).zip(after) {
        job.submit(step, parameters);
    }
    job.close().await;
    server.crash().await;
    store.allow_analysis_commits(1_000);
    let analysis = done(&rest, run_id, "wide").await;
    assert_eq!(analysis["readings"], 120, "{analysis}");
    for (window, expected) in [7, 20].iter().zip(&made.offline(1, &[7, 20]).readings) {
        assert_readings(&readings(&rest, run_id, "wide", &format!("window={window}")).await, &expected[..60]);
    }
    // What was held back goes with the next that goes.
    let mut job = Job::open_with(&server.url(), &made.options, |builder| builder.run_id(run_id).unrelated());
    for (step, parameters) in (0..).zip(&made.parameters) {
        job.submit(step, parameters);
    }
    job.close().await;
    let last = begin(&rest, run_id, &json!({ "name": "last", "windows": [3] })).await;
    let rows = last["rows_total"].as_u64().expect("a number");
    assert!((64..128).contains(&rows), "{last}");
    done(&rest, run_id, "last").await;
    server.stop().await;
}
