//! What is stored of a snapshot is what the instrument says of it offline, bit for bit.

use gradwatch_proto::v1::Frame;
use gradwatch_tests::{Backend, frame, next_attempt, on_both_backends, open_request};
use http::Method;

use super::{
    made::{INSTRUMENTS, LAYER, expected, snapshot, spec},
    world::{World, wall_time_us, with_snapshots},
};

on_both_backends!(every_instrument_says_what_it_says_offline, replayed_snapshots_give_the_same_bits);

const STEPS: u64 = 6;

fn all_layers(seq: u64) -> Frame {
    with_snapshots(seq, (0..4).map(|layer| snapshot(layer, seq * 10)).collect())
}

fn sent() -> Vec<(u64, u64)> {
    (1..=STEPS).map(|seq| (seq, seq * 10)).collect()
}

async fn every_instrument_says_what_it_says_offline(backend: Backend) {
    let world = World::new(backend, |_| {}).await;
    let request = open_request(spec());
    let rest = world.rest();
    let mut stream = world.open(&request).await;
    let mut live = rest.events(&format!("/api/v1/stream?run={}&types=layer_reading", request.run_id), None).await;
    stream.frames((1..=STEPS).map(all_layers).collect()).await;
    assert_eq!(stream.acknowledged(STEPS).await, []);
    for layer in 0..4 {
        let expected = expected(layer, &sent());
        assert!(expected.iter().any(|(_, reading)| reading.values().iter().flatten().count() > 3), "{expected:?}");
        world.assert_read(&request.run_id, 1, layer, &expected).await;
    }
    assert_eq!((world.pending(&request.run_id).await, world.skipped(&request.run_id).await), (0, 0));

    let mut told = Vec::new();
    while told.len() < 4 * STEPS as usize {
        let event = live.next().await.expect("an open stream");
        if event.event == "layer_reading" {
            told.push(event.data);
        }
    }
    let fields = |data: &serde_json::Value| (data["step"].clone(), data["instrument"].clone());
    let by_step = (1..=STEPS).flat_map(|step| INSTRUMENTS.map(|it| (step.into(), it.as_str().into())));
    assert_eq!(told.iter().map(fields).collect::<Vec<_>>(), by_step.collect::<Vec<_>>());
    let first = &told[0];
    assert_eq!((&first["layer"], &first["live"], &first["segment"]), (&LAYER.into(), &true.into(), &1.into()));
    let phi = expected(0, &sent())[0].1.value("phi");
    assert!(phi.is_some() && first["phi"].as_f64() == phi && first["wall_time"].is_string(), "{first}");

    let (_, metrics) = rest.call(Method::GET, "/metrics", "").await;
    for instrument in INSTRUMENTS {
        let line = format!("gradwatch_snapshots_read_total{{instrument=\"{instrument}\"}} {STEPS}");
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    let bytes = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let queued = bytes("gradwatch_snapshot_bytes_queued_total");
    assert!(queued.is_some_and(|bytes| bytes > 0) && queued == bytes("gradwatch_snapshot_bytes_done_total"));
    world.server.stop().await;
}

async fn replayed_snapshots_give_the_same_bits(backend: Backend) {
    let world = World::new(backend, |_| {}).await;
    let fresh = world.like().await;
    let request = open_request(spec());
    for (world, batch) in [(&world, 1), (&fresh, STEPS as usize)] {
        let mut stream = world.open(&request).await;
        let frames: Vec<Frame> = (1..=STEPS).map(all_layers).collect();
        for frames in frames.chunks(batch) {
            stream.frames(frames.to_vec()).await;
        }
        assert_eq!(stream.acknowledged(STEPS).await, []);
        for layer in 0..4 {
            world.assert_read(&request.run_id, 1, layer, &expected(layer, &sent())).await;
        }
        world.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_shards_the_lower_one_is_read_also_when_the_step_is_incomplete() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let mut requests = [open_request(spec()), open_request(spec())];
    requests[1].run_id = requests[0].run_id.clone();
    requests[1].attempt = requests[0].attempt.clone();
    for (shard, request) in (0..).zip(&mut requests) {
        (request.shard, request.shard_count) = (shard, 2);
    }
    let mut peer = world.peer().await;
    for request in &requests {
        peer.open_run(request).await.expect("opened");
    }
    let mut high = peer.open_stream(&requests[1]).await.expect("opened").0;
    let mut low = peer.open_stream(&requests[0]).await.expect("opened").0;
    let run = &requests[0].run_id;
    // Layer 1 comes from both, layer 2 from the higher one alone. Step 2 is the lower one's only.
    high.frames(vec![with_snapshots(1, vec![snapshot(1, 71), snapshot(2, 72)]), Frame { seq: 2, ..frame(2, 3) }]).await;
    low.frames(vec![
        with_snapshots(1, vec![snapshot(1, 61)]),
        with_snapshots(2, vec![snapshot(1, 63)]),
        Frame { seq: 3, ..frame(3, 3) },
    ])
    .await;
    assert_eq!((high.acknowledged(2).await, low.acknowledged(3).await), (vec![], vec![]));
    world.assert_read(run, 1, 1, &expected(1, &[(1, 61), (2, 63)])).await;
    world.assert_read(run, 1, 2, &expected(2, &[(1, 72)])).await;
    assert_eq!(world.rest().get(&format!("/api/v1/runs/{run}")).await["counters"]["incomplete"], 1);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_attempt_s_late_snapshots_are_read_in_their_own_segment() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let old = open_request(spec());
    let mut old_stream = world.open(&old).await;
    old_stream.frames((1..=3).map(all_layers).collect()).await;
    old_stream.acknowledged(3).await;
    let new = next_attempt(&old, Some((&old, 2)));
    let mut new_stream = world.open(&new).await;
    let renumbered = |seq: u64| Frame {
        seq,
        step: 2 + seq,
        wall_time_us: wall_time_us(2 + seq),
        snapshots: vec![snapshot(1, 500 + seq)],
        ..frame(2 + seq, 2 + seq)
    };
    new_stream.frames((1..=3).map(renumbered).collect()).await;
    new_stream.acknowledged(3).await;
    let late = |seq| Frame { happened: vec!["late".into()], ..all_layers(seq) };
    old_stream.frames((4..=STEPS).map(late).collect()).await;
    assert_eq!(old_stream.acknowledged(STEPS).await, []);
    for layer in 0..4 {
        world.assert_read(&old.run_id, 1, layer, &expected(layer, &sent())).await;
    }
    world.assert_read(&old.run_id, 2, 1, &expected(1, &[(3, 501), (4, 502), (5, 503)])).await;
    let events = world.rest().all(&format!("/api/v1/runs/{}/events?segment=all&limit=100", old.run_id)).await;
    let fired = |event: &&serde_json::Value| event["type"] != "segment.started";
    assert_eq!(events.iter().filter(fired).collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_acknowledged_while_snapshots_wait() {
    let world = World::new(Backend::Sqlite, |config| config.snapshot_threads = 1).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    stream.frames((1..=100).map(all_layers).collect()).await;
    stream.acknowledged(100).await;
    for seq in 101..=150 {
        stream.frames(vec![frame(seq, seq)]).await;
        assert_eq!(stream.acknowledged(seq).await, []);
    }
    for layer in 0..4 {
        world.readings(&request.run_id, 1, layer, 100).await;
    }
    let edges = world.rest().all(&format!("/api/v1/runs/{}/readings/edge?limit=1000", request.run_id)).await;
    assert_eq!(edges.len(), 150);
    world.server.stop().await;
}
