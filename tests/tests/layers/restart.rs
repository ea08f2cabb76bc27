//! An acknowledged snapshot is read once, whatever happens to the server before that.

use std::sync::Arc;

use gradwatch_proto::v1::{self, Frame, client_message};
use gradwatch_spectral::layers::{LayerReading, Reason};
use gradwatch_store::{PendingSnapshot, RunCommit, SnapshotKey};
use gradwatch_tests::{Backend, frame, on_both_backends, open_request};

use super::{
    made::{expected, key, snapshot, spec},
    world::{World, run_id, with_snapshots},
};

on_both_backends!(a_crash_loses_and_doubles_no_reading, what_a_finished_run_left_is_read_after_a_restart);

/// Two layers at every step.
fn frames(seqs: std::ops::RangeInclusive<u64>) -> Vec<Frame> {
    seqs.map(|seq| with_snapshots(seq, vec![snapshot(0, seq), snapshot(2, seq)])).collect()
}

fn sent(last: u64) -> Vec<(u64, u64)> {
    (1..=last).map(|seq| (seq, seq)).collect()
}

async fn a_crash_loses_and_doubles_no_reading(backend: Backend) {
    let world = World::new(backend, |config| config.snapshot_threads = 1).await;
    let request = open_request(spec());
    world.peer().await.open_run(&request).await.expect("opened");
    let mut last = 0;
    let mut waited = 0;
    for _ in 0..5 {
        let (mut stream, opened) = world.open_again(&request).await;
        stream.frames(frames(opened.resend_from_seq..=last + 20)).await;
        last += 20;
        stream.acknowledged(last).await;
        world.server.crash().await;
        waited += world.pending(&request.run_id).await;
    }
    assert!(waited > 0, "no crash came before a reading");
    for layer in [0, 2] {
        world.assert_read(&request.run_id, 1, layer, &expected(layer, &sent(last))).await;
    }
    assert_eq!(world.pending(&request.run_id).await, 0);
    world.server.stop().await;
}

async fn what_a_finished_run_left_is_read_after_a_restart(backend: Backend) {
    let world = World::new(backend, |config| config.snapshot_threads = 1).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    stream.frames(frames(1..=60)).await;
    let finish = v1::Finish { outcome: v1::Outcome::Finished.into(), last_seq: 60 };
    stream.send(client_message::Message::Finish(finish)).await;
    stream.acknowledged(60).await;
    // A shutdown does not wait for what is still to be read.
    world.server.restart().await;
    for layer in [0, 2] {
        world.assert_read(&request.run_id, 1, layer, &expected(layer, &sent(60))).await;
    }
    let run = world.store.run(run_id(&request.run_id)).await.expect("the run");
    assert_eq!((run.state.as_str(), run.counters.skipped), ("finished", 0));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_decoded_costs_one_reading() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    stream.frames(vec![with_snapshots(1, vec![snapshot(2, 1)])]).await;
    stream.acknowledged(1).await;
    world.assert_read(&request.run_id, 1, 2, &expected(2, &sent(1))).await;
    drop(stream);
    // What an older or newer server could have left.
    let store = Arc::clone(&world.store);
    let owned = store.take_ownership(run_id(&request.run_id)).await.expect("owned");
    let key = SnapshotKey { segment: 1, step: 1, layer: key(0) };
    let commit = RunCommit {
        commit_number: 1,
        snapshots: vec![PendingSnapshot { key, payload: vec![0xFF; 9] }],
        ..RunCommit::new(run_id(&request.run_id), owned.owner_epoch)
    };
    store.commit(&[commit]).await.expect("committed");
    world.server.restart().await;
    let stored = world.readings(&request.run_id, 1, 0, 1).await;
    assert_eq!(stored[0].row.reading, LayerReading::refused(super::made::INSTRUMENTS[0], Reason::Failed));
    // The run goes on.
    let (mut stream, _) = world.open_again(&request).await;
    stream.frames(vec![Frame { snapshots: vec![snapshot(2, 2)], ..frame(2, 2) }]).await;
    stream.acknowledged(2).await;
    world.assert_read(&request.run_id, 1, 2, &expected(2, &sent(2))).await;
    world.server.stop().await;
}
