//! The client against a scriptable peer: a real gRPC server that keeps the protocol, except where a test tells it not
//! to.

mod delivery;
mod hostile;
mod large;
mod layer_mistakes;
mod memory;
mod misuse;
mod payloads;
mod peer;
mod repeatable;
mod rewind;
mod schedules;
mod snapshots;

use std::time::{Duration, Instant};

use gradwatch_client::{CloseReport, Frame, Run, RunBuilder};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run with one small group, `all`, of one tensor, `w`.
fn small_run(server: &str) -> RunBuilder {
    Run::builder(server).project("p").name("n").group("all", [("w", 100)]).sketch_dim(64).close_timeout(PATIENCE)
}

fn weights(step: u64) -> Vec<f32> {
    (0..100).map(|i| (step * 31 + i) as f32 * 0.125).collect()
}

fn submit(run: &mut Run, steps: impl IntoIterator<Item = u64>) {
    for step in steps {
        let weights = weights(step);
        run.submit(step, Frame::new().scalar("loss", step as f64).parameters("all", [("w", &weights)])).unwrap();
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn assert_all_settled(report: &CloseReport, frames: u64) {
    assert_eq!(
        (report.submitted, report.settled, report.dropped, report.rejected, report.undelivered),
        (frames, frames, 0, 0, 0),
        "{report}"
    );
    assert_eq!(report.reason, None);
}

#[track_caller]
fn assert_adds_up(report: &CloseReport) {
    assert_eq!(report.submitted, report.settled + report.dropped + report.rejected + report.undelivered, "{report}");
}
