//! Snapshots that are still to be read.

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{FollowerKey, FollowerSnapshot, Kind, RunCommit, SnapshotKey, StoreError, StreamKey};

use crate::fixture::{
    AnyStore, Random, layer, layer_reading, layer_specs, owned, owned_layers, prediction, resume, run_id, snapshot,
    step, take,
};

async fn pending(store: &AnyStore, run: u64) -> Vec<SnapshotKey> {
    store.pending_snapshots(run_id(run)).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

pub(crate) async fn pending_snapshots_come_oldest_first(store: AnyStore) {
    let mut commit = owned_layers(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    let mut other = owned_layers(&store, 2).await;
    owned_layers(&store, 3).await;
    assert!(store.runs_with_pending_snapshots().await.unwrap().is_empty());
    let mut snapshots = Vec::new();
    for (segment, step) in [(2, 1), (1, 1 << 40), (1, 9), (1, 10), (2, 3)] {
        for key in layer_specs().iter().rev().map(|layer| layer.key()) {
            let payload = vec![step as u8; snapshots.len() * 3];
            snapshots.push(snapshot(&key, segment, step, &payload));
        }
    }
    // Over several commits, in no order.
    for chunk in snapshots.chunks(7) {
        commit.snapshots = chunk.to_vec();
        store.commit(&[commit.clone()]).await.unwrap();
    }
    other.snapshots = vec![snapshot(&layer(LayerInstrument::Cascade, "blocks.0"), 1, 1, b"other")];
    store.commit(&[other]).await.unwrap();
    snapshots.sort_by(|a, b| {
        let order = |key: &SnapshotKey| (key.segment, key.step, key.layer.instrument.as_str(), key.layer.layer.clone());
        order(&a.key).cmp(&order(&b.key))
    });
    let expected: Vec<_> = snapshots.iter().map(|it| (it.key.clone(), it.payload.len() as u64)).collect();
    assert_eq!(store.pending_snapshots(run_id(1)).await.unwrap(), expected);
    for it in &snapshots {
        assert_eq!(store.snapshot_payload(run_id(1), &it.key).await.unwrap().as_ref(), Some(&it.payload));
        assert_eq!(store.snapshot_payload(run_id(3), &it.key).await.unwrap(), None);
    }
    let mut runs = [run_id(1), run_id(2)];
    runs.sort();
    assert_eq!(store.runs_with_pending_snapshots().await.unwrap(), runs);
    // One that is there is not stored again.
    commit.snapshots = vec![snapshots[3].clone()];
    let answer = store.commit(&[commit.clone()]).await;
    assert!(matches!(answer, Err(StoreError::UniqueViolation(_))), "{answer:?}");
    store.mark_deleting(run_id(2)).await.unwrap();
    assert_eq!(store.runs_with_pending_snapshots().await.unwrap(), [run_id(1)]);
}

pub(crate) async fn a_reading_takes_its_snapshot_away(store: AnyStore) {
    let (commit, mut other) = (owned_layers(&store, 1).await, owned_layers(&store, 2).await);
    let mut first = commit.clone();
    let keys: Vec<_> = layer_specs().iter().map(|layer| layer.key()).collect();
    for step in [3, 4] {
        first.snapshots.extend(keys.iter().map(|key| snapshot(key, 1, step, b"payload")));
    }
    first.steps = vec![step(1, 3), step(1, 4)];
    other.snapshots = first.snapshots.clone();
    store.commit(&[first.clone(), other]).await.unwrap();
    let mut left: Vec<_> = pending(&store, 1).await;
    assert_eq!(left.len(), 2 * keys.len());
    let (mut random, all) = (Random(31), left.clone());
    for key in &keys {
        let layer_readings = vec![layer_reading(key, 1, 3, &mut random)];
        store.commit(&[RunCommit { layer_readings, ..commit.clone() }]).await.unwrap();
        left.retain(|it| !(it.layer == *key && it.step == 3));
        assert_eq!(pending(&store, 1).await, left);
        let read = SnapshotKey { segment: 1, step: 3, layer: key.clone() };
        assert_eq!(store.snapshot_payload(run_id(1), &read).await.unwrap(), None);
    }
    assert_eq!(left.len(), keys.len());
    assert_eq!(store.latest_layer_readings(run_id(1), 1).await.unwrap().len(), keys.len());
    // All at once, and readings of snapshots that were never pending among them.
    let mut last = RunCommit { steps: vec![step(1, 5)], ..commit };
    for number in [4, 5] {
        last.layer_readings.extend(keys.iter().map(|key| layer_reading(key, 1, number, &mut random)));
    }
    store.commit(&[last]).await.unwrap();
    assert!(pending(&store, 1).await.is_empty());
    assert_eq!(store.runs_with_pending_snapshots().await.unwrap(), [run_id(2)]);
    assert_eq!(pending(&store, 2).await, all);
}

/// As when the recorder puts several commits of an owner together.
pub(crate) async fn a_commit_may_hold_a_snapshot_and_its_reading(store: AnyStore) {
    let (mut commit, mut random) = (owned_layers(&store, 1).await, Random(32));
    commit.steps = vec![step(1, 1)];
    for key in layer_specs().iter().map(|layer| layer.key()) {
        commit.snapshots.push(snapshot(&key, 1, 1, b"payload"));
        commit.layer_readings.push(layer_reading(&key, 1, 1, &mut random));
    }
    commit.predictions = vec![prediction(1, 1, "probe", &[1.0], &[]), prediction(1, 2, "probe", &[2.0], &[])];
    commit.dropped_predictions = vec![(1, 1, "probe".to_owned())];
    store.commit(&[commit.clone()]).await.unwrap();
    assert!(pending(&store, 1).await.is_empty());
    assert_eq!(store.latest_layer_readings(run_id(1), 1).await.unwrap().len(), commit.layer_readings.len());
    assert_eq!(store.kept_predictions(run_id(1)).await.unwrap(), [(1, 2, "probe".to_owned(), 4)]);
}

/// Neither does one whose last row is refused, nor one of an owner that was replaced.
pub(crate) async fn a_lost_commit_leaves_nothing(store: AnyStore) {
    let (old, mut random) = (owned_layers(&store, 1).await, Random(33));
    let key = layer(LayerInstrument::Cascade, "blocks.0");
    let mut first = old.clone();
    first.steps = vec![step(1, 1), step(1, 2)];
    first.snapshots = vec![snapshot(&key, 1, 1, b"payload")];
    first.predictions = vec![prediction(1, 1, "probe", &[1.0], &[])];
    store.commit(&[first]).await.unwrap();
    let new = take(&store, 1).await;
    let mut next = old;
    next.snapshots = vec![snapshot(&key, 1, 2, b"payload")];
    next.layer_readings = vec![layer_reading(&key, 1, 1, &mut random)];
    next.predictions = vec![prediction(1, 2, "probe", &[1.0], &[])];
    next.dropped_predictions = vec![(1, 1, "probe".to_owned())];
    let unchanged = async || {
        assert_eq!(pending(&store, 1).await, [SnapshotKey { segment: 1, step: 1, layer: key.clone() }]);
        assert!(store.latest_layer_readings(run_id(1), 1).await.unwrap().is_empty());
        assert_eq!(store.kept_predictions(run_id(1)).await.unwrap(), [(1, 1, "probe".to_owned(), 4)]);
    };
    let answer = store.commit(&[next.clone()]).await;
    assert!(matches!(answer, Err(StoreError::OwnershipLost(run)) if run == run_id(1)), "{answer:?}");
    unchanged().await;
    next.owner_epoch = new.owner_epoch;
    let mut refused = next.clone();
    refused.dropped_predictions.push((1, u64::MAX, "probe".to_owned()));
    let answer = store.commit(&[refused]).await;
    assert!(matches!(answer, Err(StoreError::Data(_))), "{answer:?}");
    unchanged().await;
    store.commit(&[next]).await.unwrap();
    assert_eq!(pending(&store, 1).await, [SnapshotKey { segment: 1, step: 2, layer: key }]);
    assert_eq!(store.latest_layer_readings(run_id(1), 1).await.unwrap().len(), 1);
    assert_eq!(store.kept_predictions(run_id(1)).await.unwrap(), [(1, 2, "probe".to_owned(), 4)]);
}

pub(crate) async fn rows_of_layers_need_their_segment(store: AnyStore) {
    let commit = owned_layers(&store, 1).await;
    let key = layer(LayerInstrument::Cascade, "blocks.0");
    let unknown = [
        RunCommit { snapshots: vec![snapshot(&key, 3, 1, b"")], ..commit.clone() },
        RunCommit { layer_readings: vec![layer_reading(&key, 3, 1, &mut Random(1))], ..commit.clone() },
        RunCommit { predictions: vec![prediction(3, 1, "probe", &[], &[])], ..commit.clone() },
    ];
    for commit in unknown {
        let answer = store.commit(&[commit]).await;
        let Err(StoreError::Data(message)) = answer else { panic!("{answer:?}") };
        assert!(message.contains("segment 3"), "{message}");
    }
    store.commit(&[commit]).await.unwrap();
}

/// Larger than what goes in one statement, and more than that of them; empty, too.
pub(crate) async fn large_payloads_come_back(store: AnyStore) {
    let mut commit = owned_layers(&store, 1).await;
    let key = layer(LayerInstrument::LearningCell, "blocks.0");
    let lengths = [0, 9 << 20, 5 << 20, 5 << 20, 1];
    let payload =
        |number: u64, length| (0..length).map(|at| ((at as u64 * (number + 7)) >> 3) as u8).collect::<Vec<_>>();
    for (number, length) in (0..).zip(lengths) {
        commit.snapshots.push(snapshot(&key, 1, number, &payload(number, length)));
    }
    let expected = commit.snapshots.clone();
    store.commit(&[commit]).await.unwrap();
    let found = store.pending_snapshots(run_id(1)).await.unwrap();
    assert_eq!(found.iter().map(|(_, bytes)| *bytes as usize).collect::<Vec<_>>(), lengths);
    for it in expected {
        assert!(store.snapshot_payload(run_id(1), &it.key).await.unwrap() == Some(it.payload), "{:?}", it.key);
    }
}

/// A layer may be called like a group, and what follows both is kept apart.
pub(crate) async fn followers_of_layers_are_kept_apart(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    let follower = |key: &FollowerKey, step, state: &[u8]| FollowerSnapshot {
        segment: 1,
        key: key.clone(),
        step,
        state: state.to_vec(),
    };
    let mut keys = vec![FollowerKey::Scalars];
    for name in ["all", "blocks.0"] {
        keys.extend(
            [Kind::Update, Kind::Gradient]
                .map(|kind| FollowerKey::Stream(StreamKey { group: name.to_owned(), kind, window: 10 })),
        );
        keys.extend(LayerInstrument::ALL.iter().map(|instrument| FollowerKey::Layer(layer(*instrument, name))));
    }
    let sorted = |mut followers: Vec<FollowerSnapshot>| {
        followers.sort_by(|a, b| a.key.cmp(&b.key));
        followers
    };
    for round in 1..=3_u8 {
        let snapshot = |(key, number): (&FollowerKey, u8)| follower(key, u64::from(round), &[number, round]);
        commit.followers = keys.iter().zip(0..).map(snapshot).collect();
        store.commit(&[commit.clone()]).await.unwrap();
        let found = store.follower_snapshots(run_id(1), 1).await.unwrap();
        assert_eq!(sorted(found), sorted(commit.followers.clone()));
    }
}
