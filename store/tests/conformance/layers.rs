//! Readings of layers.

use gradwatch_spectral::layers::{FieldType, FieldValue, LayerInstrument, LayerReading};
use gradwatch_store::{
    LayerKey, LayerReadingAt, LayerReadingQuery, LayerReadingRow, RunCommit, SeriesMetric, SeriesPoint, SeriesQuery,
    StoreError, lineage,
};

use crate::fixture::{
    AnyStore, Random, exactly, layer, layer_reading, layer_reading_with, layer_specs, open_layers, owned, owned_layers,
    range, resume, run_id, step, take, whole,
};

fn query(layer: &LayerKey) -> LayerReadingQuery {
    LayerReadingQuery { run_id: run_id(1), layer: layer.clone(), ranges: whole(1), limit: 10_000 }
}

fn with_wall_time(row: LayerReadingRow) -> LayerReadingAt {
    let wall_time_us = step(row.segment, row.step).wall_time_us;
    LayerReadingAt { row, wall_time_us }
}

/// The reading with `value` in the one field, and nothing else.
fn only(instrument: LayerInstrument, place: usize, value: &FieldValue) -> LayerReading {
    let fields = 0..instrument.fields().len();
    LayerReading::from_values(instrument, fields.map(|at| (at == place).then(|| value.clone()))).unwrap()
}

pub(crate) async fn readings_come_back_bit_for_bit(store: AnyStore) {
    let mut random = Random(21);
    let mut commit = owned_layers(&store, 1).await;
    for instrument in LayerInstrument::ALL {
        let key = layer(*instrument, "blocks.0");
        let mut readings = vec![
            layer_reading_with(*instrument, &mut random, |_| false),
            layer_reading_with(*instrument, &mut random, |_| true),
        ];
        let extremes = [-0.0, 0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 0.1, 1e16, 123_456_789.0];
        for (place, field) in instrument.fields().iter().enumerate() {
            let values: Vec<_> = match field.field_type {
                FieldType::Number => extremes.map(FieldValue::Number).into(),
                FieldType::Count => [0, 1, (1 << 53) + 1, i64::MAX as u64].map(FieldValue::Count).into(),
                FieldType::Flag => [false, true].map(FieldValue::Flag).into(),
                FieldType::List => [Vec::new(), extremes.to_vec(), vec![0.5; 4096]].map(FieldValue::List).into(),
                FieldType::Word => Vec::new(),
            };
            readings.extend(values.iter().map(|value| only(*instrument, place, value)));
        }
        readings.extend((0..100).map(|_| layer_reading_with(*instrument, &mut random, |it| it.below(4) > 0)));
        let rows = readings.into_iter().zip(1..);
        let row = |(reading, step)| LayerReadingRow { layer: key.clone(), segment: 1, step, reading };
        commit.layer_readings.extend(rows.map(row));
    }
    let last = commit.layer_readings.iter().map(|row| row.step).max().unwrap();
    commit.steps = (1..=last).map(|number| step(1, number)).collect();
    store.commit(std::slice::from_ref(&commit)).await.unwrap();
    for instrument in LayerInstrument::ALL {
        let page = store.layer_readings(&query(&layer(*instrument, "blocks.0"))).await.unwrap();
        let rows = commit.layer_readings.iter().filter(|row| row.layer.instrument == *instrument);
        let expected: Vec<_> = rows.cloned().map(with_wall_time).collect();
        assert!(!page.more && expected.len() > 100);
        assert_eq!(exactly(&page.items), exactly(&expected));
    }
}

pub(crate) async fn what_no_column_holds_is_refused(store: AnyStore) {
    let commit = owned_layers(&store, 1).await;
    for instrument in LayerInstrument::ALL {
        let row = |reading| LayerReadingRow { layer: layer(*instrument, "blocks.0"), segment: 1, step: 1, reading };
        for (place, field) in instrument.fields().iter().enumerate() {
            let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            let values: Vec<_> = match field.field_type {
                FieldType::Number => bad.map(FieldValue::Number).into(),
                FieldType::Count => vec![FieldValue::Count(1 << 63)],
                FieldType::List => bad.map(|bad| FieldValue::List(vec![1.0, bad])).into(),
                FieldType::Flag | FieldType::Word => Vec::new(),
            };
            for value in values {
                let layer_readings = vec![row(only(*instrument, place, &value))];
                let answer = store.commit(&[RunCommit { layer_readings, ..commit.clone() }]).await;
                let Err(StoreError::Data(message)) = answer else { panic!("{value:?}: {answer:?}") };
                assert!(message.contains(field.name), "{message}");
            }
        }
    }
    // Of another instrument than the layer's.
    let mut other = layer_reading(&layer(LayerInstrument::Cascade, "blocks.0"), 1, 1, &mut Random(1));
    other.layer.instrument = LayerInstrument::Curvature;
    let answer = store.commit(&[RunCommit { layer_readings: vec![other], ..commit }]).await;
    assert!(matches!(answer, Err(StoreError::Data(_))), "{answer:?}");
}

pub(crate) async fn a_reading_is_stored_once(store: AnyStore) {
    let (commit, mut random) = (owned_layers(&store, 1).await, Random(22));
    store.commit(&[RunCommit { steps: vec![step(1, 5), step(1, 6)], ..commit.clone() }]).await.unwrap();
    for instrument in LayerInstrument::ALL {
        let key = layer(*instrument, "blocks.0");
        let row = layer_reading(&key, 1, 5, &mut random);
        store.commit(&[RunCommit { layer_readings: vec![row.clone()], ..commit.clone() }]).await.unwrap();
        let layer_readings = vec![layer_reading(&key, 1, 6, &mut random), layer_reading(&key, 1, 5, &mut random)];
        let answer = store.commit(&[RunCommit { layer_readings, ..commit.clone() }]).await;
        assert!(matches!(answer, Err(StoreError::UniqueViolation(_))), "{answer:?}");
        let found = store.layer_readings(&query(&key)).await.unwrap().items;
        assert_eq!(exactly(&found), exactly(&[with_wall_time(row)]));
    }
}

/// Segment 1 has readings at steps 10 to 50, segment 2 resumes it at 30 and goes to 60. Other layers, other instruments
/// and another run have readings at the same steps, which must never be seen.
async fn rewind(store: &AnyStore) -> Vec<LayerReadingRow> {
    store.open_attempt(&open_layers(1)).await.unwrap();
    let mut second = resume(1, 101, 100, 30);
    second.attempt.spec.layers = layer_specs();
    store.open_attempt(&second).await.unwrap();
    let (mut random, mut commit) = (Random(23), take(store, 1).await);
    let mut other = owned_layers(store, 2).await;
    for (segment, steps) in [(1, 10..=50), (2, 31..=60)] {
        for number in steps {
            commit.steps.push(step(segment, number));
            for layer in layer_specs().iter().map(|layer| layer.key()) {
                commit.layer_readings.push(layer_reading(&layer, segment, number, &mut random));
            }
        }
    }
    other.steps = (1..=70).map(|number| step(1, number)).collect();
    let key = layer(LayerInstrument::Curvature, "blocks.0");
    other.layer_readings = (1..=70).map(|number| layer_reading(&key, 1, number, &mut random)).collect();
    let rows = commit.layer_readings.clone();
    store.commit(&[commit, other]).await.unwrap();
    rows
}

pub(crate) async fn pages_over_a_rewind(store: AnyStore) {
    let rows = rewind(&store).await;
    for key in layer_specs().iter().map(|layer| layer.key()) {
        let live = |row: &&LayerReadingRow| row.layer == key && (row.segment == 2 || row.step <= 30);
        let whole: Vec<_> = rows.iter().filter(live).cloned().map(with_wall_time).collect();
        assert_eq!(whole.len(), 51);
        for limit in [1, 7, 21, 50, 51, 100] {
            let (mut found, mut from) = (Vec::new(), None);
            loop {
                // The next page starts behind the last item of this one.
                let mut ranges = lineage::live(&store.segments(run_id(1)).await.unwrap(), 0, u64::MAX);
                if let Some((segment, step)) = from {
                    ranges.drain(..ranges.iter().position(|range| range.segment == segment).unwrap());
                    ranges[0].from_step = step + 1;
                }
                let page = store.layer_readings(&LayerReadingQuery { ranges, limit, ..query(&key) }).await.unwrap();
                assert!(page.items.len() <= limit);
                from = page.items.last().map(|reading| (reading.row.segment, reading.row.step));
                found.extend(page.items);
                assert_eq!(page.more, found.len() < whole.len(), "limit {limit}");
                if !page.more {
                    break;
                }
            }
            assert_eq!(exactly(&found), exactly(&whole), "limit {limit}");
        }
    }
    // The order of the ranges is that of the answer; what is not declared has no readings.
    let ranges = vec![range(2, 59, 99), range(1, 49, 99)];
    let backwards = LayerReadingQuery { ranges, ..query(&layer(LayerInstrument::Cascade, "blocks.0")) };
    let found = store.layer_readings(&backwards).await.unwrap().items;
    let found: Vec<_> = found.iter().map(|reading| (reading.row.segment, reading.row.step)).collect();
    assert_eq!(found, [(2, 59), (2, 60), (1, 49), (1, 50)]);
    let unknown = query(&layer(LayerInstrument::Cascade, "blocks"));
    assert!(store.layer_readings(&unknown).await.unwrap().items.is_empty());
}

pub(crate) async fn latest_readings_are_one_a_layer(store: AnyStore) {
    let rows = rewind(&store).await;
    for (segment, last) in [(1, 50), (2, 60)] {
        let expected: Vec<_> = layer_specs()
            .iter()
            .map(|layer| {
                let is_last =
                    |row: &&LayerReadingRow| row.layer == layer.key() && (row.segment, row.step) == (segment, last);
                with_wall_time(rows.iter().find(is_last).unwrap().clone())
            })
            .collect();
        let found = store.latest_layer_readings(run_id(1), segment).await.unwrap();
        assert_eq!(exactly(&found), exactly(&expected));
    }
    // Of run 2 one layer has readings; segment 3 does not exist.
    let found = store.latest_layer_readings(run_id(2), 1).await.unwrap();
    assert_eq!(
        found.iter().map(|it| (it.row.layer.clone(), it.row.step)).collect::<Vec<_>>(),
        [(layer(LayerInstrument::Curvature, "blocks.0"), 70)]
    );
    assert_eq!(store.latest_layer_readings(run_id(1), 3).await.unwrap(), []);
}

pub(crate) async fn every_field_is_a_series(store: AnyStore) {
    let rows = rewind(&store).await;
    for key in layer_specs().iter().map(|layer| layer.key()) {
        let series = |field| SeriesQuery {
            run_id: run_id(1),
            analysis: "live".to_owned(),
            metric: SeriesMetric::Layer(key.clone(), field),
            stream: None,
            ranges: vec![range(1, 15, 30), range(2, 0, u64::MAX)],
        };
        for field in key.instrument.fields() {
            let found = store.series(&series(field.name)).await;
            if matches!(field.field_type, FieldType::Word | FieldType::List) {
                assert!(matches!(found, Err(StoreError::Data(_))), "{}: {found:?}", field.name);
                continue;
            }
            let wanted = rows.iter().filter(|row| row.layer == key);
            let expected: Vec<_> = wanted
                .filter(|row| row.segment == 2 || (15..=30).contains(&row.step))
                .filter_map(|row| {
                    let value = row.reading.value(field.name)?;
                    Some(SeriesPoint { segment: row.segment, step: row.step, value })
                })
                .collect();
            assert!(!expected.is_empty() && expected.len() < 46, "{}: some are null", field.name);
            assert_eq!(exactly(&found.unwrap()), exactly(&expected), "{}", field.name);
        }
        for unknown in ["step", "layer", "", "edge"] {
            let found = store.series(&series(unknown)).await;
            assert!(matches!(found, Err(StoreError::Data(_))), "{unknown}: {found:?}");
        }
    }
}

/// A changed list of layers needs a new attempt.
pub(crate) async fn declared_layers_stand(store: AnyStore) {
    let declared = open_layers(1);
    store.open_attempt(&declared).await.unwrap();
    store.open_attempt(&declared).await.unwrap();
    assert_eq!(store.segments(run_id(1)).await.unwrap()[0].spec, declared.attempt.spec);
    let changes: [fn(&mut Vec<gradwatch_store::LayerSpec>); 4] = [
        |layers| layers.clear(),
        |layers| layers[0].name.push('x'),
        |layers| layers[0].width = Some(3),
        |layers| layers.last_mut().unwrap().activation = None,
    ];
    for change in changes {
        let mut changed = declared.clone();
        change(&mut changed.attempt.spec.layers);
        let answer = store.open_attempt(&changed).await;
        assert!(matches!(answer, Err(StoreError::Conflict { field: "spec.layers", .. })), "{answer:?}");
    }
    // And a run without any may not get some.
    owned(&store, 2).await;
    let answer = store.open_attempt(&open_layers(2)).await;
    assert!(matches!(answer, Err(StoreError::Conflict { field: "spec.layers", .. })), "{answer:?}");
}
