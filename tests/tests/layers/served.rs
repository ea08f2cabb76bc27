//! What became of snapshots, as it is told over REST.

use gradwatch_proto::v1::{self, snapshot::Body};
use gradwatch_spectral::layers::FieldValue;
use gradwatch_tests::{Backend, on_both_backends, open_request};
use serde_json::{Value, json};

use super::{
    made::{INSTRUMENTS, LAYER, expected, snapshot, spec},
    world::{World, with_snapshots},
};

on_both_backends!(readings_are_listed_and_charted_bit_for_bit);

const STEPS: u64 = 6;

fn json_of(value: Option<FieldValue>) -> Value {
    match value {
        None => Value::Null,
        Some(FieldValue::Number(number)) => number.into(),
        Some(FieldValue::Count(count)) => count.into(),
        Some(FieldValue::Flag(flag)) => flag.into(),
        Some(FieldValue::Word(word)) => word.into_owned().into(),
        Some(FieldValue::List(list)) => list.into(),
    }
}

async fn readings_are_listed_and_charted_bit_for_bit(backend: Backend) {
    let world = World::new(backend, |_| {}).await;
    let request = open_request(spec());
    let rest = world.rest();
    let run = format!("/api/v1/runs/{}", request.run_id);
    let mut stream = world.open(&request).await;
    let frames = (1..=STEPS).map(|seq| with_snapshots(seq, (0..4).map(|layer| snapshot(layer, seq * 10)).collect()));
    stream.frames(frames.collect()).await;
    stream.acknowledged(STEPS).await;
    let is_read = |list: &Value| {
        let items = list["items"].as_array().expect("items");
        items.iter().all(|item| item["pending"] == 0 && item["latest"]["step"] == STEPS)
    };
    let list = rest.until(&format!("{run}/layers"), "all snapshots read", is_read).await;
    let listed =
        list["items"].as_array().expect("items").iter().map(|item| item["instrument"].as_str().expect("a word"));
    assert_eq!(listed.collect::<Vec<_>>(), INSTRUMENTS.map(|it| it.as_str()));

    let sent: Vec<(u64, u64)> = (1..=STEPS).map(|seq| (seq, seq * 10)).collect();
    for (layer, instrument) in INSTRUMENTS.into_iter().enumerate() {
        let rows = rest.all(&format!("{run}/readings/{instrument}?layer={LAYER}&limit=4")).await;
        let expected = expected(layer, &sent);
        assert_eq!(rows.len(), expected.len());
        for (row, (step, reading)) in rows.iter().zip(&expected) {
            assert_eq!((&row["step"], &row["segment"], &row["layer"]), (&json!(step), &json!(1), &json!(LAYER)));
            for (field, value) in instrument.fields().iter().zip(reading.values()) {
                assert_eq!(row.get(field.name), Some(&json_of(value)), "{instrument}.{} at {step}", field.name);
            }
        }
        for field in instrument.fields().iter().filter(|field| field.is_chartable()) {
            let answer = rest.get(&format!("{run}/series?metric={instrument}.{}&metric=edge.ratio", field.name)).await;
            let points = answer["items"][0]["points"].as_array().expect("points");
            let charted: Vec<_> = points.iter().map(|point| (point["step"].as_u64(), point["last"].as_f64())).collect();
            let defined =
                expected.iter().filter_map(|(step, reading)| Some((Some(*step), Some(reading.value(field.name)?))));
            assert_eq!(charted, defined.collect::<Vec<_>>(), "{instrument}.{}", field.name);
        }
    }
    world.server.stop().await;
}

/// Singular values and curvatures that follow them with an exponent.
fn curved(exponent: f64) -> v1::Snapshot {
    let sigma: Vec<f64> = (1..=20).map(|k| f64::from(k).powf(-1.2)).collect();
    let curvature = sigma.iter().map(|sigma| sigma.powf(exponent)).collect();
    v1::Snapshot { layer: 1, body: Some(Body::Curvature(v1::CurvatureSnapshot { sigma, curvature, kronecker: None })) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_detector_says_of_a_layer_is_found_by_its_name() {
    let world = World::new(Backend::Sqlite, |_| {}).await;
    let request = open_request(spec());
    let mut stream = world.open(&request).await;
    let exponents = (1..).zip([1.5, 1.5, 0.8, 0.8]);
    stream.frames(exponents.map(|(seq, exponent)| with_snapshots(seq, vec![curved(exponent)])).collect()).await;
    stream.acknowledged(4).await;
    let path = format!("/api/v1/runs/{}/events?group={LAYER}", request.run_id);
    let is_told = |page: &Value| page["items"].as_array().is_some_and(|items| !items.is_empty());
    let page = world.rest().until(&path, "the shift", is_told).await;
    let event = &page["items"][0];
    assert_eq!(
        (&event["type"], &event["group"], &event["step"]),
        (&json!("curvature.shift"), &json!(LAYER), &json!(4))
    );
    assert_eq!((&event["kind"], &event["window"]), (&Value::Null, &Value::Null));
    assert_eq!(event["evidence"]["instrument"], "curvature");
    world.server.stop().await;
}
