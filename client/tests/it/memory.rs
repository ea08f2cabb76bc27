//! What waits for the server never takes more than it was given, and what is given up is counted exactly.

use gradwatch_client::{Frame, Run, Status};

use crate::peer::{Peer, Script};
use crate::{assert_adds_up, small_run, wait_until};

const BUFFER_BYTES: usize = 64 << 10;

fn assert_bounded(status: &Status) {
    assert!(status.buffered_bytes <= BUFFER_BYTES + BUFFER_BYTES / 4, "{status:?}");
    assert!(status.submitted >= status.settled + status.dropped + status.rejected, "{status:?}");
}

/// Submits frames with scalars, some long, some short, until so many were dropped.
fn submit_until_dropped(run: &mut Run, first_step: u64, dropped: u64) -> u64 {
    let name = "n".repeat(200);
    let mut step = first_step;
    wait_until("frames are dropped", || {
        for _ in 0..50 {
            let frame = Frame::new().scalar("loss", step as f64);
            run.submit(step, if step.is_multiple_of(3) { frame.scalar(&name, 1.0) } else { frame }).unwrap();
            step += 1;
            assert_bounded(&run.status());
        }
        run.status().dropped >= dropped
    });
    step
}

#[test]
fn what_is_dropped_is_counted_and_told_in_its_place() {
    let peer = Peer::start(Script { commits: false, keep: 20, ..Script::default() });
    let mut run = small_run(&peer.url()).buffer_bytes(BUFFER_BYTES).open().unwrap();
    wait_until("it is connected", || run.status().connected);
    let step = submit_until_dropped(&mut run, 0, 5000);
    peer.change(|script| script.commits = true);
    wait_until("it has caught up", || {
        let status = run.status();
        assert_bounded(&status);
        status.settled + status.dropped == status.submitted
    });
    peer.change(|script| {
        script.commits = false;
        script.break_before = [step + 100].into();
    });
    let dropped = run.status().dropped;
    let step = submit_until_dropped(&mut run, step, dropped + 5000);
    peer.change(|script| script.commits = true);
    let report = run.close();
    assert_eq!((report.submitted, report.rejected, report.undelivered), (step, 0, 0), "{report}");
    assert_adds_up(&report);

    let attempt = peer.checked_attempt(0);
    assert_eq!(report.settled, attempt.frames.len() as u64);
    let dropped: u64 = attempt.dropped.iter().map(|dropped| dropped.to_seq - dropped.from_seq + 1).sum();
    assert_eq!(report.dropped, dropped);
    for dropped in &attempt.dropped {
        // Step and seq run side by side in this test.
        assert_eq!((dropped.first_step, dropped.last_step), (dropped.from_seq - 1, dropped.to_seq - 1));
    }
}

#[test]
fn a_server_that_is_never_there_costs_the_buffer_and_no_more() {
    let mut run = small_run("http://127.0.0.1:9")
        .buffer_bytes(BUFFER_BYTES)
        .close_timeout(std::time::Duration::from_millis(50))
        .open()
        .unwrap();
    let step = submit_until_dropped(&mut run, 0, 20_000);
    let report = run.close();
    assert_eq!((report.submitted, report.settled), (step, 0));
    assert!(report.undelivered > 0 && report.dropped >= 20_000, "{report}");
    assert_adds_up(&report);
}

#[test]
fn a_server_that_never_lets_go_does_not_fill_the_buffer() {
    let peer = Peer::start(Script { keep: u64::MAX, refill: u64::MAX, ..Script::default() });
    let mut run = small_run(&peer.url()).buffer_bytes(BUFFER_BYTES).open().unwrap();
    for step in 0..5000 {
        run.submit(step, Frame::new().scalar("loss", 1.0)).unwrap();
        if step % 50 == 49 {
            wait_until("it is settled", || run.status().settled == step + 1);
            assert!(run.status().buffered_bytes <= BUFFER_BYTES / 4);
        }
    }
    peer.change(|script| script.break_before = [5001].into());
    run.submit(5000, Frame::new()).unwrap();
    let report = run.close();
    assert_eq!((report.settled, report.dropped), (5001, 0), "{report}");
    let refill = &peer.checked_attempt(0).refills[1];
    assert!(refill.len() > 10 && refill.last() == Some(&5000), "{refill:?}");
}

#[test]
fn going_back_again_and_again_is_bounded_too() {
    let mut run = small_run("http://127.0.0.1:9")
        .buffer_bytes(BUFFER_BYTES)
        .close_timeout(std::time::Duration::from_millis(50))
        .open()
        .unwrap();
    let mut refused = 0;
    for _ in 0..200 {
        for step in 5..200 {
            match run.submit(step, Frame::new().scalar("loss", 1.0)) {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.to_string().starts_with("step: training went back 64 times"), "{error}");
                    refused += 1;
                }
            }
            assert_bounded(&run.status());
        }
    }
    assert!(refused > 0);
    let report = run.close();
    assert_eq!(report.submitted + refused, 200 * 195);
    assert_adds_up(&report);
}
