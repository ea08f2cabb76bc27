//! Promise 1 under load: SIGKILL at any instant loses no acknowledged frame, stores none twice, and changes no reading.
//! `cargo xtask torture` is the same, longer.

use std::time::Duration;

use gradwatch_tests::torture::{Options, torture};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_that_was_acknowledged() {
    let kills = 6;
    let pause = Duration::from_millis(800);
    let options = Options { kills, database_kills: 0, pause, seed: 7, shards: 1, database: None };
    let report = torture(options, |_| {}).await;
    assert_eq!(report.kills, kills);
    assert!(report.frames_acknowledged > 0, "{report:?}");
}
