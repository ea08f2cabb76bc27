//! Opening attempts.

use gradwatch_store::lineage::{self, SegmentRange};
use gradwatch_store::{Encoding, Kind, OpenAttempt, OpenedAttempt, ResumeFrom, RunPatch, RunState, StoreError};

use crate::fixture::{AnyStore, attempt_id, mark, open, owned, resume, run_id, step, take};

pub(crate) async fn opening_is_idempotent(store: AnyStore) {
    let first = store.open_attempt(&open(1, 1)).await.unwrap();
    assert_eq!(first, OpenedAttempt { segment: 1, created: true });
    for _ in 0..2 {
        assert_eq!(store.open_attempt(&open(1, 1)).await.unwrap(), OpenedAttempt { segment: 1, created: false });
    }
    assert_eq!(store.segments(run_id(1)).await.unwrap().len(), 1);
    let owned = store.take_ownership(run_id(1)).await.unwrap();
    assert_eq!(owned.segments.len(), 1);
    let marks = store.shard_marks(run_id(1), 1).await.unwrap();
    assert_eq!((marks.len(), marks[0].shard, marks[0].committed_seq), (1, 0, 0));
    assert_eq!(marks[0].writer_id, "writer");
}

pub(crate) async fn reconnecting_sets_nothing_back(store: AnyStore) {
    let mut opened = open(1, 1);
    opened.run.labels.insert("team".to_owned(), "a".to_owned());
    store.open_attempt(&opened).await.unwrap();
    let patch = [("team".to_owned(), Some("b".to_owned()))].into();
    store.patch_labels(run_id(1), &patch).await.unwrap();
    let mut commit = take(&store, 1).await;
    commit.patch.state = Some(RunState::Finished);
    commit.patch.last_step = Some(12);
    store.commit(&[commit]).await.unwrap();
    opened.now_us = 6_000;
    store.open_attempt(&opened).await.unwrap();
    let run = store.run(run_id(1)).await.unwrap();
    assert_eq!(run.labels["team"], "b");
    assert_eq!(run.state, RunState::Finished);
    assert_eq!(run.last_step, Some(12));
    assert_eq!((run.created_at_us, run.last_seen_us), (5_000, 6_000));
}

pub(crate) async fn a_second_writer_is_refused(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    let mut other = open(1, 1);
    other.writer_id = "other".to_owned();
    let Err(StoreError::SecondWriter { shard: 0, .. }) = store.open_attempt(&other).await else { panic!() };
    // The refused opening left nothing behind.
    other.run.labels.insert("x".to_owned(), "y".to_owned());
    store.open_attempt(&other).await.unwrap_err();
    assert!(store.run(run_id(1)).await.unwrap().labels.is_empty());
    store.open_attempt(&open(1, 1)).await.unwrap();
}

async fn conflict(store: &AnyStore, open: &OpenAttempt) -> &'static str {
    match store.open_attempt(open).await {
        Err(StoreError::Conflict { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn an_unrelated_launch_must_say_so(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    let mut launch = open(1, 2);
    assert_eq!(conflict(&store, &launch).await, "attempt.resumes");
    launch.attempt.unrelated = true;
    assert_eq!(store.open_attempt(&launch).await.unwrap(), OpenedAttempt { segment: 2, created: true });
}

pub(crate) async fn an_unrelated_launch_stands_last_whatever_its_clock_says(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 10)).await.unwrap();
    let newest_us = open(1, 2).attempt.started_at_us;
    // A clock that is behind, one that is ahead, one behind again.
    let clocks_us = [newest_us - 500, newest_us + 500, 0];
    let starts_us = [newest_us + 1, newest_us + 500, newest_us + 501];
    for (attempt, (clock_us, start_us)) in (3..).zip(clocks_us.into_iter().zip(starts_us)) {
        let mut launch = open(1, attempt);
        launch.attempt.unrelated = true;
        launch.attempt.started_at_us = clock_us;
        let segment = attempt as u32;
        for created in [true, false] {
            assert_eq!(store.open_attempt(&launch).await.unwrap(), OpenedAttempt { segment, created });
        }
        let segments = store.segments(run_id(1)).await.unwrap();
        assert_eq!(segments.last().unwrap().started_at_us, start_us);
        assert_eq!(lineage::order(&segments), (1..=segment).collect::<Vec<_>>());
        assert_eq!(lineage::live(&segments, 0, 20), [SegmentRange { segment, from_step: 0, to_step: 20 }]);
    }
}

pub(crate) async fn a_changed_declaration_is_refused(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 10)).await.unwrap();
    type Change = fn(&mut OpenAttempt);
    let changes: [(&str, Change); 11] = [
        ("spec.sketch_dim", |open| open.attempt.spec.sketch_dim += 1),
        ("spec.sketch_seed", |open| open.attempt.spec.sketch_seed -= 1),
        ("spec.encoding", |open| open.attempt.spec.encoding = Encoding::F32),
        ("spec.window_lengths", |open| open.attempt.spec.window_lengths.reverse()),
        ("spec.groups", |open| open.attempt.spec.groups[0].tensors[0].elements += 1),
        ("spec.kinds", |open| open.attempt.spec.kinds = vec![Kind::Update]),
        ("spec.update_interval", |open| open.attempt.spec.update_interval += 1),
        ("shard_count", |open| open.attempt.shard_count = 2),
        ("attempt.resumes.step", |open| open.attempt.resumes = resume(1, 2, 1, 11).attempt.resumes),
        ("attempt.resumes", |open| open.attempt.resumes = None),
        ("shard", |open| open.shard = 1),
    ];
    for (field, change) in changes {
        let mut changed = resume(1, 2, 1, 10);
        change(&mut changed);
        assert_eq!(conflict(&store, &changed).await, field);
    }
    assert_eq!(conflict(&store, &resume(1, 1, 2, 10)).await, "attempt.resumes");
    store.open_attempt(&resume(1, 3, 1, 10)).await.unwrap();
    assert_eq!(conflict(&store, &resume(1, 3, 2, 10)).await, "attempt.resumes.attempt_id");
}

pub(crate) async fn what_is_resumed_must_exist(store: AnyStore) {
    assert_eq!(conflict(&store, &resume(1, 2, 1, 10)).await, "attempt.resumes.attempt_id");
    let Err(StoreError::UnknownRun(_)) = store.run(run_id(1)).await else { panic!("the refused opening left a run") };
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&open(2, 20)).await.unwrap();
    assert_eq!(conflict(&store, &resume(1, 2, 20, 10)).await, "attempt.resumes.attempt_id");
    assert_eq!(conflict(&store, &resume(1, 2, 2, 10)).await, "attempt.resumes.attempt_id");
    assert_eq!(store.open_attempt(&resume(1, 2, 1, 10)).await.unwrap().segment, 2);
}

pub(crate) async fn the_newest_attempt_is_found_out_once(store: AnyStore) {
    let newest = |attempt: u64, step: u64| {
        let mut newest = open(1, attempt);
        newest.attempt.resumes = Some(ResumeFrom::Newest { step });
        newest
    };
    // There is none yet, and who began the run goes on having begun it.
    assert_eq!(store.open_attempt(&newest(1, 10)).await.unwrap(), OpenedAttempt { segment: 1, created: true });
    store.open_attempt(&newest(2, 20)).await.unwrap();
    for (attempt, segment) in [(1, 1), (2, 2)] {
        let answer = store.open_attempt(&newest(attempt, 10 * attempt)).await.unwrap();
        assert_eq!(answer, OpenedAttempt { segment, created: false });
    }
    assert_eq!(conflict(&store, &newest(2, 21)).await, "attempt.resumes.step");
    // The newest is the one at the end of the line, whatever was opened last.
    store.open_attempt(&resume(1, 3, 2, 15)).await.unwrap();
    let mut replacing = open(1, 4);
    replacing.attempt.unrelated = true;
    store.open_attempt(&replacing).await.unwrap();
    let mut aside = resume(1, 5, 1, 5);
    aside.attempt.started_at_us = 0;
    store.open_attempt(&aside).await.unwrap();
    store.open_attempt(&newest(6, 30)).await.unwrap();
    store.open_attempt(&newest(2, 20)).await.unwrap();
    let segments = store.segments(run_id(1)).await.unwrap();
    let resumed: Vec<_> = segments.iter().map(|it| it.resumes.map(|it| (it.attempt_id, it.step))).collect();
    let expected = [None, Some((1, 20)), Some((2, 15)), None, Some((1, 5)), Some((4, 30))]
        .map(|it| it.map(|(id, step)| (attempt_id(id), step)));
    assert_eq!(resumed, expected);
}

pub(crate) async fn shards_join_one_attempt(store: AnyStore) {
    for shard in [2, 0, 1] {
        let mut opened = open(1, 1);
        opened.attempt.shard_count = 3;
        opened.shard = shard;
        opened.writer_id = format!("writer {shard}");
        opened.run.labels.insert(format!("shard{shard}"), "here".to_owned());
        let answer = store.open_attempt(&opened).await.unwrap();
        assert_eq!(answer, OpenedAttempt { segment: 1, created: shard == 2 });
    }
    let owned = store.take_ownership(run_id(1)).await.unwrap();
    let marks = store.shard_marks(run_id(1), 1).await.unwrap();
    let writers: Vec<_> = marks.iter().map(|mark| (mark.shard, mark.writer_id.as_str())).collect();
    assert_eq!(writers, [(0, "writer 0"), (1, "writer 1"), (2, "writer 2")]);
    assert_eq!(owned.run.labels.len(), 3);
}

pub(crate) async fn marks_are_those_of_the_segment(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    commit.marks = vec![mark(1, 0, 8), mark(2, 0, 3)];
    store.commit(&[commit]).await.unwrap();
    for (segment, committed_seq) in [(1, 8), (2, 3)] {
        let marks = store.shard_marks(run_id(1), segment).await.unwrap();
        assert_eq!((marks.len(), marks[0].committed_seq), (1, committed_seq));
    }
    assert!(store.shard_marks(run_id(1), 3).await.unwrap().is_empty());
}

pub(crate) async fn a_new_attempt_runs_again(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    commit.patch = RunPatch {
        state: Some(RunState::Preempted),
        last_step: Some(7),
        last_seen_us: Some(9_000),
        ..RunPatch::default()
    };
    commit.steps = vec![step(1, 7)];
    store.commit(&[commit]).await.unwrap();
    let mut again = resume(1, 101, 100, 5);
    again.run.name = "renamed".to_owned();
    again.run.config = serde_json::json!({"lr": 1});
    again.now_us = 10_000;
    store.open_attempt(&again).await.unwrap();
    let run = store.run(run_id(1)).await.unwrap();
    assert_eq!((run.state, run.name.as_str(), run.last_step), (RunState::Running, "renamed", None));
    assert_eq!(run.config, serde_json::json!({"lr": 1}));
    assert_eq!((run.created_at_us, run.last_seen_us), (5_000, 10_000));
    let segments = store.segments(run_id(1)).await.unwrap();
    assert_eq!((segments[0].last_step, segments[1].last_step), (Some(7), None));
}

pub(crate) async fn an_attempt_that_comes_to_be_known_late_changes_nothing_of_the_run(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    let mut newest = resume(1, 102, 100, 5);
    newest.attempt.started_at_us += 2;
    store.open_attempt(&newest).await.unwrap();
    commit.patch = RunPatch { state: Some(RunState::Finished), last_step: Some(7), ..RunPatch::default() };
    store.commit(&[commit]).await.unwrap();
    // It began before the newest one and lay in a spool meanwhile.
    let mut late = resume(1, 101, 100, 5);
    late.attempt.started_at_us += 1;
    late.run.name = "renamed".to_owned();
    late.run.config = serde_json::json!({"lr": 1});
    assert!(store.open_attempt(&late).await.unwrap().created);
    let run = store.run(run_id(1)).await.unwrap();
    assert_eq!((run.state, run.name, run.last_step), (RunState::Finished, newest.run.name, Some(7)));
    assert_eq!(run.config, newest.run.config);
    let segments = store.segments(run_id(1)).await.unwrap();
    assert_eq!(lineage::order(&segments), [1, 3, 2]);
}

pub(crate) async fn the_project_is_fixed(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    let mut moved = resume(1, 2, 1, 3);
    moved.run.project = "language".to_owned();
    assert_eq!(conflict(&store, &moved).await, "project");
    // Whoever is of another project does not learn that the run is being deleted.
    store.mark_deleting(run_id(1)).await.unwrap();
    assert_eq!(conflict(&store, &moved).await, "project");
}

pub(crate) async fn concurrent_openings_agree(store: AnyStore) {
    let openings: Vec<_> = (0..8_u32)
        .map(|shard| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut opened = open(1, 1);
                opened.attempt.shard_count = 8;
                opened.shard = shard;
                store.open_attempt(&opened).await.unwrap()
            })
        })
        .collect();
    let mut created = 0;
    for opening in openings {
        let opened = opening.await.unwrap();
        assert_eq!(opened.segment, 1);
        created += u32::from(opened.created);
    }
    assert_eq!(created, 1);
    assert_eq!(store.shard_marks(run_id(1), 1).await.unwrap().len(), 8);
}
