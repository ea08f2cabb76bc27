//! Values for rules.

use std::collections::BTreeMap;

use gradwatch_spectral::{
    catalogue::EDGE_METRICS,
    layers::{LayerInstrument, LayerReading},
};
use gradwatch_store::{
    ReadingRow, StepRow, StoreError, StreamKey, ValuesQuery, ValuesRow, ValuesSource, lineage::SegmentRange,
};

use crate::fixture::{
    AnyStore, Random, exactly, layer, layer_reading, open, owned, owned_layers, range, reading, resume, run_id, step,
    stream, take, whole,
};

fn query(source: ValuesSource, ranges: Vec<SegmentRange>) -> ValuesQuery {
    ValuesQuery { run_id: run_id(1), source, ranges, backwards: false, limit: 1_000 }
}

async fn both_ways(store: &AnyStore, query: &ValuesQuery, expected: &[ValuesRow]) {
    for limit in [0, 1, 2, expected.len(), expected.len() + 1] {
        let forwards = ValuesQuery { limit, ..query.clone() };
        let first = &expected[..limit.min(expected.len())];
        assert_eq!(exactly(&store.values(&forwards).await.unwrap()), exactly(&first), "first {limit}");
        let backwards = ValuesQuery { backwards: true, ..forwards };
        let last = &expected[expected.len() - first.len()..];
        assert_eq!(exactly(&store.values(&backwards).await.unwrap()), exactly(&last), "last {limit}");
    }
}

pub(crate) async fn metrics_of_a_stream(store: AnyStore) {
    let mut random = Random(21);
    let mut commit = owned(&store, 1).await;
    commit.steps = (1..=40).map(|number| step(1, number)).collect();
    commit.readings = (1..=40).map(|number| reading(1, number, &mut random)).collect();
    // Others of the same steps.
    let other = StreamKey { window: 20, ..stream() };
    for number in 1..=40 {
        let row = reading(1, number, &mut random);
        commit.readings.push(ReadingRow { analysis: "again".to_owned(), ..row });
        let mut row = reading(1, number, &mut random);
        row.edge.window = 20;
        commit.readings.push(ReadingRow { stream: other.clone(), ..row });
    }
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    let mut names: Vec<&'static str> = EDGE_METRICS.iter().map(|metric| metric.short).collect();
    names.extend(["sigma_4", "sigma_64", "ratio"]);
    let row = |row: &ReadingRow| ValuesRow {
        segment: 1,
        step: row.step,
        received_at_us: 0,
        values: names.iter().map(|name| row.edge.value(name)).collect(),
    };
    let expected: Vec<_> = commit.readings[..40].iter().map(row).collect();
    both_ways(&store, &query(ValuesSource::Stream(stream(), names), whole(1)), &expected).await;
    let unasked: Vec<_> = expected.iter().map(|row| ValuesRow { values: Vec::new(), ..row.clone() }).collect();
    both_ways(&store, &query(ValuesSource::Stream(stream(), Vec::new()), whole(1)), &unasked).await;
    for unknown in ["step", "sigma_0", "regime", "ratio, 1", "loss"] {
        let asked = query(ValuesSource::Stream(stream(), vec![unknown]), whole(1));
        assert!(matches!(store.values(&asked).await, Err(StoreError::Data(_))), "{unknown}");
    }
}

pub(crate) async fn scalars_of_steps_over_a_rewind(store: AnyStore) {
    store.open_attempt(&open(1, 1)).await.unwrap();
    store.open_attempt(&resume(1, 2, 1, 4)).await.unwrap();
    let mut commit = take(&store, 1).await;
    let odd = "a\"b\u{1f980} \\ '; --";
    let values = [0.1, f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE, 3.0];
    let row = |segment, number: u64, value: f64| StepRow {
        scalars: BTreeMap::from([(odd.to_owned(), value), ("loss".to_owned(), 7.0), ("other".to_owned(), 1.0)]),
        ..step(segment, number)
    };
    commit.steps = values.iter().zip(1..).map(|(value, number)| row(1, number, *value)).collect();
    commit.steps.push(row(2, 5, 9.5));
    commit.steps.push(step(2, 6));
    store.commit(&[commit]).await.unwrap();
    let names = ["loss", "absent", odd, "loss"].map(str::to_owned).to_vec();
    let ranges = vec![range(1, 2, 4), range(2, 0, u64::MAX)];
    let row = |segment, number: u64, values: [Option<f64>; 4]| ValuesRow {
        segment,
        step: number,
        received_at_us: step(1, number).received_at_us,
        values: values.to_vec(),
    };
    let of = |odd: Option<f64>| [Some(7.0), None, odd, Some(7.0)];
    let expected = [
        row(1, 2, of(None)),
        row(1, 3, of(None)),
        row(1, 4, of(Some(-0.0))),
        row(2, 5, of(Some(9.5))),
        row(2, 6, [None; 4]),
    ];
    both_ways(&store, &query(ValuesSource::Steps(names), ranges.clone()), &expected).await;
    let times: Vec<_> = expected.iter().map(|row| ValuesRow { values: Vec::new(), ..row.clone() }).collect();
    both_ways(&store, &query(ValuesSource::Steps(Vec::new()), ranges), &times).await;
    assert!(store.values(&query(ValuesSource::Steps(Vec::new()), Vec::new())).await.unwrap().is_empty());
    let other_run = ValuesQuery { run_id: run_id(2), ..query(ValuesSource::Steps(Vec::new()), whole(1)) };
    assert!(store.values(&other_run).await.unwrap().is_empty());
}

pub(crate) async fn fields_of_layers(store: AnyStore) {
    let mut random = Random(22);
    let mut commit = owned_layers(&store, 1).await;
    commit.steps = (1..=30).map(|number| step(1, number)).collect();
    for instrument in LayerInstrument::ALL {
        for name in ["blocks.0", "grüße \"1\""] {
            let layer = layer(*instrument, name);
            commit.layer_readings.extend((1..=30).map(|number| layer_reading(&layer, 1, number, &mut random)));
        }
    }
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    for instrument in LayerInstrument::ALL {
        let fields = instrument.fields();
        let names: Vec<_> = fields.iter().filter(|field| field.is_chartable()).map(|field| field.name).collect();
        for name in ["blocks.0", "grüße \"1\""] {
            let layer = layer(*instrument, name);
            let value = |reading: &LayerReading, name: &str| {
                let place = fields.iter().position(|field| field.name == name).unwrap();
                reading.values()[place].as_ref().and_then(|value| value.as_number())
            };
            let of_layer = commit.layer_readings.iter().filter(|row| row.layer == layer);
            let row = |row: &gradwatch_store::LayerReadingRow| ValuesRow {
                segment: 1,
                step: row.step,
                received_at_us: 0,
                values: names.iter().map(|name| value(&row.reading, name)).collect(),
            };
            let expected: Vec<_> = of_layer.map(row).collect();
            both_ways(&store, &query(ValuesSource::Layer(layer, names.clone()), whole(1)), &expected).await;
        }
        let words = query(ValuesSource::Layer(layer(*instrument, "blocks.0"), vec!["reason"]), whole(1));
        assert!(matches!(store.values(&words).await, Err(StoreError::Data(_))));
    }
}
