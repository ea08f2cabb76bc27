//! Events: order, filters, paging.

use gradwatch_store::{Event, EventQuery, EventRow, Kind};

use crate::fixture::{AnyStore, event, open, owned, range, resume, run_id, take};

fn any(limit: usize) -> EventQuery {
    EventQuery {
        run_id: None,
        project: None,
        types: Vec::new(),
        group: None,
        ranges: None,
        after: None,
        newest_first: false,
        limit,
    }
}

async fn types(store: &AnyStore, query: &EventQuery) -> Vec<String> {
    store.events(query).await.unwrap().items.into_iter().map(|event| event.row.event_type).collect()
}

pub(crate) async fn order_and_paging(store: AnyStore) {
    let (mut first, mut second) = (owned(&store, 1).await, owned(&store, 2).await);
    let mut recorded = Vec::new();
    for round in 0..4 {
        let full = EventRow {
            group: Some("all".to_owned()),
            kind: Some(Kind::Gradient),
            window: Some(20),
            from: Some("plateau".to_owned()),
            to: Some("transition".to_owned()),
            evidence: serde_json::json!({"values": [0.1, 1e300], "why": null}),
            ..event("edge.regime", 1, Some((1 << 53) - 1))
        };
        first.events = vec![full, event(&format!("a{round}"), 1, None)];
        second.events = vec![event(&format!("b{round}"), 1, Some(round))];
        let (_, ids) = store.commit(&[first.clone(), second.clone()]).await.unwrap();
        for (commit, ids) in [&first, &second].into_iter().zip(ids) {
            recorded.extend(commit.events.iter().zip(ids).map(|(row, event_id)| Event {
                event_id,
                run_id: commit.run_id,
                project: "vision".to_owned(),
                row: row.clone(),
            }));
        }
    }
    let page = store.events(&any(100)).await.unwrap();
    assert_eq!((&page.items, page.more), (&recorded, false));
    for newest_first in [false, true] {
        let mut expected = recorded.clone();
        if newest_first {
            expected.reverse();
        }
        for limit in 1..=expected.len() + 1 {
            let mut found = Vec::new();
            let mut query = EventQuery { newest_first, ..any(limit) };
            loop {
                let page = store.events(&query).await.unwrap();
                found.extend(page.items);
                assert_eq!(page.more, found.len() < expected.len());
                query.after = found.last().map(|event: &Event| event.event_id);
                if !page.more {
                    break;
                }
            }
            assert_eq!(found, expected);
        }
    }
}

pub(crate) async fn events_are_filtered(store: AnyStore) {
    let mut first = owned(&store, 1).await;
    let mut language = open(2, 2);
    language.run.project = "language".to_owned();
    store.open_attempt(&language).await.unwrap();
    let mut second = take(&store, 2).await;
    first.events = vec![
        event("a", 1, None),
        EventRow { group: Some("all".to_owned()), ..event("b", 1, None) },
        EventRow { group: Some("mlp".to_owned()), ..event("c", 1, None) },
    ];
    second.events = vec![EventRow { group: Some("all".to_owned()), ..event("d", 1, None) }];
    store.commit(&[first, second]).await.unwrap();
    let of_run = EventQuery { run_id: Some(run_id(1)), ..any(9) };
    assert_eq!(types(&store, &of_run).await, ["a", "b", "c"]);
    let of_project = EventQuery { project: Some("language".to_owned()), ..any(9) };
    assert_eq!(types(&store, &of_project).await, ["d"]);
    let of_types = EventQuery { types: vec!["d".to_owned(), "a".to_owned(), "x'y".to_owned()], ..any(9) };
    assert_eq!(types(&store, &of_types).await, ["a", "d"]);
    let of_group = EventQuery { group: Some("all".to_owned()), ..any(9) };
    assert_eq!(types(&store, &of_group).await, ["b", "d"]);
    let of_all = EventQuery { newest_first: true, types: vec!["b".to_owned()], ..of_run.clone() };
    assert_eq!(types(&store, &EventQuery { group: Some("all".to_owned()), ..of_all.clone() }).await, ["b"]);
    assert!(types(&store, &EventQuery { group: Some("mlp".to_owned()), ..of_all.clone() }).await.is_empty());
    assert!(types(&store, &EventQuery { project: Some("language".to_owned()), ..of_all }).await.is_empty());
}

pub(crate) async fn ranges(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 5)).await.unwrap();
    let mut commit = take(&store, 1).await;
    for segment in [1, 2] {
        for number in [None, Some(4), Some(5), Some(6)] {
            let name = format!("{segment}/{}", number.map_or("-".to_owned(), |number: u64| number.to_string()));
            commit.events.push(event(&name, segment, number));
        }
    }
    store.commit(&[commit]).await.unwrap();
    let in_ranges = |ranges| EventQuery { run_id: Some(run_id(1)), ranges: Some(ranges), ..any(99) };
    let live = in_ranges(vec![range(1, 0, 5), range(2, 6, u64::MAX)]);
    assert_eq!(types(&store, &live).await, ["1/-", "1/4", "1/5", "2/-", "2/6"]);
    assert_eq!(types(&store, &in_ranges(vec![range(2, 5, 5)])).await, ["2/-", "2/5"]);
    assert!(types(&store, &in_ranges(Vec::new())).await.is_empty());
    let many = (0..5_000).map(|segment| range(segment + 3, 0, 9)).chain([range(1, 6, 6)]).collect();
    assert_eq!(types(&store, &in_ranges(many)).await, ["1/-", "1/6"]);
}
