//! What evaluating rules asks of each store: values of one run, and commits of many.
//!
//! `cargo bench -p gradwatch-store --bench alerts`; directory and cluster are made in `TMPDIR`. Prints medians.

mod run;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gradwatch_store::{
    Alert, AlertCommit, AlertCursor, AlertLane, AlertMoment, AlertState, NewNotification, ValuesQuery, ValuesSource,
    lineage::SegmentRange,
};
use gradwatch_test_postgres::TestDatabase;
use run::{open, run_commit, run_id, stream};
use serde_json::json;
use uuid::Uuid;

const RUNS: u64 = 64;
const STEPS: u64 = 10_000;
const ROUNDS: u64 = 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let database = TestDatabase::new();
    for database_url in [None, Some(database.url())] {
        runtime.block_on(measure(database_url));
    }
}

async fn measure(database_url: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let store = gradwatch_store::open(database_url, dir.path()).await.unwrap();
    for number in 0..RUNS {
        store.open_attempt(&open(number)).await.unwrap();
    }
    let owner_epoch = store.take_ownership(run_id(0)).await.unwrap().owner_epoch;
    for behind in (0..STEPS).step_by(1_000) {
        store.commit(&[run_commit(0, owner_epoch, behind, 1_000)]).await.unwrap();
    }
    let backend = store.durability().await.unwrap().backend;
    let sources = [
        ("3 metrics", ValuesSource::Stream(stream(), vec!["ratio", "gap", "norm_z"])),
        ("3 scalars", ValuesSource::Steps(["loss", "accuracy", "absent"].map(str::to_owned).to_vec())),
    ];
    for (what, source) in sources {
        for (rows, backwards) in [(STEPS as usize, false), (50, true)] {
            let ranges = vec![SegmentRange { segment: 1, from_step: 0, to_step: u64::MAX }];
            let query = ValuesQuery { run_id: run_id(0), source: source.clone(), ranges, backwards, limit: rows };
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                assert_eq!(store.values(&query).await.unwrap().len(), rows);
                times.push(begun.elapsed());
            }
            println!("{backend:>8}, {what} of {rows:>5} steps: {:>8.2} ms", median_ms(times));
        }
    }
    for alerts_per_run in [0, 8] {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let after = if alerts_per_run == 0 { round } else { ROUNDS + round };
            let commits: Vec<_> = (0..RUNS).map(|run| evaluation(run, after, alerts_per_run)).collect();
            let begun = Instant::now();
            assert!(store.commit_alerts(&commits).await.unwrap().into_iter().all(|landed| landed));
            times.push(begun.elapsed());
        }
        let alerts = RUNS * alerts_per_run;
        println!("{backend:>8}, {RUNS} cursors and {alerts:>3} alerts in a commit: {:>8.2} ms", median_ms(times));
    }
    store.close().await;
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Alerts that ended, each with a notification.
fn evaluation(run: u64, after_number: u64, alerts: u64) -> AlertCommit {
    let moment = AlertMoment { segment: 1, step: after_number, at_us: after_number as i64 };
    let alert = |number: u64| Alert {
        alert_id: Uuid::from_u64_pair(run, after_number * 1_000 + number),
        rule_id: Uuid::from_u64_pair(1, number),
        rule_name: format!("rule {number}"),
        rule_revision: 1,
        lane: AlertLane::Steps,
        run_id: run_id(run),
        project: String::new(),
        group: "all".to_owned(),
        state: AlertState::Resolved,
        severity: "warning".to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "vision".to_owned())]),
        annotations: BTreeMap::new(),
        summary: "edge.ratio fell below 1.2".to_owned(),
        receivers: vec!["pager".to_owned()],
        values: json!({"edge.ratio": 1.1}),
        pending: moment,
        fired: Some(moment),
        resolved: Some((moment, "condition".to_owned())),
        machine: Vec::new(),
    };
    let alerts: Vec<_> = (0..alerts).map(alert).collect();
    let notification = |alert: &Alert| NewNotification {
        receiver: "pager".to_owned(),
        group_key: format!("run {run}"),
        alert_id: alert.alert_id,
        state: AlertState::Resolved,
        content: json!({"summary": alert.summary, "labels": alert.labels, "values": alert.values}),
        created_at_us: after_number as i64,
    };
    AlertCommit {
        run_id: run_id(run),
        after_number,
        cursor: AlertCursor {
            lane: AlertLane::Steps,
            at: Some((1, after_number)),
            event_id: 0,
            number: after_number + 1,
            run_revision: (1, after_number),
        },
        notifications: alerts.iter().map(notification).collect(),
        forgotten: Vec::new(),
        alerts,
    }
}
