//! A run that is deleted under the hands of its job: the job is told, trains on, and the run does not come back.

use std::time::Duration;

use gradwatch_tests::{
    Backend, Job, JobOptions, Offline, PATIENCE, Peer, Rest, TENSOR, TestServer, assert_readings, exact_sketches,
    on_both_backends, open_request, random_walk, rows, spec,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::Code;
use uuid::Uuid;

on_both_backends!(a_run_deleted_while_its_job_streams_stays_gone,);

const BEFORE: u64 = 50;
const AFTER: u64 = 150;

fn options() -> JobOptions {
    JobOptions { len: 500, ..JobOptions::default() }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let looking = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn run_ids(rest: &Rest) -> Vec<Value> {
    let runs = rest.all("/api/v1/runs?limit=100").await;
    runs.into_iter().map(|run| run["run_id"].clone()).collect()
}

async fn delete(rest: &Rest, run_id: Uuid) {
    let (status, body) = rest.call(Method::DELETE, &format!("/api/v1/runs/{run_id}"), "").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
}

/// The readings of a job that submitted steps 0 to the last of `parameters` and was not disturbed.
async fn assert_undisturbed(rest: &Rest, run_id: Uuid, parameters: &[Vec<f32>]) {
    let options = options();
    let sketches = exact_sketches(parameters, TENSOR, options.dim, options.seed);
    let expected = Offline::compute(&rows(sketches, 1), &options.windows, options.len);
    let run = format!("/api/v1/runs/{run_id}");
    assert_readings(&rest.all(&format!("{run}/readings/edge?limit=1000")).await, &expected.readings[0]);
    let disturbed = rest.all(&format!("{run}/events?types=window.restarted,run.lossy&limit=10")).await;
    assert_eq!(disturbed, Vec::<Value>::new());
}

async fn a_run_deleted_while_its_job_streams_stays_gone(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let options = options();
    let parameters = random_walk(11, (BEFORE + AFTER) as usize, options.len);
    let mut deleted = Job::open(&server.url(), &options);
    let mut kept = Job::open(&server.url(), &options);
    let (deleted_id, kept_id) = (deleted.run_id(), kept.run_id());
    for step in 0..BEFORE {
        deleted.submit(step, &parameters[step as usize]);
        kept.submit(step, &parameters[step as usize]);
    }
    until("both are heard", || deleted.run.status().settled > 0 && kept.run.status().settled > 0).await;
    assert_eq!(run_ids(&rest).await.len(), 2);

    delete(&rest, deleted_id).await;
    assert_eq!(run_ids(&rest).await, [json!(kept_id.to_string())]);
    // Neither job notices anything: a submission that is refused panics here.
    for step in BEFORE..=BEFORE + AFTER {
        deleted.submit(step, &parameters[step as usize]);
        kept.submit(step, &parameters[step as usize]);
        sleep(Duration::from_millis(1)).await;
    }
    until("the deleted job's stream ends", || !deleted.run.status().connected).await;
    let report = deleted.close_lossy().await;
    assert_eq!((report.submitted, report.rejected), (BEFORE + AFTER + 1, 0), "{report}");
    assert_eq!(report.settled + report.dropped + report.undelivered, report.submitted, "{report}");
    assert!(report.settled > 0 && report.undelivered > 0, "{report}");
    let reason = report.reason.clone().expect("a reason");
    assert!(reason.contains("gone") || reason.contains("deleted"), "{reason}");
    assert!(reason.contains(&deleted_id.to_string()), "{reason}");
    kept.close().await;

    // Also once all rows are purged, when nothing keeps the id from being taken.
    let mut peer = Peer::connect(&server.url()).await;
    let mut request = open_request(spec());
    request.run_id = deleted_id.to_string();
    let status = peer.open_stream(&request).await.err().expect("the run is gone");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(run_ids(&rest).await, [json!(kept_id.to_string())]);
    assert_eq!(rest.refused(&format!("/api/v1/runs/{deleted_id}")).await.0, 404);
    assert_undisturbed(&rest, kept_id, &parameters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_comes_back_to_a_deleted_run_does_not_make_it_anew() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let options = options();
    let parameters = random_walk(12, (BEFORE + AFTER) as usize, options.len);
    let mut jobs = [Job::open(&server.url(), &options), Job::open(&server.url(), &options)];
    for step in 0..BEFORE {
        jobs.iter_mut().for_each(|job| job.submit(step, &parameters[step as usize]));
    }
    until("both are settled", || jobs.iter().all(|job| job.run.status().settled == BEFORE)).await;
    let [mut deleted, mut kept] = jobs;
    let (deleted_id, kept_id) = (deleted.run_id(), kept.run_id());
    delete(&rest, deleted_id).await;
    let server = server.restart().await;
    let rest = server.rest();
    // The job goes back: what would have been acknowledged is there no more, so the attempt that resumes it is refused.
    for step in BEFORE..=BEFORE + AFTER {
        kept.submit(step, &parameters[step as usize]);
        deleted.submit(step - BEFORE / 2, &parameters[step as usize]);
    }
    kept.close().await;
    let report = deleted.close_lossy().await;
    assert_eq!((report.submitted, report.settled), (BEFORE + AFTER + 1, BEFORE), "{report}");
    assert_eq!(report.undelivered, AFTER + 1, "{report}");
    let reason = report.reason.clone().expect("a reason");
    // Whether it comes before or after its rows were purged.
    assert!(reason.contains("the run has no attempt") || reason.contains("deleted"), "{reason}");
    assert_eq!(run_ids(&rest).await, [json!(kept_id.to_string())]);
    assert_eq!(rest.refused(&format!("/api/v1/runs/{deleted_id}")).await.0, 404);
    assert_undisturbed(&rest, kept_id, &parameters).await;
}
