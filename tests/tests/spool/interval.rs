//! Another update interval in the middle of a run.

use gradwatch_client::SubmitError;
use gradwatch_tests::{Job, TestServer};

use crate::Training;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_of_both_intervals_are_there() {
    let server = TestServer::start().await;
    let mut training = Training::new();
    let mut job = Job::open_with(&server.url(), &training.options, |builder| builder.update_interval(2));
    let run_id = job.run_id();
    assert_eq!(job.run.change_update_interval(0, 0), Err(SubmitError::ZeroInterval));
    let first = job.run.attempt_id();
    training.train(&mut job, 41);
    // The same interval changes nothing.
    job.run.change_update_interval(41, 2).expect("an open run");
    assert_eq!(job.run.attempt_id(), first);
    job.run.change_update_interval(41, 5).expect("an open run");
    assert_ne!(job.run.attempt_id(), first);
    training.train(&mut job, 60);
    job.close().await;

    let rest = server.rest();
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000")).await;
    let places: Vec<(u64, u64)> =
        readings.iter().map(|it| (it["segment"].as_u64().unwrap_or(0), it["step"].as_u64().unwrap_or(0))).collect();
    // Step 0 and step 41 are bases.
    let expected = (2..=40).step_by(2).map(|step| (1, step)).chain((46..=100).step_by(5).map(|step| (2, step)));
    assert_eq!(places, expected.collect::<Vec<_>>());
    // The window starts again and is full again.
    let rows: Vec<u64> = readings.iter().filter_map(|it| it["rows"].as_u64()).collect();
    assert_eq!((rows[19], rows[20], rows.last()), (10, 1, Some(&10)));
    let segments = rest.get(&format!("/api/v1/runs/{run_id}/segments")).await;
    assert_eq!(segments["items"][1]["resumes"]["step"], 40, "{segments}");
    let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=1000")).await;
    assert_eq!(steps.len(), 101, "what was said beside the rows is of every step");
}
