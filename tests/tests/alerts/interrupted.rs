//! Whatever happens to the server or the store in the middle: what rules say, and what is told of it, is what it is on a
//! server that nothing happens to.

use gradwatch_proto::v1::OpenRunRequest;
use gradwatch_tests::{AlertCall, Backend, Fault, Planned, on_both_backends, open_request, spec};

use super::made::{DONE, HIGH, MEAN, Said, World, done, wave};

on_both_backends!(
    a_crash_neither_forgets_nor_repeats,
    lost_answers_neither_forget_nor_repeat,
    a_long_history_is_evaluated_in_portions,
    a_store_that_takes_nothing_is_waited_for,
);

const LAST: u64 = 120;

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
    let stretches = [1..=7, 8..=8, 9..=31, 32..=47, 48..=49, 50..=88, 89..=90, 91..=LAST];
    for (index, stretch) in stretches.into_iter().enumerate() {
        world.send(request, stretch, |seq| if seq == LAST { done(wave(seq, seq)) } else { wave(seq, seq) }).await;
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

async fn lost_answers_neither_forget_nor_repeat(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let request = open_request(spec());
    let faults = [Fault::Before, Fault::Behind, Fault::Cut(1), Fault::Behind, Fault::Cut(3), Fault::Refused];
    world.faults.plan_alerts(AlertCall::Commit, faults.map(|fault| Planned { after: 1, fault }));
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
        world.send(run, 1..=LAST, |seq| if seq == LAST { done(wave(seq, seq)) } else { wave(seq, seq) }).await;
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
