//! Whatever happens to the server or the store in the middle: what rules say, and what is told of it, is what it is on a
//! server that nothing happens to.

use std::{ops::RangeInclusive, time::Duration};

use gradwatch_proto::v1::{Frame, OpenRunRequest};
use gradwatch_tests::{
    AlertCall, Backend, Fault, PATIENCE, Planned, Rest, ServerProcess, any_port, on_both_backends, open_request, spec,
};
use tokio::time::{sleep, timeout};

use super::made::{DONE, HIGH, MEAN, Said, World, done, run_id, send, text, wave};

on_both_backends!(
    a_crash_neither_forgets_nor_repeats,
    lost_answers_neither_forget_nor_repeat,
    a_long_history_is_evaluated_in_portions,
    a_store_that_takes_nothing_is_waited_for,
    a_run_that_cannot_be_evaluated_stops_no_other,
);

const LAST: u64 = 120;
const STRETCHES: [RangeInclusive<u64>; 8] = [1..=7, 8..=8, 9..=31, 32..=47, 48..=49, 50..=88, 89..=90, 91..=LAST];

fn frame(seq: u64) -> Frame {
    if seq == LAST { done(wave(seq, seq)) } else { wave(seq, seq) }
}

/// What is said of steps `1..=LAST` by a server that nothing happens to.
async fn undisturbed(backend: Backend) -> Said {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let request = open_request(spec());
    world.send_all(&request, 1..=LAST).await;
    let said = world.said(&request.run_id).await;
    assert!(said.alerts.len() > 20 && said.told.len() > 50, "{said:?}");
    world.server.stop().await;
    said
}

/// Sends `1..=LAST` in stretches; between two of them something happens.
async fn in_stretches(world: &World, request: &OpenRunRequest, disturb: impl AsyncFn(usize)) {
    for (index, stretch) in STRETCHES.into_iter().enumerate() {
        world.send(request, stretch, frame).await;
        disturb(index).await;
    }
    world.until_fired(&request.run_id, "done").await;
}

async fn a_crash_neither_forgets_nor_repeats(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let request = open_request(spec());
    in_stretches(&world, &request, async |index| match index % 3 {
        // In the middle of whatever it does.
        0 => world.server.crash().await,
        // With nothing left to do for the rules.
        1 => {
            world.until_fired(&request.run_id, "high").await;
            world.server.crash().await;
        }
        _ => world.server.restart().await,
    })
    .await;
    assert_eq!(world.said(&request.run_id).await, undisturbed(backend).await);
    world.server.stop().await;
}

/// The value of a metric without labels.
async fn metric(rest: &Rest, name: &str) -> f64 {
    let (_, text) = rest.call(http::Method::GET, "/metrics", "").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).expect("a metric")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_neither_forgets_nor_repeats() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rules = dir.path().join("rules.yaml");
    std::fs::write(&rules, text(&[HIGH, MEAN, DONE])).expect("a file");
    let variables = [
        ("GRADWATCH_ALERTS__RULES_FILE", rules.to_str().expect("UTF-8")),
        ("GRADWATCH_ALERTS__EVALUATE_EVERY_MS", "1"),
    ];
    let request = open_request(spec());
    let mut server = ServerProcess::start_with(dir.path(), any_port(), &variables);
    let address = server.address();
    for stretch in STRETCHES {
        send(&server.url(), &request, stretch, frame).await;
        server.kill();
        assert_eq!(server.errors(), Vec::<String>::new());
        server = ServerProcess::start_with(dir.path(), address, &variables);
    }
    // The last rule goes on firing when everything else has ended.
    let rest = Rest::new(&server.url());
    let coming_to_the_end = async {
        while metric(&rest, "gradwatch_alerts_firing").await != 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, coming_to_the_end).await.expect("all steps are evaluated");
    server.kill();
    let store = gradwatch_store::open(None, dir.path()).await.expect("a store");
    assert_eq!(Said::read(&*store, &request.run_id).await, undisturbed(Backend::Sqlite).await);
}

async fn lost_answers_neither_forget_nor_repeat(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let request = open_request(spec());
    let faults = [Fault::Before, Fault::Behind, Fault::Cut(1), Fault::Behind, Fault::Cut(3), Fault::Refused];
    world.faults.plan_alerts(AlertCall::Commit, faults.map(|fault| Planned { after: 1, fault }));
    // Reading fails as well, and with it whatever else the server asks.
    let unread = [3, 1, 4, 1, 5, 9, 2, 6].map(|after| Planned { after, fault: Fault::Before });
    world.faults.plan([], unread);
    in_stretches(&world, &request, async |_| {}).await;
    assert_eq!(world.said(&request.run_id).await, undisturbed(backend).await);
    world.server.stop().await;
}

async fn a_store_that_takes_nothing_is_waited_for(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let (request, behind) = (open_request(spec()), open_request(spec()));
    world.faults.hold_alerts(AlertCall::Commit);
    // Nothing of it is on the path of an acknowledgement.
    for run in [&request, &behind] {
        world.send(run, 1..=LAST, frame).await;
    }
    assert!(world.said(&request.run_id).await.alerts.is_empty());
    // One server after another waits in vain, and is stopped.
    world.server.crash().await;
    world.faults.allow_alerts(AlertCall::Commit, 1_000_000);
    let expected = undisturbed(backend).await;
    for run in [&request, &behind] {
        world.until_fired(&run.run_id, "done").await;
        assert_eq!(world.said(&run.run_id).await, expected);
    }
    world.server.stop().await;
}

/// More steps than are evaluated at once.
async fn a_long_history_is_evaluated_in_portions(backend: Backend) {
    const STEPS: u64 = 9_000;
    const SENT_AT_ONCE: u64 = 500;
    let world = World::new(
        backend,
        &[
            DONE,
            "
  - name: rare
    when: scalar.x == 9 and mean(scalar.y, 1000) > 0
    receivers: [ops]
",
        ],
    )
    .await;
    let request = open_request(spec());
    // Rules that cannot commit do not keep jobs from being recorded.
    world.faults.hold_alerts(AlertCall::Commit);
    let frame = |seq: u64| {
        let mut frame = wave(seq, seq);
        frame.payloads.clear();
        frame.scalars.insert("x".to_owned(), if seq.is_multiple_of(1_000) { 9.0 } else { 0.0 });
        frame.scalars.insert("y".to_owned(), 1.0);
        if seq == STEPS { done(frame) } else { frame }
    };
    for first in (1..=STEPS).step_by(SENT_AT_ONCE as usize) {
        world.send(&request, first..=first + SENT_AT_ONCE - 1, frame).await;
    }
    world.server.crash().await;
    world.faults.allow_alerts(AlertCall::Commit, 1_000_000);
    world.until_fired(&request.run_id, "done").await;
    let said = world.said(&request.run_id).await;
    let fired: Vec<_> = said.alerts.iter().filter(|alert| alert.rule == "rare").map(|alert| alert.pending.1).collect();
    assert_eq!(fired, (1..=9).map(|thousand| thousand * 1_000).collect::<Vec<_>>());
    world.server.stop().await;
}

async fn a_run_that_cannot_be_evaluated_stops_no_other(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let (poisoned, other) = (open_request(spec()), open_request(spec()));
    world.faults.poison_alerts(run_id(&poisoned.run_id));
    for stretch in STRETCHES {
        for request in [&poisoned, &other] {
            world.send(request, stretch.clone(), frame).await;
        }
    }
    world.until_fired(&other.run_id, "done").await;
    let expected = world.said(&other.run_id).await;
    assert!(world.said(&poisoned.run_id).await.alerts.is_empty());
    // It is tried again, less and less often.
    world.faults.cure(run_id(&poisoned.run_id));
    world.until_fired(&poisoned.run_id, "done").await;
    assert_eq!(world.said(&poisoned.run_id).await, expected);
    world.server.stop().await;
}
