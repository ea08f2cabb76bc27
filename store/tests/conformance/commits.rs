//! One transaction settles everything or nothing.

use std::collections::BTreeSet;

use gradwatch_store::{
    EventQuery, FollowerKey, FollowerSnapshot, RunCommit, RunCounters, RunPatch, RunState, SeriesMetric, SeriesQuery,
    StepQuery, StoreError,
};

use crate::fixture::{
    AnyStore, Random, empty, event, mark, open, owned, reading, resume, rollup, run_id, step, stream, take, whole,
};

/// A commit with something of everything.
fn full(commit: &RunCommit, random: &mut Random) -> RunCommit {
    let mut commit = commit.clone();
    commit.marks = vec![mark(1, 0, 2)];
    commit.steps = vec![step(1, 1), step(1, 2)];
    commit.readings = vec![reading(1, 1, random), reading(1, 2, random)];
    commit.rollups = vec![rollup("edge.ratio", 1, 0)];
    commit.events = vec![event("edge.regime", 1, Some(2))];
    commit.followers =
        vec![FollowerSnapshot { segment: 1, key: FollowerKey::Stream(stream()), step: 2, state: vec![0, 255, 0] }];
    commit.scalar_names = vec!["loss".to_owned()];
    commit.patch.last_step = Some(2);
    commit.patch.counters.steps = 2;
    commit
}

/// Everything that a commit can change of a run, as text.
async fn everything(store: &AnyStore, run: u64) -> String {
    let id = run_id(run);
    let steps = store.steps(&StepQuery { run_id: id, ranges: whole(1), limit: 100 }).await.unwrap();
    let rollups = SeriesQuery {
        run_id: id,
        analysis: "live".to_owned(),
        metric: SeriesMetric::Edge("ratio"),
        stream: Some(stream()),
        ranges: whole(1),
    };
    let rollups = store.rollups(&rollups, 256).await.unwrap();
    let latest = store.latest_readings(id, 1).await.unwrap();
    let followers = store.follower_snapshots(id, 1).await.unwrap();
    let names = store.scalar_names(id).await.unwrap();
    let events = all_events(store, run).await;
    let run = store.run(id).await.unwrap();
    let seq = store.last_commit_seq().await.unwrap();
    format!("{steps:?} {rollups:?} {latest:?} {followers:?} {names:?} {events:?} {run:?} {seq}")
}

async fn all_events(store: &AnyStore, run: u64) -> Vec<gradwatch_store::Event> {
    let query = EventQuery {
        run_id: Some(run_id(run)),
        project: None,
        types: Vec::new(),
        group: None,
        ranges: None,
        after: None,
        newest_first: false,
        limit: 100,
    };
    store.events(&query).await.unwrap().items
}

/// A commit of runs 1 and 2 where `spoil` spoils run 2's part leaves nothing of either, and a clean one then succeeds.
async fn rolls_back(store: AnyStore, spoil: impl FnOnce(&mut RunCommit), expected: impl FnOnce(&StoreError) -> bool) {
    let mut random = Random(3);
    let (first, second) = (owned(&store, 1).await, owned(&store, 2).await);
    let (first, second) = (full(&first, &mut random), full(&second, &mut random));
    let before = (everything(&store, 1).await, everything(&store, 2).await);
    let mut spoiled = second.clone();
    spoil(&mut spoiled);
    let error = store.commit(&[first.clone(), spoiled]).await.unwrap_err();
    assert!(expected(&error), "{error:?}");
    assert_eq!((everything(&store, 1).await, everything(&store, 2).await), before);
    let marks = store.take_ownership(run_id(3)).await;
    assert!(marks.is_err(), "run 3 does not exist");
    store.commit(&[first, second]).await.unwrap();
    assert_ne!(everything(&store, 1).await, before.0);
    assert_ne!(everything(&store, 2).await, before.1);
}

pub(crate) async fn a_lost_mark_rolls_back_every_run(store: AnyStore) {
    let lost = |error: &StoreError| matches!(error, StoreError::OwnershipLost(run) if *run == run_id(2));
    rolls_back(store.clone(), |commit| commit.marks[0].from_seq = 1, lost).await;
    // The marks of both runs stand at 2 now: a commit that believes in 0 was overtaken, also where it wants to go to 2.
    let mut late = take(&store, 1).await;
    late.marks = vec![mark(1, 0, 2)];
    assert!(matches!(store.commit(&[late.clone()]).await, Err(StoreError::OwnershipLost(_))));
    late.marks = vec![gradwatch_store::MarkMove { shard: 1, ..mark(1, 0, 2) }];
    assert!(matches!(store.commit(&[late]).await, Err(StoreError::OwnershipLost(_))));
}

pub(crate) async fn a_lost_epoch_rolls_back_every_run(store: AnyStore) {
    let lost = |error: &StoreError| matches!(error, StoreError::OwnershipLost(run) if *run == run_id(2));
    rolls_back(store.clone(), |commit| commit.owner_epoch += 1, lost).await;
    // The first owner is replaced; the run that is first in the commit is the one named.
    let (old_first, old_second) = (take(&store, 1).await, take(&store, 2).await);
    take(&store, 1).await;
    take(&store, 2).await;
    let Err(StoreError::OwnershipLost(run)) = store.commit(&[old_second, old_first]).await else { panic!() };
    assert_eq!(run, run_id(2));
    let unknown = empty(77, 1);
    assert!(matches!(store.commit(&[unknown]).await, Err(StoreError::OwnershipLost(run)) if run == run_id(77)));
}

/// A commit that moves no mark lands once, also when its answer was lost and it is sent again.
pub(crate) async fn a_number_is_taken_once(store: AnyStore) {
    let first = owned(&store, 1).await;
    let numbered = |after_commit, commit_number| RunCommit {
        after_commit,
        commit_number,
        events: vec![event("run.crashed", 1, None)],
        ..first.clone()
    };
    let lost = |answer| matches!(answer, Err(StoreError::OwnershipLost(run)) if run == run_id(1));
    store.commit(&[numbered(0, 1)]).await.unwrap();
    assert!(lost(store.commit(&[numbered(0, 1)]).await), "again");
    assert!(lost(store.commit(&[numbered(2, 3)]).await), "one is missing");
    store.commit(&[numbered(1, 4)]).await.unwrap();
    assert!(lost(store.commit(&[numbered(1, 4)]).await), "again");
    assert!(lost(store.commit(&[numbered(1, 2)]).await), "a part of it again");
    assert_eq!(all_events(&store, 1).await.len(), 2);
    // Runs count for themselves, and one that does not match keeps all others out.
    let second = owned(&store, 2).await;
    let other = RunCommit { after_commit: 0, commit_number: 1, events: vec![event("a", 1, None)], ..second };
    assert!(lost(store.commit(&[other.clone(), numbered(1, 5)]).await));
    assert!(all_events(&store, 2).await.is_empty());
    store.commit(&[other, numbered(4, 5)]).await.unwrap();
    assert_eq!((all_events(&store, 1).await.len(), all_events(&store, 2).await.len()), (3, 1));
}

pub(crate) async fn an_owner_counts_anew(store: AnyStore) {
    let numbered = |commit: RunCommit, number| RunCommit { after_commit: number - 1, commit_number: number, ..commit };
    let first = owned(&store, 1).await;
    for number in 1..=3 {
        store.commit(&[numbered(first.clone(), number)]).await.unwrap();
    }
    let second = take(&store, 1).await;
    assert!(matches!(store.commit(&[numbered(second.clone(), 4)]).await, Err(StoreError::OwnershipLost(_))));
    store.commit(&[numbered(second.clone(), 1)]).await.unwrap();
    assert!(matches!(store.commit(&[numbered(first, 2)]).await, Err(StoreError::OwnershipLost(_))));
    store.commit(&[numbered(second, 2)]).await.unwrap();
}

/// With a mark moved or without.
pub(crate) async fn rows_need_their_segment(store: AnyStore) {
    let commit = owned(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    store.open_attempt(&open(2, 2)).await.unwrap();
    let mut random = Random(4);
    for segment in [1, 2] {
        let number = u64::from(segment);
        let marks = if segment == 1 { vec![mark(1, 0, 1)] } else { Vec::new() };
        let readings = vec![reading(segment, number, &mut random)];
        let rollups = vec![rollup("edge.ratio", segment, 0)];
        let steps = vec![step(segment, number)];
        store.commit(&[RunCommit { marks, steps, readings, rollups, ..commit.clone() }]).await.unwrap();
    }
    let unknown = [
        RunCommit { steps: vec![step(3, 1)], ..commit.clone() },
        RunCommit { readings: vec![reading(3, 1, &mut random)], ..commit.clone() },
        RunCommit { rollups: vec![rollup("edge.ratio", 3, 0)], ..commit.clone() },
        RunCommit { events: vec![event("a", 3, None)], ..commit.clone() },
        // Of another run.
        RunCommit { steps: vec![step(2, 1)], ..take(&store, 2).await },
    ];
    for commit in unknown {
        let answer = store.commit(&[commit]).await;
        assert!(matches!(answer, Err(StoreError::Data(_))), "{answer:?}");
    }
}

pub(crate) async fn a_unique_violation_rolls_back_every_run(store: AnyStore) {
    let unique = |error: &StoreError| matches!(error, StoreError::UniqueViolation(_));
    rolls_back(store.clone(), |commit| commit.steps.push(step(1, 1)), unique).await;
    let again = [
        RunCommit { steps: vec![step(1, 2)], ..take(&store, 1).await },
        RunCommit { readings: vec![reading(1, 2, &mut Random(1))], ..take(&store, 1).await },
        RunCommit { rollups: vec![rollup("edge.ratio", 1, 0)], ..take(&store, 1).await },
        RunCommit { scalar_names: vec!["loss".to_owned()], ..take(&store, 1).await },
    ];
    let owner_epoch = take(&store, 1).await.owner_epoch;
    for commit in again {
        let error = store.commit(&[RunCommit { owner_epoch, ..commit }]).await.unwrap_err();
        assert!(unique(&error), "{error:?}");
    }
}

pub(crate) async fn refused_data_rolls_back_every_run(store: AnyStore) {
    let refused = |error: &StoreError| matches!(error, StoreError::Data(_));
    rolls_back(store.clone(), |commit| commit.steps[0].step = u64::MAX, refused).await;
    let commit = take(&store, 1).await;
    // A segment that was never opened.
    let error = store.commit(&[RunCommit { steps: vec![step(9, 1)], ..commit.clone() }]).await.unwrap_err();
    assert!(refused(&error), "{error:?}");
    let mut other_window = reading(1, 9, &mut Random(1));
    other_window.stream.window = 20;
    let error = store.commit(&[RunCommit { readings: vec![other_window], ..commit }]).await.unwrap_err();
    assert!(refused(&error), "{error:?}");
}

pub(crate) async fn marks_and_counters_move(store: AnyStore) {
    let commit = owned(&store, 1).await;
    let counters = RunCounters { steps: 1, rejected: 2, dropped: 3, incomplete: 4, nonfinite: 5, skipped: 6 };
    for (from_seq, to_seq) in [(0, 5), (5, 5), (5, 9)] {
        let mut commit = commit.clone();
        commit.marks = vec![mark(1, from_seq, to_seq)];
        commit.patch.counters = counters;
        store.commit(&[commit]).await.unwrap();
    }
    let patch =
        RunPatch { state: Some(RunState::Stalled), last_step: Some(3), last_seen_us: Some(77), ..RunPatch::default() };
    store.commit(&[RunCommit { patch, ..commit.clone() }]).await.unwrap();
    // What a patch does not name stays.
    store.commit(&[commit]).await.unwrap();
    let owned = store.take_ownership(run_id(1)).await.unwrap();
    let marks = &store.shard_marks(run_id(1), 1).await.unwrap()[0];
    assert_eq!((marks.committed_seq, marks.keep_from_seq), (9, 6));
    let expected = RunCounters { steps: 3, rejected: 6, dropped: 9, incomplete: 12, nonfinite: 15, skipped: 18 };
    assert_eq!(owned.run.counters, expected);
    assert_eq!((owned.run.state, owned.run.last_step, owned.run.last_seen_us), (RunState::Stalled, Some(3), 77));
}

pub(crate) async fn the_sequence_and_event_ids_grow(store: AnyStore) {
    assert_eq!(store.last_commit_seq().await.unwrap(), 0);
    let mut first = owned(&store, 1).await;
    let mut second = owned(&store, 2).await;
    first.events = vec![event("a", 1, None), event("b", 1, None)];
    second.events = vec![event("c", 1, None)];
    let mut seen = BTreeSet::new();
    for seq in 1..=3 {
        let (commit_seq, ids) = store.commit(&[first.clone(), second.clone()]).await.unwrap();
        assert_eq!(commit_seq, seq);
        assert_eq!(store.last_commit_seq().await.unwrap(), seq);
        assert_eq!((ids[0].len(), ids[1].len()), (2, 1));
        for id in ids.iter().flatten() {
            assert!(seen.last().is_none_or(|last| last < id), "{id} does not grow");
            seen.insert(*id);
        }
        let stored: Vec<_> = all_events(&store, 1).await.iter().map(|event| event.event_id).collect();
        assert!(stored.ends_with(&ids[0]), "{stored:?} {ids:?}");
    }
    // A commit that loses gives no sequence away, and a deleted run's ids do not come back.
    let mut lost = second.clone();
    lost.owner_epoch += 1;
    store.commit(&[lost]).await.unwrap_err();
    assert_eq!(store.last_commit_seq().await.unwrap(), 3);
    store.mark_deleting(run_id(2)).await.unwrap();
    while !store.purge(run_id(2), 100).await.unwrap() {}
    let (_, ids) = store.commit(&[first]).await.unwrap();
    assert!(ids[0].iter().all(|id| id > seen.last().unwrap()));
}

pub(crate) async fn a_run_comes_once_in_a_commit(store: AnyStore) {
    let commit = owned(&store, 1).await;
    assert!(matches!(store.commit(&[commit.clone(), commit]).await, Err(StoreError::Data(_))));
}

pub(crate) async fn follower_snapshots_are_replaced(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    let other = gradwatch_store::StreamKey { window: 20, ..stream() };
    let snapshot =
        |segment, key: FollowerKey, step, state: &[u8]| FollowerSnapshot { segment, key, step, state: state.to_vec() };
    commit.followers =
        vec![snapshot(1, FollowerKey::Scalars, 1, b"s1"), snapshot(1, FollowerKey::Stream(stream()), 1, b"a1")];
    store.commit(&[commit.clone()]).await.unwrap();
    // Replaced, new, and the same stream of another segment; of two in one commit the later one stands.
    commit.followers = vec![
        snapshot(1, FollowerKey::Stream(stream()), 2, b"a2"),
        snapshot(1, FollowerKey::Stream(other.clone()), 2, b"b2"),
        snapshot(2, FollowerKey::Stream(stream()), 2, b""),
        snapshot(1, FollowerKey::Stream(stream()), 3, b"a3"),
    ];
    store.commit(&[commit]).await.unwrap();
    assert_eq!(
        store.follower_snapshots(run_id(1), 1).await.unwrap(),
        [
            snapshot(1, FollowerKey::Scalars, 1, b"s1"),
            snapshot(1, FollowerKey::Stream(stream()), 3, b"a3"),
            snapshot(1, FollowerKey::Stream(other), 2, b"b2")
        ]
    );
    assert_eq!(
        store.follower_snapshots(run_id(1), 2).await.unwrap(),
        [snapshot(2, FollowerKey::Stream(stream()), 2, b"")]
    );
}

pub(crate) async fn concurrent_commits_are_each_whole(store: AnyStore) {
    let mut writers = Vec::new();
    for run in 1..=6 {
        let commit = owned(&store, run).await;
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            let mut seqs = Vec::new();
            for number in 1..=20 {
                let mut commit = commit.clone();
                commit.marks = vec![mark(1, number - 1, number)];
                commit.steps = vec![step(1, number)];
                seqs.push(store.commit(&[commit]).await.unwrap().0);
            }
            seqs
        }));
    }
    let mut seqs = BTreeSet::new();
    for writer in writers {
        seqs.extend(writer.await.unwrap());
    }
    assert_eq!(seqs, (1..=120).collect());
    for run in 1..=6 {
        let page = store.steps(&StepQuery { run_id: run_id(run), ranges: whole(1), limit: 100 }).await.unwrap();
        assert_eq!(page.items.len(), 20);
    }
}

pub(crate) async fn a_large_commit_is_whole(store: AnyStore) {
    // Sizes on both sides of every chunk that a store may cut a commit into.
    let mut random = Random(5);
    let mut last = 0;
    let mut commits = Vec::new();
    for run in 1..=70 {
        store.open_attempt(&open(run, run)).await.unwrap();
        commits.push(take(&store, run).await);
    }
    for size in [1, 3, 63, 64, 65, 127, 129, 700] {
        for commit in &mut commits {
            commit.marks = vec![mark(1, last, last + size)];
            commit.patch.counters.steps = size;
        }
        commits[0].steps = (last + 1..=last + size).map(|number| step(1, number)).collect();
        commits[0].readings = (last + 1..=last + size).map(|number| reading(1, number, &mut random)).collect();
        store.commit(&commits).await.unwrap();
        last += size;
    }
    let page = store.steps(&StepQuery { run_id: run_id(1), ranges: whole(1), limit: 10_000 }).await.unwrap();
    assert!(page.items.iter().map(|step| step.step).eq(1..=last));
    for run in [1, 64, 65, 70] {
        assert_eq!(store.run(run_id(run)).await.unwrap().counters.steps, last);
    }
}
