//! Too many snapshots: the oldest are skipped, each with a reading that says so.

use gradwatch_spectral::layers::{LayerReading, Reason};
use gradwatch_tests::{Backend, frame, on_both_backends, open_request};
use prost::Message;

use super::{
    made::{INSTRUMENTS, expected, snapshot, spec},
    world::{World, with_snapshots},
};

on_both_backends!(the_oldest_are_skipped_and_counted);

const STEPS: u64 = 40;

async fn the_oldest_are_skipped_and_counted(backend: Backend) {
    // Room for three.
    let bytes = snapshot(0, 1).encoded_len() as u64 + 256;
    let world = World::new(backend, |config| config.limits.max_backlog_bytes = 3 * bytes + bytes / 2).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    stream.frames((1..=STEPS).map(|seq| with_snapshots(seq, vec![snapshot(0, seq)])).collect()).await;
    assert_eq!(stream.acknowledged(STEPS).await, []);
    let stored = world.readings(&request.run_id, 1, 0, STEPS as usize).await;
    let skipped = LayerReading::refused(INSTRUMENTS[0], Reason::Skipped);
    let is_skipped = |step: u64| stored[step as usize - 1].row.reading == skipped;
    let read: Vec<(u64, u64)> = (1..=STEPS).filter(|&step| !is_skipped(step)).map(|step| (step, step)).collect();
    // The newest are read, and what is read is as if the others had not come.
    assert!((3..=STEPS as usize).contains(&read.len()) && read.last() == Some(&(STEPS, STEPS)), "{read:?}");
    for (step, reading) in expected(0, &read) {
        assert_eq!(stored[step as usize - 1].row.reading, reading);
    }
    assert_eq!(world.skipped(&request.run_id).await, STEPS - read.len() as u64);
    assert!(world.skipped(&request.run_id).await > 0);
    assert_eq!(world.pending(&request.run_id).await, 0);
    let run = world.rest().get(&format!("/api/v1/runs/{}", request.run_id)).await;
    assert_eq!(run["counters"]["skipped"], STEPS - read.len() as u64);

    // One that is larger than all the room is skipped itself.
    let mut large = snapshot(0, 1);
    let Some(gradwatch_proto::v1::snapshot::Body::Cascade(cascade)) = &mut large.body else { panic!("a cascade") };
    cascade.windows_f16 = vec![0x3C; 20 * 8_192].into();
    stream.frames(vec![with_snapshots(STEPS + 1, vec![large])]).await;
    assert_eq!(stream.acknowledged(STEPS + 1).await, []);
    let stored = world.readings(&request.run_id, 1, 0, STEPS as usize + 1).await;
    assert_eq!(stored[STEPS as usize].row.reading, skipped);
    world.server.stop().await;
}

/// Promise 7: however many runs have snapshots waiting, few payloads are in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_are_taken_out_of_the_store_only_when_they_can_be_read() {
    const RUNS: usize = 8;
    const THREADS: usize = 1;
    let world = World::new(Backend::Sqlite, |config| config.snapshot_threads = THREADS).await;
    world.faults.hold_payloads();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let request = open_request(spec());
        let mut stream = world.open(&request).await;
        stream.frames(vec![with_snapshots(1, vec![snapshot(2, 1)])]).await;
        assert_eq!(stream.acknowledged(1).await, []);
        runs.push((request.run_id, stream));
    }
    // Each run has done something since its snapshot could be read.
    for seq in 2..=4 {
        for (_, stream) in &mut runs {
            stream.frames(vec![frame(seq, seq)]).await;
            assert_eq!(stream.acknowledged(seq).await, []);
        }
    }
    let held = world.faults.payloads_held();
    assert!((1..=2 * THREADS).contains(&held), "{held} payloads for {THREADS} threads");
    world.faults.give_payloads();
    for (run, _) in &runs {
        world.assert_read(run, 1, 2, &expected(2, &[(1, 1)])).await;
    }
    world.server.stop().await;
}
