//! Settling evaluations.

use std::collections::BTreeSet;

use gradwatch_store::{
    Alert, AlertCommit, AlertCount, AlertLane, AlertQuery, AlertState, RunPatch, RunState, StoreError,
};

use crate::{
    alert_fixture::{alert, commit, cursor, id, land, notification, of_group, told},
    fixture::{AnyStore, empty, mark, open, owned, run_id, step, take},
};

async fn numbers(store: &AnyStore, run: u64) -> Vec<(AlertLane, u64)> {
    let cursors = store.alert_cursors(run_id(run)).await.unwrap();
    cursors.iter().map(|cursor| (cursor.lane, cursor.number)).collect()
}

pub(crate) async fn an_evaluation_comes_back_as_it_was(store: AnyStore) {
    owned(&store, 1).await;
    let mut first = commit(1, 0);
    first.cursor.at = None;
    first.alerts = vec![alert(1, 1, AlertState::Pending), of_group("grüße", alert(2, 1, AlertState::Firing))];
    first.notifications = vec![notification("pager", "k", 2), notification("log", "k", 1), notification("log", "k", 0)];
    land(&store, first.clone()).await;
    let layers = AlertCommit { cursor: cursor(AlertLane::Layers, 1), ..commit(1, 0) };
    land(&store, layers.clone()).await;
    assert_eq!(store.alert_cursors(run_id(1)).await.unwrap(), [first.cursor.clone(), layers.cursor]);
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap(), first.alerts);
    for alert in &first.alerts {
        assert_eq!(store.alert(alert.alert_id).await.unwrap().as_ref(), Some(alert));
    }
    assert_eq!(store.alert(id(5)).await.unwrap(), None);
    let waiting = store.notifications(9).await.unwrap();
    // By receiver and key, and within them in the order of the commit.
    let expected = [1, 2, 0].map(|place| first.notifications[place].clone());
    assert_eq!(told(&waiting), expected);
    assert!(waiting[0].notification_id < waiting[1].notification_id);

    // One ends and begins anew at once, the other fires.
    let mut second = commit(1, 1);
    let again = of_group("grüße", alert(3, 1, AlertState::Pending));
    let ended = of_group("grüße", alert(2, 1, AlertState::Resolved));
    second.alerts = vec![again.clone(), ended.clone(), alert(1, 1, AlertState::Firing)];
    land(&store, second).await;
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap(), [alert(1, 1, AlertState::Firing), again.clone()]);
    assert_eq!(store.alert(ended.alert_id).await.unwrap(), Some(ended));
    assert_eq!(numbers(&store, 1).await, [(AlertLane::Steps, 2), (AlertLane::Layers, 1)]);

    // A pending one is forgotten; what fires is not.
    let forgotten = vec![again.alert_id, alert(1, 1, AlertState::Firing).alert_id];
    land(&store, AlertCommit { forgotten, ..commit(1, 2) }).await;
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap(), [alert(1, 1, AlertState::Firing)]);
    assert_eq!(store.alert(again.alert_id).await.unwrap(), None);
}

pub(crate) async fn an_evaluation_lands_once_and_whole(store: AnyStore) {
    for run in 1..=3 {
        owned(&store, run).await;
    }
    let filled = |run: u64, after_number: u64| AlertCommit {
        alerts: vec![alert(run * 100 + after_number, run, AlertState::Resolved)],
        notifications: vec![notification("pager", "k", run)],
        ..commit(run, after_number)
    };
    // Run 2 has no cursor yet; run 9 is unknown.
    let mixed = [filled(1, 0), filled(2, 1), filled(9, 0), filled(3, 0)];
    assert_eq!(store.commit_alerts(&mixed).await.unwrap(), [true, false, false, true]);
    assert_eq!(store.commit_alerts(&mixed).await.unwrap(), [false; 4], "a repetition");
    assert_eq!(store.commit_alerts(&[filled(1, 1), filled(3, 2), filled(2, 0)]).await.unwrap(), [true, false, true]);
    let runs: Vec<_> = store.alerts(&AlertQuery { limit: 9, ..AlertQuery::default() }).await.unwrap().items;
    let expected = [(200, 2), (101, 1), (300, 3), (100, 1)];
    assert_eq!(runs, expected.map(|(number, run)| alert(number, run, AlertState::Resolved)));
    assert_eq!(store.notifications(9).await.unwrap().len(), 4);
    assert_eq!(store.commit_alerts(&[]).await.unwrap(), [false; 0]);

    let twice = store.commit_alerts(&[filled(1, 2), filled(1, 2)]).await;
    assert!(matches!(twice, Err(StoreError::Data(_))), "{twice:?}");
    let mut skips = filled(1, 2);
    skips.cursor.number = 4;
    assert!(matches!(store.commit_alerts(&[skips]).await, Err(StoreError::Data(_))));
    let of_other = AlertCommit { alerts: vec![alert(9, 2, AlertState::Firing)], ..commit(1, 2) };
    assert!(matches!(store.commit_alerts(&[of_other]).await, Err(StoreError::Data(_))));
    assert_eq!(numbers(&store, 1).await, [(AlertLane::Steps, 2)]);
}

pub(crate) async fn one_alert_of_a_rule_run_and_group_is_open(store: AnyStore) {
    owned(&store, 1).await;
    let mut first = commit(1, 0);
    first.alerts = vec![alert(1, 1, AlertState::Firing), alert(2, 1, AlertState::Resolved)];
    // Of one that comes twice the later is meant.
    first.alerts.push(Alert { severity: "critical".to_owned(), ..alert(1, 1, AlertState::Firing) });
    land(&store, first.clone()).await;
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap(), first.alerts[2..]);
    let second = AlertCommit { alerts: vec![alert(3, 1, AlertState::Pending)], ..commit(1, 1) };
    let result = store.commit_alerts(&[second]).await;
    assert!(matches!(result, Err(StoreError::UniqueViolation(_))), "{result:?}");
    assert_eq!(numbers(&store, 1).await, [(AlertLane::Steps, 1)], "nothing of it is there");
    let others = AlertCommit {
        alerts: vec![
            Alert { rule_id: id(2), ..alert(3, 1, AlertState::Pending) },
            of_group("all", alert(4, 1, AlertState::Pending)),
        ],
        ..commit(1, 1)
    };
    land(&store, others).await;
}

/// Whoever evaluates at the same time: one of them lands, with all that it brings.
pub(crate) async fn of_concurrent_evaluations_one_lands(store: AnyStore) {
    for run in 1..=8 {
        owned(&store, run).await;
    }
    for round in 0..5 {
        let evaluate = |writer: u64| {
            let store = store.clone();
            let of_run = move |run: u64| AlertCommit {
                notifications: vec![notification("pager", "k", writer)],
                ..commit(run, round)
            };
            let mut commits: Vec<_> = (1..=8).map(of_run).collect();
            if writer % 2 == 1 {
                commits.reverse();
            }
            tokio::spawn(async move { store.commit_alerts(&commits).await.unwrap() })
        };
        let writers: Vec<_> = (0..4).map(evaluate).collect();
        let mut landed = 0;
        for writer in writers {
            landed += writer.await.unwrap().into_iter().filter(|landed| *landed).count();
        }
        assert_eq!(landed, 8);
    }
    let told = store.notifications(1_000).await.unwrap();
    assert_eq!(told.len(), 40);
    assert!(told.is_sorted_by_key(|told| told.notification_id));
    assert_eq!(numbers(&store, 8).await, [(AlertLane::Steps, 5)]);
}

/// The recorder and evaluations of the same runs at the same time: both get everything through.
pub(crate) async fn evaluating_and_recording_go_on_together(store: AnyStore) {
    let mut epochs = Vec::new();
    for run in 1..=4 {
        epochs.push(owned(&store, run).await.owner_epoch);
    }
    let evaluating = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..25 {
                let commits: Vec<_> = (1..=4).map(|run| commit(run, round)).collect();
                assert_eq!(store.commit_alerts(&commits).await.unwrap(), [true; 4]);
            }
        })
    };
    for round in 0..25 {
        let of_run = |(place, epoch): (usize, &u64)| {
            let mut commit = empty(place as u64 + 1, *epoch);
            (commit.after_commit, commit.commit_number) = (round, round + 1);
            commit.marks = vec![mark(1, round, round + 1)];
            commit.steps = vec![step(1, round + 1)];
            commit
        };
        let commits: Vec<_> = epochs.iter().enumerate().map(of_run).collect();
        store.commit(&commits).await.unwrap();
    }
    evaluating.await.unwrap();
    assert_eq!(store.shard_marks(run_id(4), 1).await.unwrap()[0].committed_seq, 25);
    assert_eq!(numbers(&store, 4).await, [(AlertLane::Steps, 25)]);
}

pub(crate) async fn many_rows_are_whole(store: AnyStore) {
    let runs = 40;
    let mut commits = Vec::new();
    for run in 1..=runs {
        owned(&store, run).await;
        let mut of_run = commit(run, 0);
        for number in 0..25 {
            let group = format!("group {number}");
            of_run.alerts.push(of_group(&group, alert(run * 100 + number, run, AlertState::Firing)));
            of_run.notifications.push(notification("pager", "k", run * 100 + number));
        }
        commits.push(of_run);
    }
    assert_eq!(store.commit_alerts(&commits).await.unwrap(), vec![true; runs as usize]);
    for of_run in &commits {
        assert_eq!(store.open_alerts(of_run.run_id).await.unwrap(), of_run.alerts);
    }
    let expected: Vec<_> = commits.iter().flat_map(|commit| commit.notifications.clone()).collect();
    let waiting = store.notifications(2_000).await.unwrap();
    assert_eq!(told(&waiting), expected);
    assert_eq!(told(&store.notifications(10).await.unwrap()), expected[..10]);
    let ids: Vec<_> = waiting.iter().map(|it| it.notification_id).collect();
    store.silence_notifications(&ids, true).await.unwrap();
    assert!(store.notifications(2_000).await.unwrap().iter().all(|it| it.silenced));
    assert!(store.seal_message(None, &ids).await.unwrap());
    assert!(store.notifications(1).await.unwrap().is_empty());
}

pub(crate) async fn alerts_are_filtered_and_paged(store: AnyStore) {
    for run in 1..=2 {
        owned(&store, run).await;
        let states = [AlertState::Resolved, AlertState::Firing, AlertState::Pending];
        let alerts = (0..9_u64).map(|number| Alert {
            rule_name: format!("rule {}", number % 2),
            severity: if number % 4 == 0 { "critical".to_owned() } else { "info".to_owned() },
            ..of_group(&number.to_string(), alert(run * 10 + number, run, states[number as usize % 3]))
        });
        land(&store, AlertCommit { alerts: alerts.collect(), ..commit(run, 0) }).await;
    }
    let whole = AlertQuery { limit: 100, ..AlertQuery::default() };
    let all = store.alerts(&whole).await.unwrap().items;
    assert_eq!(all.len(), 18);
    assert_eq!(all[0].run_id, run_id(2), "newest first");
    for limit in [1, 4, 18] {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.alerts(&AlertQuery { limit, after, ..AlertQuery::default() }).await.unwrap();
            pages.extend(page.items);
            if !page.more {
                break;
            }
            after = pages.last().map(|alert| alert.alert_id);
        }
        assert_eq!(pages, all, "{limit}");
    }
    let gone = store.alerts(&AlertQuery { after: Some(id(1)), ..whole.clone() }).await;
    assert!(matches!(gone, Err(StoreError::Conflict { field: "after", .. })), "{gone:?}");

    type Keep = fn(&Alert) -> bool;
    let narrowed: [(AlertQuery, Keep); 7] = [
        (AlertQuery { run_id: Some(run_id(1)), ..whole.clone() }, |it| it.run_id == run_id(1)),
        (AlertQuery { project: Some("vision".to_owned()), ..whole.clone() }, |_| true),
        (AlertQuery { project: Some("other".to_owned()), ..whole.clone() }, |_| false),
        (AlertQuery { rule: Some("rule 1".to_owned()), ..whole.clone() }, |it| it.rule_name == "rule 1"),
        (AlertQuery { severity: Some("critical".to_owned()), ..whole.clone() }, |it| it.severity == "critical"),
        (AlertQuery { states: vec![AlertState::Pending, AlertState::Firing], ..whole.clone() }, |it| {
            it.state != AlertState::Resolved
        }),
        (AlertQuery { states: vec![AlertState::Resolved], run_id: Some(run_id(2)), ..whole }, |it| {
            it.state == AlertState::Resolved && it.run_id == run_id(2)
        }),
    ];
    for (query, keep) in narrowed {
        let expected: Vec<_> = all.iter().filter(|alert| keep(alert)).cloned().collect();
        assert_eq!(store.alerts(&query).await.unwrap().items, expected, "{query:?}");
    }

    for project in [None, Some("vision")] {
        let mut counts = store.alert_counts(project).await.unwrap();
        counts.sort_by(|a, b| (a.state, &a.severity).cmp(&(b.state, &b.severity)));
        let count =
            |state, severity: &str, alerts| AlertCount { rule_id: id(1), state, severity: severity.to_owned(), alerts };
        let open = [AlertState::Pending, AlertState::Firing];
        let expected: Vec<_> =
            open.into_iter().flat_map(|state| [count(state, "critical", 2), count(state, "info", 4)]).collect();
        assert_eq!(counts, expected, "{project:?}");
    }
    assert_eq!(store.alert_counts(Some("other")).await.unwrap(), []);
}

pub(crate) async fn runs_to_evaluate_are_found(store: AnyStore) {
    // Each heard of at 5 000; runs 3 to 5 are over.
    for run in 1..=6 {
        let mut recorded = owned(&store, run).await;
        let state = (3..=5).contains(&run).then_some(RunState::Finished);
        recorded.patch = RunPatch { state, ..RunPatch::default() };
        store.commit(&[recorded]).await.unwrap();
    }
    let found = |since_us| {
        let store = store.clone();
        async move { store.runs_to_evaluate(since_us).await.unwrap().into_iter().collect::<BTreeSet<_>>() }
    };
    let runs = |numbers: &[u64]| numbers.iter().map(|run| run_id(*run)).collect::<BTreeSet<_>>();
    assert_eq!(found(5_000).await, runs(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(found(5_001).await, runs(&[]));
    // Run 3 is evaluated as it is, run 4 as it was before; run 5 still has an alert.
    for (run, number) in [(1, 0), (3, 0), (4, 1), (5, 0)] {
        let revision = store.run(run_id(run)).await.unwrap().revision;
        let mut evaluation = commit(run, 0);
        evaluation.cursor.run_revision = (revision.0 - number, revision.1);
        if run == 5 {
            evaluation.alerts = vec![alert(1, run, AlertState::Firing)];
        }
        land(&store, evaluation).await;
    }
    store.mark_deleting(run_id(6)).await.unwrap();
    assert_eq!(found(5_000).await, runs(&[1, 2, 4, 5]));
    assert_eq!(found(5_001).await, runs(&[5]));
    // It is taken again.
    store.open_attempt(&open(3, 300)).await.unwrap();
    take(&store, 3).await;
    assert!(found(5_000).await.contains(&run_id(3)));
}

pub(crate) async fn a_deleted_run_takes_its_alerts_with_it(store: AnyStore) {
    for run in 1..=2 {
        owned(&store, run).await;
        let mut evaluation = commit(run, 0);
        let of_group = |number: u64| of_group(&number.to_string(), alert(run * 100 + number, run, AlertState::Firing));
        evaluation.alerts = (0..20).map(of_group).collect();
        evaluation.notifications = vec![notification("pager", "k", run)];
        land(&store, evaluation).await;
    }
    let of_run = |run| AlertQuery { run_id: Some(run_id(run)), limit: 100, ..AlertQuery::default() };
    store.mark_deleting(run_id(1)).await.unwrap();
    assert_eq!(store.commit_alerts(&[commit(1, 1), commit(2, 1)]).await.unwrap(), [false, true]);
    assert!(store.alerts(&of_run(1)).await.unwrap().items.is_empty(), "hidden at once");
    assert_eq!(store.alert(id(1_100)).await.unwrap(), None);
    let counts = store.alert_counts(None).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.alerts).collect::<Vec<_>>(), [20], "those of the other run");
    while !store.purge(run_id(1), 7).await.unwrap() {}
    assert!(store.alert_cursors(run_id(1)).await.unwrap().is_empty());
    assert!(store.open_alerts(run_id(1)).await.unwrap().is_empty());
    assert_eq!(store.alerts(&of_run(2)).await.unwrap().items.len(), 20);
    assert_eq!(store.notifications(9).await.unwrap().len(), 2, "what is still to be told is complete");
    // The id can be used again, and finds nothing of before.
    owned(&store, 1).await;
    land(&store, commit(1, 0)).await;
    assert!(store.alerts(&of_run(1)).await.unwrap().items.is_empty());
}
