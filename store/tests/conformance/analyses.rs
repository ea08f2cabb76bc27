//! Re-analyses.

use std::collections::BTreeMap;

use gradwatch_spectral::edge::EdgeReading;
use gradwatch_store::{
    AnalysisCommit, AnalysisEnd, AnalysisPosition, AnalysisSpec, AnalysisState, Kind, NewAnalysis, ReadingQuery,
    ReadingRow, RollupRow, RunCommit, RunPatch, RunState, SeriesMetric, SeriesQuery, StoreError, StreamKey,
};

use crate::{
    fixture::{AnyStore, Random, exactly, owned, reading, resume, rollup, run_id, step, whole, wide_analysis},
    sketches::block,
};

/// Run 1 with rows of two groups at steps 1 to 10, and 11 to 14 in a second segment.
async fn with_rows(store: &AnyStore) -> RunCommit {
    let of_run = owned(store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 10)).await.unwrap();
    let mut commit = of_run.clone();
    commit.steps = (1..=10).map(|at| step(1, at)).chain((11..=14).map(|at| step(2, at))).collect();
    commit.sketches = vec![block(1, "all", 1, 7), block(1, "all", 8, 3), block(1, "blocks.3.mlp", 1, 10)];
    commit.sketches.push(block(2, "all", 11, 4));
    store.commit(&[commit]).await.unwrap();
    of_run
}

fn commit_of(name: &str, after_commit: u64) -> AnalysisCommit {
    AnalysisCommit {
        run_id: run_id(1),
        name: name.to_owned(),
        after_commit,
        position: None,
        rows: 0,
        transitions: 0,
        readings: Vec::new(),
        rollups: Vec::new(),
        now_us: 100 + after_commit as i64,
        end: None,
    }
}

fn reading_of(name: &str, at: u64) -> ReadingRow {
    ReadingRow { analysis: name.to_owned(), ..reading(1, at, &mut Random(at)) }
}

async fn readings(store: &AnyStore, analysis: &str) -> Vec<ReadingRow> {
    let stream = StreamKey { group: "all".into(), kind: Kind::Update, window: 10 };
    let query = ReadingQuery { run_id: run_id(1), analysis: analysis.to_owned(), stream, ranges: whole(1), limit: 100 };
    store.readings(&query).await.unwrap().items.into_iter().map(|reading| reading.row).collect()
}

async fn rollups(store: &AnyStore, analysis: &str) -> usize {
    let query = SeriesQuery {
        run_id: run_id(1),
        analysis: analysis.to_owned(),
        metric: SeriesMetric::Edge("ratio"),
        stream: Some(StreamKey { group: "all".into(), kind: Kind::Update, window: 10 }),
        ranges: whole(1),
    };
    store.rollups(&query, 256).await.unwrap().len()
}

pub(crate) async fn an_analysis_begins_where_the_run_stands(store: AnyStore) {
    with_rows(&store).await;
    let begun = store.create_analysis(&wide_analysis("wide")).await.unwrap();
    assert_eq!(begun.marks, BTreeMap::from([(1, 10), (2, 14)]));
    assert_eq!((begun.state, begun.rows_total, begun.rows_done, begun.commits), (AnalysisState::Running, 24, 0, 0));
    assert_eq!((begun.created_at_us, &begun.spec), (77, &wide_analysis("wide").spec));
    assert_eq!(store.analysis(run_id(1), "wide").await.unwrap(), Some(begun.clone()));
    let narrow = AnalysisSpec {
        group: Some("blocks.3.mlp".into()),
        kind: Some(Kind::Update),
        from_step: 3,
        to_step: 5,
        ..begun.spec.clone()
    };
    let narrow = NewAnalysis { spec: narrow, ..wide_analysis("a narrow one") };
    assert_eq!(store.create_analysis(&narrow).await.unwrap().rows_total, 10);
    let listed = store.analyses(run_id(1)).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a narrow one", "wide"]);
    assert_eq!(listed[0].spec, narrow.spec);
    assert_eq!(store.analyses(run_id(2)).await.unwrap(), []);
    assert_eq!(store.running_analyses().await.unwrap().len(), 2);
}

pub(crate) async fn what_cannot_begin_is_refused(store: AnyStore) {
    let unknown = store.create_analysis(&wide_analysis("wide")).await;
    assert!(matches!(unknown, Err(StoreError::UnknownRun(_))), "{unknown:?}");
    owned(&store, 2).await;
    let nothing = store.create_analysis(&NewAnalysis { run_id: run_id(2), ..wide_analysis("wide") }).await;
    assert!(matches!(nothing, Err(StoreError::Conflict { field: "run_id", .. })), "{nothing:?}");
    with_rows(&store).await;
    let spec = AnalysisSpec { kind: Some(Kind::Gradient), ..wide_analysis("wide").spec };
    let nothing = store.create_analysis(&NewAnalysis { spec, ..wide_analysis("wide") }).await;
    assert!(matches!(nothing, Err(StoreError::Conflict { field: "run_id", .. })), "{nothing:?}");
    for name in ["wide", "wider", "widest"] {
        store.create_analysis(&wide_analysis(name)).await.unwrap();
    }
    for name in ["wide", "another"] {
        let refused = store.create_analysis(&wide_analysis(name)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { field: "name", .. })), "{name}: {refused:?}");
    }
    // Also while it is being deleted.
    store.mark_analysis_deleting(run_id(1), "wide").await.unwrap();
    let refused = store.create_analysis(&wide_analysis("wide")).await;
    assert!(matches!(refused, Err(StoreError::Conflict { field: "name", .. })), "{refused:?}");
    store.mark_deleting(run_id(1)).await.unwrap();
    let deleting = store.create_analysis(&wide_analysis("late")).await;
    assert!(matches!(deleting, Err(StoreError::RunDeleting(_))), "{deleting:?}");
}

pub(crate) async fn commits_follow_each_other(store: AnyStore) {
    with_rows(&store).await;
    store.create_analysis(&wide_analysis("wide")).await.unwrap();
    let at = AnalysisPosition { segment: 1, group: "all".into(), kind: Kind::Update, step: 7 };
    let first = AnalysisCommit {
        position: Some(at.clone()),
        rows: 7,
        transitions: 1,
        readings: (1..=7).map(|at| reading_of("wide", at)).collect(),
        rollups: vec![RollupRow { analysis: "wide".into(), ..rollup("edge.ratio", 1, 0) }],
        ..commit_of("wide", 0)
    };
    assert!(store.commit_analysis(&first).await.unwrap());
    // Its answer was lost: it does not land again.
    assert!(!store.commit_analysis(&first).await.unwrap());
    let second = AnalysisCommit { rows: 3, readings: vec![reading_of("wide", 8)], ..commit_of("wide", 1) };
    assert!(!store.commit_analysis(&AnalysisCommit { after_commit: 2, ..second.clone() }).await.unwrap());
    assert!(!store.commit_analysis(&AnalysisCommit { name: "other".into(), ..second.clone() }).await.unwrap());
    assert!(store.commit_analysis(&second).await.unwrap());
    let expected: Vec<_> = (1..=8).map(|at| reading_of("wide", at)).collect();
    assert_eq!(exactly(&readings(&store, "wide").await), exactly(&expected));
    assert!(readings(&store, "live").await.is_empty());
    assert_eq!((rollups(&store, "wide").await, rollups(&store, "live").await), (1, 0));
    let stands = store.analysis(run_id(1), "wide").await.unwrap().unwrap();
    assert_eq!((stands.commits, stands.rows_done, stands.readings, stands.transitions), (2, 10, 8, 1));
    assert_eq!((stands.position, stands.updated_at_us, stands.state), (Some(at), 101, AnalysisState::Running));
    let end = AnalysisCommit { end: Some(AnalysisEnd::Done), ..commit_of("wide", 2) };
    assert!(store.commit_analysis(&end).await.unwrap());
    assert!(!store.commit_analysis(&commit_of("wide", 3)).await.unwrap());
    assert!(store.running_analyses().await.unwrap().is_empty());
    store.create_analysis(&wide_analysis("other")).await.unwrap();
    let failed = AnalysisCommit { end: Some(AnalysisEnd::Failed("why".into())), ..commit_of("other", 0) };
    assert!(store.commit_analysis(&failed).await.unwrap());
    let failed = store.analysis(run_id(1), "other").await.unwrap().unwrap();
    assert_eq!((failed.state, failed.message.as_deref()), (AnalysisState::Failed, Some("why")));
}

pub(crate) async fn a_refused_commit_leaves_nothing(store: AnyStore) {
    with_rows(&store).await;
    let begun = store.create_analysis(&wide_analysis("wide")).await.unwrap();
    let edge = EdgeReading { update_norm: f64::NAN, ..reading_of("wide", 2).edge };
    let bad = ReadingRow { edge, ..reading_of("wide", 2) };
    let refused = AnalysisCommit { rows: 2, readings: vec![reading_of("wide", 1), bad], ..commit_of("wide", 0) };
    let answer = store.commit_analysis(&refused).await;
    assert!(matches!(answer, Err(StoreError::Data(_))), "{answer:?}");
    let twice = AnalysisCommit { readings: vec![reading_of("wide", 1), reading_of("wide", 1)], ..refused };
    let answer = store.commit_analysis(&twice).await;
    assert!(matches!(answer, Err(StoreError::UniqueViolation(_))), "{answer:?}");
    assert!(readings(&store, "wide").await.is_empty());
    assert_eq!(store.analysis(run_id(1), "wide").await.unwrap(), Some(begun));
}

pub(crate) async fn a_deleted_analysis_takes_its_readings_only(store: AnyStore) {
    let of_run = with_rows(&store).await;
    store.commit(&[RunCommit { readings: vec![reading_of("live", 1)], ..of_run }]).await.unwrap();
    for name in ["wide", "other"] {
        store.create_analysis(&wide_analysis(name)).await.unwrap();
        let rollup = RollupRow { analysis: name.into(), ..rollup("edge.ratio", 1, 0) };
        let readings = (1..=9).map(|at| reading_of(name, at)).collect();
        let commit = AnalysisCommit { readings, rollups: vec![rollup], ..commit_of(name, 0) };
        assert!(store.commit_analysis(&commit).await.unwrap());
    }
    assert!(store.mark_analysis_deleting(run_id(1), "wide").await.unwrap());
    assert!(!store.mark_analysis_deleting(run_id(1), "wide").await.unwrap());
    assert!(!store.mark_analysis_deleting(run_id(1), "nobody").await.unwrap());
    assert_eq!(store.analysis(run_id(1), "wide").await.unwrap(), None);
    assert!(!store.commit_analysis(&commit_of("wide", 1)).await.unwrap());
    assert_eq!(store.deleting_analyses().await.unwrap(), [(run_id(1), "wide".to_owned())]);
    let mut calls = 1;
    while !store.purge_analysis(run_id(1), "wide", 4).await.unwrap() {
        calls += 1;
    }
    assert_eq!(calls, 3);
    assert!(store.deleting_analyses().await.unwrap().is_empty());
    let left = [readings(&store, "wide").await.len(), readings(&store, "other").await.len()];
    assert_eq!((left, readings(&store, "live").await.len()), ([0, 9], 1));
    assert_eq!((rollups(&store, "wide").await, rollups(&store, "other").await), (0, 1));
    store.create_analysis(&wide_analysis("wide")).await.unwrap();
}

pub(crate) async fn a_run_takes_its_analyses_with_it(store: AnyStore) {
    let of_run = with_rows(&store).await;
    store.create_analysis(&wide_analysis("wide")).await.unwrap();
    let patch = RunPatch { state: Some(RunState::Finished), last_seen_us: Some(50), ..RunPatch::default() };
    store.commit(&[RunCommit { patch, ..of_run }]).await.unwrap();
    // A run is not too old while somebody computes on it.
    assert!(store.expired_runs(100).await.unwrap().is_empty());
    let end = AnalysisCommit { end: Some(AnalysisEnd::Done), ..commit_of("wide", 0) };
    assert!(store.commit_analysis(&end).await.unwrap());
    assert_eq!(store.expired_runs(100).await.unwrap(), [run_id(1)]);
    store.create_analysis(&wide_analysis("running")).await.unwrap();
    store.mark_deleting(run_id(1)).await.unwrap();
    assert!(store.analyses(run_id(1)).await.unwrap().is_empty());
    assert!(store.running_analyses().await.unwrap().is_empty());
    while !store.purge(run_id(1), 3).await.unwrap() {}
    assert!(!store.commit_analysis(&commit_of("running", 0)).await.unwrap());
    assert!(store.sketch_extents(run_id(1), 1).await.unwrap().is_empty());
    assert!(readings(&store, "wide").await.is_empty());
}
