//! What models said on probe batches.

use gradwatch_store::{RunCommit, StoreError};

use crate::fixture::{AnyStore, exactly, owned, prediction, range, resume, run_id, whole};

pub(crate) async fn predictions_are_kept_and_dropped(store: AnyStore) {
    let (commit, mut other) = (owned(&store, 1).await, owned(&store, 2).await);
    let extremes = [-0.0, 0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::MIN, 0.1];
    let rows = vec![
        prediction(1, 9, "probe", &extremes, &[]),
        prediction(1, 10, "probe", &extremes, &[1.0; 7]),
        prediction(1, 10, "a \"b\" grüße", &[], &[]),
        prediction(1, 1 << 40, "probe", &[0.5; 1000], &[-0.5; 1000]),
    ];
    other.predictions = rows.clone();
    store.commit(&[RunCommit { predictions: rows.clone(), ..commit.clone() }, other]).await.unwrap();
    let found = store.predictions(run_id(1), "probe", &whole(1)).await.unwrap();
    assert_eq!(exactly(&found), exactly(&[&rows[0], &rows[1], &rows[3]]));
    let found = store.predictions(run_id(1), "a \"b\" grüße", &whole(1)).await.unwrap();
    assert_eq!(exactly(&found), exactly(&[&rows[2]]));
    assert!(store.predictions(run_id(1), "prob", &whole(1)).await.unwrap().is_empty());
    let probe = "probe".to_owned();
    let kept = [
        (1, 9, probe.clone(), 28),
        (1, 10, "a \"b\" grüße".to_owned(), 0),
        (1, 10, probe.clone(), 56),
        (1, 1 << 40, probe.clone(), 8000),
    ];
    assert_eq!(store.kept_predictions(run_id(1)).await.unwrap(), kept);
    // Once each; one that is not there any more may be dropped.
    let again = RunCommit { predictions: vec![rows[1].clone()], ..commit.clone() };
    let answer = store.commit(&[again]).await;
    assert!(matches!(answer, Err(StoreError::UniqueViolation(_))), "{answer:?}");
    let dropped_predictions = vec![(1, 10, probe.clone()), (1, 9, probe.clone()), (1, 77, probe)];
    for _ in 0..2 {
        let dropped_predictions = dropped_predictions.clone();
        store.commit(&[RunCommit { dropped_predictions, ..commit.clone() }]).await.unwrap();
        assert_eq!(store.kept_predictions(run_id(1)).await.unwrap(), [kept[1].clone(), kept[3].clone()]);
    }
    assert_eq!(store.kept_predictions(run_id(2)).await.unwrap(), kept);
}

pub(crate) async fn predictions_come_in_the_order_of_the_ranges(store: AnyStore) {
    let mut commit = owned(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    for (segment, step) in [(1, 3), (2, 7), (1, 8), (2, 6)] {
        commit.predictions.push(prediction(segment, step, "probe", &[segment as f32, step as f32], &[]));
    }
    store.commit(&[commit]).await.unwrap();
    let ranges = [range(1, 0, 5), range(2, 6, u64::MAX)];
    let found = store.predictions(run_id(1), "probe", &ranges).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|row| (row.segment, row.step, row.values)).collect();
    assert_eq!(found, [(1, 3, vec![1.0, 3.0]), (2, 6, vec![2.0, 6.0]), (2, 7, vec![2.0, 7.0])]);
    let order = store.kept_predictions(run_id(1)).await.unwrap();
    assert_eq!(order.iter().map(|it| (it.0, it.1)).collect::<Vec<_>>(), [(1, 3), (1, 8), (2, 6), (2, 7)]);
}

pub(crate) async fn what_is_not_finite_is_refused(store: AnyStore) {
    let commit = owned(&store, 1).await;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (row, field) in [
            (prediction(1, 1, "probe", &[1.0, bad], &[]), "predictions.values"),
            (prediction(1, 1, "probe", &[1.0], &[bad]), "predictions.targets"),
        ] {
            let answer = store.commit(&[RunCommit { predictions: vec![row], ..commit.clone() }]).await;
            let Err(StoreError::Data(message)) = answer else { panic!("{answer:?}") };
            assert!(message.starts_with(field), "{message}");
        }
    }
}
