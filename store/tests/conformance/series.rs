//! Values of one metric, and their rollups.

use std::collections::BTreeMap;

use gradwatch_spectral::catalogue::EDGE_METRICS;
use gradwatch_store::{
    ReadingRow, RollupPoint, RollupRow, SeriesMetric, SeriesPoint, SeriesQuery, StepRow, StoreError, StreamKey,
};

use crate::fixture::{
    AnyStore, Random, edge, exactly, open, owned, range, reading, resume, rollup, run_id, step, stream, take, whole,
};

fn query(metric: SeriesMetric) -> SeriesQuery {
    SeriesQuery { run_id: run_id(1), analysis: "live".to_owned(), metric, stream: Some(stream()), ranges: whole(1) }
}

pub(crate) async fn every_metric_is_that_of_the_reading(store: AnyStore) {
    let mut random = Random(8);
    let mut commit = owned(&store, 1).await;
    commit.steps = (1..=80).map(|number| step(1, number)).collect();
    commit.readings = (1..=80).map(|number| reading(1, number, &mut random)).collect();
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    let names = EDGE_METRICS.iter().map(|metric| metric.short).chain(["sigma_4", "sigma_11", "sigma_64"]);
    for name in names {
        let expected: Vec<_> = commit
            .readings
            .iter()
            .filter_map(|row| Some(SeriesPoint { segment: 1, step: row.step, value: row.edge.value(name)? }))
            .collect();
        assert_eq!(expected.is_empty(), name == "sigma_64", "{name}");
        let found = store.series(&query(SeriesMetric::Edge(name))).await.unwrap();
        assert_eq!(exactly(&found), exactly(&expected), "{name}");
    }
    let unknown = store.series(&query(SeriesMetric::Edge("step"))).await;
    assert!(matches!(unknown, Err(StoreError::Data(_))), "{unknown:?}");
}

pub(crate) async fn scalars_keep_what_they_were(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 4)).await.unwrap();
    let mut commit = take(&store, 1).await;
    let values = [0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 3.0];
    let row = |segment, number: u64, value: f64| StepRow {
        scalars: BTreeMap::from([("a\"b".to_owned(), value), ("loss".to_owned(), 7.0)]),
        ..step(segment, number)
    };
    commit.steps = values.iter().zip(1..).map(|(value, number)| row(1, number, *value)).collect();
    commit.steps.push(row(2, 5, 9.5));
    commit.steps.push(step(2, 6));
    store.commit(&[commit]).await.unwrap();
    let mut wanted = query(SeriesMetric::Scalar("a\"b".to_owned()));
    wanted.stream = None;
    wanted.ranges = vec![range(1, 2, 4), range(2, 0, u64::MAX)];
    let point = |segment, step, value| SeriesPoint { segment, step, value };
    let expected =
        [point(1, 2, f64::NAN), point(1, 3, f64::INFINITY), point(1, 4, f64::NEG_INFINITY), point(2, 5, 9.5)];
    assert_eq!(exactly(&store.series(&wanted).await.unwrap()), exactly(&expected));
    wanted.metric = SeriesMetric::Scalar("absent".to_owned());
    assert!(store.series(&wanted).await.unwrap().is_empty());
}

pub(crate) async fn analyses_and_streams_are_kept_apart(store: AnyStore) {
    let mut random = Random(9);
    let mut commit = owned(&store, 1).await;
    commit.steps = vec![step(1, 1)];
    let other = StreamKey { window: 20, ..stream() };
    let mut values = BTreeMap::new();
    for (analysis, stream) in [("live", stream()), ("again", stream()), ("live", other.clone())] {
        let row = ReadingRow {
            analysis: analysis.to_owned(),
            edge: edge(stream.window, &mut random),
            stream: stream.clone(),
            ..reading(1, 1, &mut random)
        };
        values.insert((analysis, stream), row.edge.update_norm);
        commit.readings.push(row);
    }
    store.commit(&[commit]).await.unwrap();
    for ((analysis, stream), value) in values {
        let mut query = query(SeriesMetric::Edge("update_norm"));
        query.analysis = analysis.to_owned();
        query.stream = Some(stream);
        let expected = [SeriesPoint { segment: 1, step: 1, value }];
        assert_eq!(exactly(&store.series(&query).await.unwrap()), exactly(&expected));
    }
}

pub(crate) async fn rollups_wholly_inside(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 900)).await.unwrap();
    let mut commit = take(&store, 1).await;
    for bucket in 0..5 {
        commit.rollups.push(rollup("edge.ratio", 1, bucket));
        commit.rollups.push(rollup("edge.ratio", 2, bucket));
        commit.rollups.push(rollup("edge.gap", 1, bucket));
        commit.rollups.push(rollup("update.norm_z", 1, bucket));
        commit.rollups.push(RollupRow { bucket_steps: 16_384, ..rollup("edge.ratio", 1, bucket) });
        commit.rollups.push(RollupRow { stream: None, ..rollup("scalar.loss", 1, bucket) });
        commit.rollups.push(RollupRow { analysis: "again".to_owned(), ..rollup("edge.ratio", 1, bucket) });
    }
    store.commit(&[commit]).await.unwrap();
    let expected = |segment, bucket: u64| {
        let row = rollup("edge.ratio", segment, bucket);
        RollupPoint {
            segment,
            bucket,
            last_step: row.last_step,
            min: row.min,
            max: row.max,
            last: row.last,
            count: row.count,
        }
    };
    let mut wanted = query(SeriesMetric::Edge("ratio"));
    for (from_step, to_step, buckets) in
        [(0, u64::MAX, 0..5), (0, 511, 0..2), (0, 510, 0..1), (1, 1023, 1..4), (257, 511, 0..0), (256, 511, 1..2)]
    {
        wanted.ranges = vec![range(1, from_step, to_step)];
        let found = store.rollups(&wanted, 256).await.unwrap();
        let points: Vec<_> = buckets.map(|bucket| expected(1, bucket)).collect();
        assert_eq!(exactly(&found), exactly(&points), "{from_step} to {to_step}");
    }
    wanted.ranges = vec![range(1, 0, 600), range(2, 600, 1100)];
    let found = store.rollups(&wanted, 256).await.unwrap();
    assert_eq!(exactly(&found), exactly(&[expected(1, 0), expected(1, 1), expected(2, 3)]));
    wanted.ranges = whole(1);
    assert_eq!(store.rollups(&wanted, 16_384).await.unwrap().len(), 5);
    assert!(store.rollups(&wanted, 512).await.unwrap().is_empty());
    for metric in [SeriesMetric::Scalar("loss".to_owned()), SeriesMetric::Edge("norm_z")] {
        wanted.metric = metric;
        assert_eq!(store.rollups(&wanted, 256).await.unwrap().len(), 5, "{:?}", wanted.metric);
    }
    wanted.metric = SeriesMetric::Scalar("accuracy".to_owned());
    assert!(store.rollups(&wanted, 256).await.unwrap().is_empty());
}

pub(crate) async fn scalar_names_are_sorted(store: AnyStore) {
    let (mut first, mut second) = (owned(&store, 1).await, owned(&store, 2).await);
    first.scalar_names = vec!["loss".to_owned(), "accuracy".to_owned()];
    second.scalar_names = vec!["loss".to_owned()];
    store.commit(&[first.clone(), second]).await.unwrap();
    first.scalar_names = vec!["lr".to_owned()];
    store.commit(&[first]).await.unwrap();
    assert_eq!(store.scalar_names(run_id(1)).await.unwrap(), ["accuracy", "loss", "lr"]);
    assert_eq!(store.scalar_names(run_id(2)).await.unwrap(), ["loss"]);
}
