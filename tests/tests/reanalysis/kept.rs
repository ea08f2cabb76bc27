//! Which rows are kept: as many as are to be, with their acknowledgement, whatever happens to the server.

use gradwatch_client::Encoding;
use gradwatch_tests::{
    Backend, Job, Place, Rest, ServerProcess, TestServer, any_port, assert_readings, on_both_backends,
};
use http::Method;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Made, STEPS, analyse, readings};

on_both_backends!(rows_survive_a_server_that_is_killed,);

/// The rows that are kept of each group.
async fn kept(rest: &Rest, run_id: Uuid, group: &str, name: &str) -> Vec<u64> {
    analyse(rest, run_id, json!({ "name": name, "windows": [3], "group": group })).await;
    let steps = readings(rest, run_id, name, "").await;
    steps.iter().map(|reading| reading["step"].as_u64().expect("a step")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_rows_of_each_group_are_kept() {
    const KEEP: u64 = 70;
    let server = TestServer::start_with(|config| config.keep_sketches = KEEP as usize).await;
    let made = Made::new(&[("often", 1), ("seldom", 5)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    let rest = server.rest();
    let often = kept(&rest, run_id, "often", "often").await;
    let last = STEPS as u64;
    assert!((KEEP..KEEP + 64).contains(&(often.len() as u64)), "{often:?}");
    assert_eq!(often, (last + 1 - often.len() as u64..=last).collect::<Vec<_>>());
    assert_eq!(kept(&rest, run_id, "seldom", "seldom").await, (5..=last).step_by(5).collect::<Vec<_>>());
    // After a restart the same are kept, and as few.
    let server = server.restart().await;
    let rest = server.rest();
    assert_eq!(kept(&rest, run_id, "often", "again").await, often);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_take_no_more_bytes_than_they_may() {
    // A row is 64 float32 entries, a learning rate and its head.
    const ROW_BYTES: u64 = 4 * 64 + 29;
    const LIMIT: u64 = 100 * ROW_BYTES;
    let server = TestServer::start_with(|config| config.limits.max_sketch_bytes = LIMIT).await;
    let made = Made::new(&[("often", 1), ("seldom", 5)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    let analysis = analyse(&server.rest(), run_id, json!({ "name": "all", "windows": [3] })).await;
    let rows = analysis["rows_total"].as_u64().expect("a number");
    assert!(rows <= 100 && rows > 30, "{analysis}");
    let newest = readings(&server.rest(), run_id, "all", "group=often").await;
    assert_eq!(newest.last().map(|reading| &reading["step"]), Some(&json!(STEPS)));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let server = TestServer::start_with(|config| config.keep_sketches = 0).await;
    let made = Made::new(&[("all", 1)]);
    let run_id = made.stream(&server.url(), Encoding::F32).await;
    let body = json!({ "name": "any", "windows": [3] }).to_string();
    let problem = server.rest().problem(Method::POST, &format!("/api/v1/runs/{run_id}/reanalyze"), &body).await;
    assert_eq!((&problem["status"], &problem["code"]), (&json!(409), &json!("conflict")), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("keep_sketches")), "{problem}");
    server.shutdown().await;
}

async fn rows_survive_a_server_that_is_killed(backend: Backend) {
    let made = Made::new(&[("often", 1), ("seldom", 3)]);
    let place = Place::new(backend);
    let mut server = ServerProcess::start_in(&place, any_port());
    let address = server.address();
    let mut job = Job::open(&server.url(), &made.options);
    let run_id = job.run_id();
    for (step, parameters) in (0..).zip(&made.parameters) {
        job.submit(step, parameters);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        if [30, 75, 150].contains(&step) {
            server.kill();
            server = ServerProcess::start_in(&place, address);
        }
    }
    job.close().await;
    server.kill();
    server = ServerProcess::start_in(&place, address);
    let rest = Rest::new(&server.url());
    analyse(&rest, run_id, json!({ "name": "wide", "windows": [8, 10] })).await;
    for (group, every) in &made.options.groups {
        for (window, expected) in [8, 10].iter().zip(&made.offline(*every, &[8, 10]).readings) {
            let stream = format!("group={group}&window={window}");
            assert_readings(&readings(&rest, run_id, "wide", &stream).await, expected);
        }
    }
    assert_eq!(server.errors(), Vec::<String>::new());
}
