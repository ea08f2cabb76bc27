//! A run that ends while its server is away.

use std::time::Duration;

use gradwatch_client::{Outcome, Spool};
use gradwatch_tests::{Job, PATIENCE};
use tokio::time::timeout;

use crate::{BUFFER_BYTES, Training, close, the_one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_run_waits_in_the_spool_and_not_for_a_server_that_is_away() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut training = Training::new();
    let mut job = Job::open_with("http://127.0.0.1:1", &training.options, |builder| {
        let half_a_day = Duration::from_secs(12 * 60 * 60);
        builder.buffer_bytes(BUFFER_BYTES).spool(Spool::new(dir.path())).close_timeout(half_a_day)
    });
    training.train(&mut job, 50);
    let report = timeout(PATIENCE, close(job)).await.expect("nobody waits half a day");
    assert_eq!((report.settled, report.spooled, report.undelivered), (0, 50, 0), "{report}");
    assert_eq!(the_one(dir.path()).outcome, Some(Outcome::Finished));
}
