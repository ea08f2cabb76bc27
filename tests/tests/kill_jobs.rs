//! Jobs with a spool that are killed at any instant, with servers and syncs that are killed too: what was acknowledged is
//! stored once, what was on disk arrives. `cargo xtask torture clients` is the same, longer.

use std::time::Duration;

use gradwatch_tests::killed_jobs::{Mode, Options, Report, kill_jobs};

async fn kills(mode: Mode) -> Report {
    let options = Options { kills: 5, mode, lifetime: Duration::from_millis(400), seed: 11 };
    let report = kill_jobs(options, |_| {}).await;
    assert!(report.kills >= 5 && report.frames > 0, "{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online() {
    kills(Mode::Online).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline() {
    let report = kills(Mode::Offline).await;
    assert_eq!((report.acknowledged, report.from_disk), (0, report.frames), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_server_that_is_away_half_of_the_time() {
    kills(Mode::Away).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_is_full_at_times() {
    kills(Mode::FullDisk).await;
}
