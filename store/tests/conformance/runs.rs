//! Run lists, labels and the overview.

use std::collections::BTreeMap;

use gradwatch_spectral::detectors::Regime;
use gradwatch_store::{Page, Run, RunCounters, RunPatch, RunQuery, RunSort, RunState, StoreError};

use crate::fixture::{AnyStore, empty, event, open, run_id, take};

fn any() -> RunQuery {
    RunQuery {
        project: None,
        state: None,
        regime: None,
        name: None,
        labels: BTreeMap::new(),
        sort: RunSort::CreatedAscending,
        after: None,
        limit: 100,
    }
}

/// The last 64 bits of a test's run ids are their numbers.
fn numbers(runs: &[Run]) -> Vec<u64> {
    runs.iter().map(|run| run.run_id.0.as_u64_pair().1).collect()
}

async fn found(store: &AnyStore, query: &RunQuery) -> Vec<u64> {
    numbers(&store.runs(query).await.unwrap().items)
}

/// Runs 1 to 6, opened one microsecond after the other, odd ones in another project.
async fn six(store: &AnyStore) {
    for run in 1..=6 {
        let mut opened = open(run, run);
        opened.now_us = 100 + run as i64;
        opened.run.name = format!("name {}", run / 2);
        opened.run.labels =
            [("half".to_owned(), (run / 4).to_string()), ("a.b\"c".to_owned(), "x'y".to_owned())].into();
        if run % 2 == 1 {
            opened.run.project = "language".to_owned();
            opened.run.labels.insert("odd".to_owned(), "yes".to_owned());
        }
        store.open_attempt(&opened).await.unwrap();
    }
}

async fn patch(store: &AnyStore, run: u64, patch: RunPatch) {
    let mut commit = take(store, run).await;
    commit.patch = patch;
    store.commit(&[commit]).await.unwrap();
}

pub(crate) async fn runs_are_filtered(store: AnyStore) {
    six(&store).await;
    patch(&store, 2, RunPatch { state: Some(RunState::Crashed), ..RunPatch::default() }).await;
    patch(&store, 3, RunPatch { regime: Some(Regime::Forgetting), ..RunPatch::default() }).await;
    assert_eq!(found(&store, &any()).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(found(&store, &RunQuery { project: Some("language".to_owned()), ..any() }).await, [1, 3, 5]);
    assert_eq!(found(&store, &RunQuery { state: Some(RunState::Crashed), ..any() }).await, [2]);
    assert_eq!(found(&store, &RunQuery { regime: Some(Regime::Forgetting), ..any() }).await, [3]);
    assert_eq!(found(&store, &RunQuery { name: Some("name 2".to_owned()), ..any() }).await, [4, 5]);
    let labels = |pairs: &[(&str, &str)]| RunQuery {
        labels: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..any()
    };
    assert_eq!(found(&store, &labels(&[("half", "1")])).await, [4, 5, 6]);
    assert_eq!(found(&store, &labels(&[("half", "1"), ("odd", "yes")])).await, [5]);
    assert_eq!(found(&store, &labels(&[("a.b\"c", "x'y")])).await.len(), 6);
    assert!(found(&store, &labels(&[("half", "1"), ("odd", "no")])).await.is_empty());
    let both = RunQuery { project: Some("language".to_owned()), name: Some("name 2".to_owned()), ..any() };
    assert_eq!(found(&store, &both).await, [5]);
}

pub(crate) async fn sort_and_cursor(store: AnyStore) {
    six(&store).await;
    // Two runs heard of at the same instant: the run id decides.
    for (run, last_seen_us) in [(1, 50), (2, 40), (3, 40), (4, 40), (5, 30), (6, 60)] {
        patch(&store, run, RunPatch { last_seen_us: Some(last_seen_us), ..RunPatch::default() }).await;
    }
    let mut tied = [2, 3, 4];
    tied.sort_by_key(|run| run_id(*run));
    let ascending: Vec<u64> = [5].into_iter().chain(tied).chain([1, 6]).collect();
    let descending: Vec<u64> = ascending.iter().rev().copied().collect();
    let orders = [
        (RunSort::LastSeenAscending, ascending),
        (RunSort::LastSeenDescending, descending),
        (RunSort::CreatedAscending, vec![1, 2, 3, 4, 5, 6]),
        (RunSort::CreatedDescending, vec![6, 5, 4, 3, 2, 1]),
    ];
    for (sort, expected) in orders {
        assert_eq!(found(&store, &RunQuery { sort, ..any() }).await, expected);
        for limit in 1..=7 {
            let mut query = RunQuery { sort, limit, ..any() };
            let mut all: Vec<Run> = Vec::new();
            loop {
                let Page { items, more } = store.runs(&query).await.unwrap();
                all.extend(items);
                assert_eq!(more, all.len() < 6);
                query.after = all.last().map(|run| match sort {
                    RunSort::LastSeenAscending | RunSort::LastSeenDescending => (run.last_seen_us, run.run_id),
                    RunSort::CreatedAscending | RunSort::CreatedDescending => (run.created_at_us, run.run_id),
                });
                if !more {
                    break;
                }
            }
            assert_eq!(numbers(&all), expected, "{sort:?} by {limit}");
        }
    }
}

pub(crate) async fn labels(store: AnyStore) {
    six(&store).await;
    let patch = BTreeMap::from([
        ("half".to_owned(), None),
        ("absent".to_owned(), None),
        ("new".to_owned(), Some("\u{1f980} \"x\"".to_owned())),
    ]);
    let answer = store.patch_labels(run_id(2), &patch).await.unwrap();
    assert_eq!(answer, store.run(run_id(2)).await.unwrap());
    let labels: Vec<_> = answer.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("a.b\"c", "x'y"), ("new", "\u{1f980} \"x\"")]);
    assert!(matches!(store.patch_labels(run_id(99), &patch).await, Err(StoreError::UnknownRun(_))));
    store.mark_deleting(run_id(2)).await.unwrap();
    assert!(matches!(store.patch_labels(run_id(2), &patch).await, Err(StoreError::RunDeleting(_))));
}

pub(crate) async fn overview(store: AnyStore) {
    six(&store).await;
    store.open_attempt(&open(7, 7)).await.unwrap();
    store.mark_deleting(run_id(7)).await.unwrap();
    let counters = RunCounters { dropped: 1, incomplete: 1, ..RunCounters::default() };
    let state =
        |state, last_seen_us| RunPatch { state: Some(state), last_seen_us: Some(last_seen_us), ..RunPatch::default() };
    patch(&store, 1, state(RunState::Crashed, 900)).await;
    patch(&store, 2, state(RunState::Stalled, 901)).await;
    patch(&store, 3, RunPatch { regime: Some(Regime::Plateau), ..state(RunState::Finished, 902) }).await;
    patch(&store, 4, RunPatch { regime: Some(Regime::Transition), ..RunPatch::default() }).await;
    patch(&store, 5, RunPatch { counters, ..state(RunState::Running, 903) }).await;
    patch(&store, 6, RunPatch { counters, ..state(RunState::Running, 904) }).await;
    let mut commits: Vec<_> = Vec::new();
    for run in 1..=2 {
        let mut commit = empty(run, store.take_ownership(run_id(run)).await.unwrap().owner_epoch);
        commit.events = (0..15).map(|step| event("edge.regime", 1, Some(step))).collect();
        commit.events.push(event("edge.rotation", 1, None));
        commits.push(commit);
    }
    store.commit(&commits).await.unwrap();

    let overview = store.overview(None).await.unwrap();
    let by_state = [(RunState::Running, 3), (RunState::Stalled, 1), (RunState::Crashed, 1), (RunState::Finished, 1)];
    assert_eq!(overview.by_state, BTreeMap::from(by_state));
    assert_eq!(overview.by_regime, BTreeMap::from([(Regime::Warming, 4), (Regime::Transition, 1)]));
    assert_eq!(numbers(&overview.stalled), [2, 1]);
    assert_eq!(numbers(&overview.lossy), [6, 5]);
    assert_eq!(numbers(&overview.incomplete), [6, 5]);
    assert_eq!(overview.transitions.len(), 20);
    assert!(overview.transitions.iter().all(|event| event.row.event_type == "edge.regime"));
    assert!(overview.transitions.windows(2).all(|pair| pair[0].event_id > pair[1].event_id));
    assert_eq!((overview.transitions[0].run_id, overview.transitions[0].row.step), (run_id(2), Some(14)));

    let language = store.overview(Some("language")).await.unwrap();
    assert_eq!(language.by_state.values().sum::<u64>(), 3);
    assert_eq!((numbers(&language.stalled), numbers(&language.lossy)), (vec![1], vec![5]));
    assert_eq!(language.transitions.len(), 15);
    let none = store.overview(Some("nothing")).await.unwrap();
    assert!(none.by_state.is_empty() && none.by_regime.is_empty() && none.transitions.is_empty());
}
