//! Deletion, expiry, durability.

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{
    EventQuery, FollowerKey, FollowerSnapshot, LayerReadingQuery, ReadingQuery, RunCommit, RunPatch, RunQuery, RunSort,
    RunState, StepQuery, StoreError,
};

use crate::fixture::{
    AnyStore, Random, event, layer, layer_reading, mark, open, owned, prediction, reading, rollup, run_id, snapshot,
    step, stream, take, whole,
};

/// A run with `rows` steps and readings and some of everything else.
async fn filled(store: &AnyStore, run: u64, rows: u64) -> RunCommit {
    let mut random = Random(run);
    let commit = owned(store, run).await;
    let mut filling = commit.clone();
    filling.marks = vec![mark(1, 0, rows)];
    filling.steps = (1..=rows).map(|number| step(1, number)).collect();
    filling.readings = (1..=rows).map(|number| reading(1, number, &mut random)).collect();
    filling.rollups = (0..5).map(|bucket| rollup("edge.ratio", 1, bucket)).collect();
    filling.events = (0..5).map(|number| event("edge.regime", 1, Some(number))).collect();
    filling.scalar_names = vec!["loss".to_owned()];
    let follower = FollowerSnapshot { segment: 1, key: FollowerKey::Stream(stream()), step: 1, state: vec![1, 2, 3] };
    filling.followers = vec![follower];
    for key in LayerInstrument::ALL.iter().map(|instrument| layer(*instrument, "blocks.0")) {
        filling.layer_readings.extend((1..=5).map(|number| layer_reading(&key, 1, number, &mut random)));
        filling.snapshots.extend((6..=10).map(|number| snapshot(&key, 1, number, b"payload")));
    }
    filling.predictions = (1..=5).map(|number| prediction(1, number, "probe", &[1.0], &[])).collect();
    store.commit(&[filling]).await.unwrap();
    commit
}

fn list() -> RunQuery {
    RunQuery {
        project: None,
        state: None,
        regime: None,
        name: None,
        labels: [].into(),
        sort: RunSort::CreatedAscending,
        after: None,
        limit: 10,
    }
}

fn all_events() -> EventQuery {
    EventQuery {
        run_id: None,
        project: None,
        types: Vec::new(),
        group: None,
        ranges: None,
        after: None,
        newest_first: false,
        limit: 100,
    }
}

pub(crate) async fn deletion_hides_then_purges(store: AnyStore) {
    let commit = filled(&store, 1, 100).await;
    let not_marked = store.purge(run_id(1), 10).await;
    assert!(matches!(not_marked, Err(StoreError::Conflict { field: "run_id", .. })), "{not_marked:?}");
    store.mark_deleting(run_id(1)).await.unwrap();
    store.mark_deleting(run_id(1)).await.unwrap();
    assert_eq!(store.deleting_runs().await.unwrap(), [run_id(1)]);
    assert!(matches!(store.run(run_id(1)).await, Err(StoreError::UnknownRun(_))));
    assert!(matches!(store.segments(run_id(1)).await, Err(StoreError::UnknownRun(_))));
    assert!(store.runs(&list()).await.unwrap().items.is_empty());
    assert!(store.overview(None).await.unwrap().by_state.is_empty());
    assert!(store.events(&all_events()).await.unwrap().items.is_empty());
    assert!(matches!(store.commit(&[commit]).await, Err(StoreError::OwnershipLost(_))));
    assert!(matches!(store.open_attempt(&open(1, 100)).await, Err(StoreError::RunDeleting(_))));
    assert!(matches!(store.take_ownership(run_id(1)).await, Err(StoreError::RunDeleting(_))));

    assert!(store.runs_with_pending_snapshots().await.unwrap().is_empty());

    // 100 steps and 100 readings among 260 rows, at most 30 at a time.
    let mut calls = 1;
    while !store.purge(run_id(1), 30).await.unwrap() {
        calls += 1;
        assert!(calls < 20, "does not end");
        assert_eq!(store.deleting_runs().await.unwrap(), [run_id(1)]);
    }
    assert!(calls >= 8, "{calls} calls deleted more than they may");
    assert!(store.deleting_runs().await.unwrap().is_empty());
    assert!(store.purge(run_id(1), 30).await.unwrap(), "nothing is left of it");
    // The id can be used again, and finds nothing of before.
    filled(&store, 1, 100).await;
    assert_eq!(store.events(&all_events()).await.unwrap().items.len(), 5);
    assert_eq!(of_layers(&store, 1).await, (20, 20, 5));
}

/// How many readings of layers, pending snapshots and predictions a run has.
async fn of_layers(store: &AnyStore, run: u64) -> (usize, usize, usize) {
    let mut readings = 0;
    for instrument in LayerInstrument::ALL {
        let layer = layer(*instrument, "blocks.0");
        let query = LayerReadingQuery { run_id: run_id(run), layer, ranges: whole(1), limit: 100 };
        readings += store.layer_readings(&query).await.unwrap().items.len();
    }
    let pending = store.pending_snapshots(run_id(run)).await.unwrap().len();
    (readings, pending, store.kept_predictions(run_id(run)).await.unwrap().len())
}

pub(crate) async fn deletion_leaves_other_runs(store: AnyStore) {
    filled(&store, 1, 50).await;
    filled(&store, 2, 50).await;
    store.mark_deleting(run_id(1)).await.unwrap();
    while !store.purge(run_id(1), 1).await.unwrap() {}
    let steps = StepQuery { run_id: run_id(2), ranges: whole(1), limit: 100 };
    assert_eq!(store.steps(&steps).await.unwrap().items.len(), 50);
    let readings =
        ReadingQuery { run_id: run_id(2), analysis: "live".to_owned(), stream: stream(), ranges: whole(1), limit: 100 };
    assert_eq!(store.readings(&readings).await.unwrap().items.len(), 50);
    assert_eq!(store.readings(&ReadingQuery { run_id: run_id(1), ..readings }).await.unwrap().items.len(), 0);
    assert_eq!(store.events(&all_events()).await.unwrap().items.len(), 5);
    assert_eq!(store.follower_snapshots(run_id(2), 1).await.unwrap().len(), 1);
    assert_eq!(store.follower_snapshots(run_id(1), 1).await.unwrap().len(), 0);
    assert_eq!((of_layers(&store, 1).await, of_layers(&store, 2).await), ((0, 0, 0), (20, 20, 5)));
    assert_eq!(store.runs_with_pending_snapshots().await.unwrap(), [run_id(2)]);
}

pub(crate) async fn expiry(store: AnyStore) {
    for (run, state) in RunState::ALL.into_iter().enumerate() {
        for late in [0, 1] {
            let number = 10 * late + run as u64;
            let mut commit = owned(&store, number).await;
            commit.patch = RunPatch {
                state: Some(state),
                last_seen_us: Some(1_000 + late as i64 * 500 - run as i64),
                ..RunPatch::default()
            };
            store.commit(&[commit]).await.unwrap();
        }
    }
    let ended: Vec<_> = (0..6)
        .filter(|run| RunState::ALL[*run].is_over() || RunState::ALL[*run] == RunState::Crashed)
        .map(|run| run_id(run as u64))
        .collect();
    let mut expired = store.expired_runs(1_200).await.unwrap();
    expired.reverse();
    assert_eq!(expired, ended);
    // Before, not at.
    let crashed = RunState::ALL.iter().position(|state| *state == RunState::Crashed).unwrap();
    let at = store.expired_runs(1_000 - crashed as i64).await.unwrap();
    assert!(!at.contains(&run_id(crashed as u64)) && at.len() == 3);
    store.mark_deleting(ended[0]).await.unwrap();
    assert!(!store.expired_runs(1_200).await.unwrap().contains(&ended[0]));
}

pub(crate) async fn durability(store: AnyStore) {
    let durability = store.durability().await.unwrap();
    assert!(!durability.backend.is_empty() && !durability.settings.is_empty());
}

pub(crate) async fn unknown_runs(store: AnyStore) {
    let id = run_id(1);
    assert!(matches!(store.run(id).await, Err(StoreError::UnknownRun(run)) if run == id));
    assert!(matches!(store.segments(id).await, Err(StoreError::UnknownRun(_))));
    assert!(matches!(store.take_ownership(id).await, Err(StoreError::UnknownRun(_))));
    assert!(matches!(store.mark_deleting(id).await, Err(StoreError::UnknownRun(_))));
    assert!(store.scalar_names(id).await.unwrap().is_empty());
    assert!(store.follower_snapshots(id, 1).await.unwrap().is_empty());
    assert!(store.latest_readings(id, 1).await.unwrap().is_empty());
    assert!(store.latest_layer_readings(id, 1).await.unwrap().is_empty());
    assert_eq!(of_layers(&store, 1).await, (0, 0, 0));
    store.open_attempt(&open(1, 1)).await.unwrap();
    take(&store, 1).await;
}
