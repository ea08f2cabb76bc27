//! Runs that never see a server, and what damage costs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use gradwatch_client::{Outcome, Spool};
use gradwatch_tests::{Job, TestServer};
use serde_json::Value;

use crate::{BUFFER_BYTES, STEPS, Training, assert_empty, close, deliver, spooled, the_one};

/// An address where nobody has to be.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_a_server_is_whole_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let mut job = training.open_offline(NOWHERE, dir.path());
    let run_id = job.run_id();
    training.train(&mut job, STEPS);
    let closing = Instant::now();
    let report = close(job).await;
    // Its close timeout is 60 s: nothing waits for a server.
    assert!(closing.elapsed().as_secs() < 30);
    assert_eq!((report.submitted, report.spooled, report.undelivered), (STEPS, STEPS, 0), "{report}");
    assert_eq!((&report.reason, report.spool_dir.as_deref()), (&None, Some(dir.path())));
    let words = report.to_string();
    assert!(words.contains(&format!("{STEPS} wait in {}", dir.path().display())), "{words}");

    let left = the_one(dir.path());
    assert_eq!((left.frames, left.outcome, left.live), (STEPS, Some(Outcome::Finished), false));
    assert!(left.oldest_at.is_some() && left.bytes > STEPS * 1024, "{left:?}");
    let server = TestServer::start().await;
    let delivered = deliver(&left, &server.url()).await.expect("the server takes it");
    assert_eq!((delivered.settled, delivered.finished), (STEPS, true), "{delivered:?}");
    training.assert_whole(&server.rest(), run_id).await;
    assert_eq!(server.rest().get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");
    assert_empty(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launches_that_resume_each_other_and_rewinds_come_in_their_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let mut job = training.open_offline(NOWHERE, dir.path());
    let (run_id, first) = (job.run_id(), job.run.attempt_id());
    training.train(&mut job, 40);
    // Back to step 30, which is an attempt of its own.
    training.next_step = 30;
    training.train(&mut job, 20);
    let second = job.run.attempt_id();
    let report = tokio::task::spawn_blocking(move || job.run.close_with(Outcome::Preempted)).await.expect("no panic");
    assert_eq!((report.submitted, report.spooled), (60, 60), "{report}");
    let mut job = Job::open_with(NOWHERE, &training.options, |builder| {
        builder.run_id(run_id).resume_from(second, 49).spool(Spool::new(dir.path())).offline()
    });
    let third = job.run.attempt_id();
    training.train(&mut job, 10);
    close(job).await;

    let found = gradwatch_client::spool::scan(dir.path()).expect("the folder is read");
    let attempts: Vec<_> = found.iter().map(|it| (it.attempt_id, it.resumes, it.frames, it.outcome)).collect();
    let expected = [
        (first, None, 40, None),
        (second, Some((first, 29)), 20, Some(Outcome::Preempted)),
        (third, Some((second, 49)), 10, Some(Outcome::Finished)),
    ];
    assert_eq!(attempts, expected);
    let server = TestServer::start().await;
    for attempt in &found {
        deliver(attempt, &server.url()).await.expect("the server takes it");
    }
    assert_empty(dir.path());
    let rest = server.rest();
    let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=1000")).await;
    let places: Vec<(u64, u64)> =
        steps.iter().map(|step| (step["segment"].as_u64().unwrap_or(0), step["step"].as_u64().unwrap_or(0))).collect();
    let line =
        (0..30).map(|step| (1, step)).chain((30..50).map(|step| (2, step))).chain((50..60).map(|step| (3, step)));
    assert_eq!(places, line.collect::<Vec<_>>());
    assert_eq!(rest.get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");
}

/// The log's files, in order.
fn logs(attempt: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(attempt).expect("a folder").map(|file| file.expect("a file").path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    logs.sort();
    logs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_costs_what_it_hit_and_the_server_is_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    // Files of an eighth of this.
    let spool = || Spool::new(dir.path()).max_bytes(4 << 20);
    let mut job = Job::open_with(NOWHERE, &training.options, |builder| {
        builder.buffer_bytes(BUFFER_BYTES).spool(spool()).offline()
    });
    let run_id = job.run_id();
    training.train(&mut job, STEPS);
    close(job).await;
    let files = logs(&the_one(dir.path()).path);
    assert!(files.len() > 3, "{files:?}");
    // The middle of the second file, and the end of the last: there goes how the run ended.
    let mut second = fs::read(&files[1]).expect("a file");
    let middle = second.len() / 2;
    second[middle] ^= 16;
    fs::write(&files[1], second).expect("a file");
    let last = files.last().expect("files");
    let length = fs::metadata(last).expect("a file").len();
    fs::File::options().write(true).open(last).and_then(|file| file.set_len(length - 40)).expect("a file");

    let left = the_one(dir.path());
    assert_eq!((left.damage.len(), left.outcome), (2, None), "{left:?}");
    let server = TestServer::start().await;
    let delivered = deliver(&left, &server.url()).await.expect("the server takes it");
    assert_eq!((delivered.settled, delivered.finished), (left.frames, false), "{delivered:?}");
    assert_empty(dir.path());
    let rest = server.rest();
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!(run["counters"]["steps"], left.frames);
    let lossy = rest.all(&format!("/api/v1/runs/{run_id}/events?types=run.lossy&limit=10")).await;
    let [hole] = &lossy[..] else { panic!("{lossy:?}") };
    // What the torn end held is not known to have been there.
    let missing = run["counters"]["dropped"].as_u64().expect("a number");
    assert!((STEPS - 1..=STEPS).contains(&(left.frames + missing)), "{missing} and {}", left.frames);
    // A frame's seq is its step + 1.
    let evidence = |name: &str| match &hole["evidence"][name] {
        Value::String(text) => text.parse::<u64>().expect("a seq"),
        number => number.as_u64().expect("a step"),
    };
    assert_eq!(evidence("from_seq"), evidence("first_step") + 1);
    assert_eq!(evidence("to_seq"), evidence("last_step") + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_limit_costs_is_counted_and_the_run_is_lossy() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let max_bytes = 1 << 20;
    let mut job = Job::open_with(NOWHERE, &training.options, |builder| {
        builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(dir.path()).max_bytes(max_bytes)).offline()
    });
    let run_id = job.run_id();
    training.train(&mut job, STEPS);
    let report = close(job).await;
    assert!(report.dropped > 0 && report.spooled > 0, "{report}");
    assert_eq!((report.dropped + report.spooled, report.undelivered), (STEPS, 0), "{report}");
    let left = the_one(dir.path());
    assert_eq!(left.frames, report.spooled);
    assert!(left.bytes <= max_bytes && left.bytes > max_bytes / 2, "{left:?}");
    let server = TestServer::start().await;
    let delivered = deliver(&left, &server.url()).await.expect("the server takes it");
    assert_eq!((delivered.settled, delivered.finished), (report.spooled, true));
    let rest = server.rest();
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!(
        (&run["counters"]["dropped"], &run["counters"]["steps"]),
        (&report.dropped.into(), &report.spooled.into())
    );
    assert_eq!(run["state"], "finished");
    assert_eq!(rest.get("/api/v1/overview").await["lossy"][0]["run_id"], run_id.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_frames_is_told_to_be_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let job = Training::new().open_offline(NOWHERE, dir.path());
    let run_id = job.run_id();
    let report = close(job).await;
    assert_eq!((report.submitted, report.spool_dir.as_deref(), report.reason), (0, Some(dir.path()), None));
    let server = TestServer::start().await;
    let delivered = deliver(&the_one(dir.path()), &server.url()).await.expect("the server takes it");
    assert_eq!((delivered.settled, delivered.finished), (0, true), "{delivered:?}");
    assert_empty(dir.path());
    assert_eq!(server.rest().get(&format!("/api/v1/runs/{run_id}")).await["state"], "finished");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_is_deleted_costs_what_was_in_it_and_is_made_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let mut job = training.open_offline(NOWHERE, dir.path());
    let run_id = job.run_id();
    training.train(&mut job, 200);
    spooled(&job, 200).await;
    fs::remove_dir_all(dir.path().join(run_id.to_string())).expect("it is there");
    training.train(&mut job, 60);
    let report = close(job).await;
    assert_eq!((report.dropped, report.spooled, report.undelivered), (200, 60, 0), "{report}");
    let server = TestServer::start().await;
    let delivered = deliver(&the_one(dir.path()), &server.url()).await.expect("the server takes it");
    assert_eq!((delivered.settled, delivered.finished), (60, true), "{delivered:?}");
    let run = server.rest().get(&format!("/api/v1/runs/{run_id}")).await;
    assert_eq!((&run["counters"]["dropped"], &run["counters"]["steps"]), (&200.into(), &60.into()), "{run}");
    assert_empty(dir.path());
}
