//! Promise 6: NaN and infinity are stored and flagged; they never poison a window, another group, or a chart.

use gradwatch_proto::v1::{self, Frame, NonFinite, payload::Body};
use gradwatch_tests::{
    Backend, Peer, Rest, TestServer, frame, group_spec, on_both_backends, open_request, payload_f32, spec,
};
use serde_json::{Value, json};

on_both_backends!(
    what_is_not_finite_is_stored_and_flagged_and_stays_in_its_group,
    a_stretch_goes_on_over_a_restart_of_the_server,
);

const LAST_STEP: u64 = 30;

fn row(group: u32, step: u64) -> Vec<f32> {
    (0..64).map(|column| ((step * 64 + column + 1_000 * u64::from(group)) as f32 * 0.7).sin()).collect()
}

/// A frame of seq = step with updates of both groups.
fn clean(step: u64) -> Frame {
    let payloads = vec![payload_f32(0, step - 1, &row(0, step)), payload_f32(1, step - 1, &row(1, step))];
    Frame { payloads, ..frame(step, step) }
}

/// Two stretches in which the second group and the loss hold NaN or infinity: steps 10 to 12, and step 20.
fn dirty(step: u64) -> Frame {
    let mut frame = clean(step);
    let counts = |nan, positive_infinity, negative_infinity| {
        Some(Body::NonFinite(NonFinite { nan, positive_infinity, negative_infinity }))
    };
    let mut loss = |value: f64| frame.scalars = [("loss".to_owned(), value)].into();
    match step {
        10 => {
            loss(f64::NAN);
            frame.payloads[1].body = counts(3, 2, 1);
        }
        // A client that did not look: NaN and infinities among the bytes.
        11 => {
            loss(f64::INFINITY);
            let mut hostile = row(1, step);
            (hostile[0], hostile[63]) = (f32::NAN, -f32::NAN);
            (hostile[7], hostile[8]) = (f32::INFINITY, f32::NEG_INFINITY);
            frame.payloads[1] = payload_f32(1, step - 1, &hostile);
        }
        12 => {
            loss(f64::NEG_INFINITY);
            frame.payloads[1].body = counts(0, 0, 64);
        }
        20 => {
            loss(f64::NAN);
            frame.payloads[1].body = counts(1, 0, 0);
        }
        _ => {}
    }
    frame
}

/// Streams a run of two groups; answers its id.
async fn stream(peer: &mut Peer, frames: impl Iterator<Item = Frame>) -> String {
    let request = open_request(v1::StreamSpec { groups: vec![group_spec("a"), group_spec("b")], ..spec() });
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames(frames.collect()).await;
    assert_eq!(stream.acknowledged(LAST_STEP).await, [], "nothing is rejected");
    request.run_id
}

async fn rows(rest: &Rest, run_id: &str, rows: &str) -> Vec<Value> {
    rest.all(&format!("/api/v1/runs/{run_id}/{rows}")).await
}

fn steps_of(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["step"].as_u64().expect("a step")).collect()
}

async fn what_is_not_finite_is_stored_and_flagged_and_stays_in_its_group(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let clean_run = stream(&mut peer, (1..=LAST_STEP).map(clean)).await;
    let dirty_run = stream(&mut peer, (1..=LAST_STEP).map(dirty)).await;

    // The other group: bit-identical.
    let of_group = |group: &str| format!("readings/edge?group={group}");
    let other = rows(&rest, &clean_run, &of_group("a")).await;
    assert_eq!(steps_of(&other), (1..=LAST_STEP).collect::<Vec<u64>>());
    assert_eq!(rows(&rest, &dirty_run, &of_group("a")).await, other);

    // Its own group: left out, and the window starts again with the next finite row.
    let own = rows(&rest, &dirty_run, &of_group("b")).await;
    let finite: Vec<u64> = (1..=LAST_STEP).filter(|step| ![10, 11, 12, 20].contains(step)).collect();
    assert_eq!(steps_of(&own), finite);
    for reading in &own {
        let step = reading["step"].as_u64().expect("a step");
        let since = [0, 12, 20].into_iter().filter(|&start| start < step).max().expect("a start");
        assert_eq!(reading["rows"], (step - since).min(3), "{reading}");
        assert_eq!(reading["warming"], step - since < 3, "{reading}");
    }
    let untouched = rows(&rest, &clean_run, &of_group("b")).await;
    assert_eq!(own[..9], untouched[..9], "before it nothing differs");
    // A window of the same three rows has the same spectrum, whatever came before it.
    let spectrum = |readings: &[Value], step: u64| {
        let reading = readings.iter().find(|reading| reading["step"] == step).expect("a reading");
        (reading["sigma"].clone(), reading["ratio"].clone(), reading["position"].clone())
    };
    for step in [15, 19, 23, LAST_STEP] {
        assert_eq!(spectrum(&own, step), spectrum(&untouched, step), "{step}");
        assert!(spectrum(&own, step).0.is_array(), "{step}");
    }

    // Stored as what they were.
    let steps = rows(&rest, &dirty_run, "steps?").await;
    assert_eq!(steps_of(&steps), (1..=LAST_STEP).collect::<Vec<u64>>());
    for step in &steps {
        let (loss, payload) = match step["step"].as_u64() {
            Some(10) => (Some("NaN"), Some((3, 2, 1))),
            Some(11) => (Some("Infinity"), Some((2, 1, 1))),
            Some(12) => (Some("-Infinity"), Some((0, 0, 64))),
            Some(20) => (Some("NaN"), Some((1, 0, 0))),
            _ => (None, None),
        };
        match loss {
            Some(what) => {
                assert_eq!(
                    (&step["scalars"], &step["nonfinite"]),
                    (&json!({ "loss": null }), &json!({ "loss": what }))
                );
            }
            None => {
                assert!(step["scalars"]["loss"].is_f64(), "{step}");
                assert_eq!(step["nonfinite"], json!({}), "{step}");
            }
        }
        let payloads: Vec<Value> = payload
            .map(|(nan, positive_infinity, negative_infinity)| {
                json!({ "group": "b", "kind": "update", "nan": nan, "positive_infinity": positive_infinity,
                        "negative_infinity": negative_infinity })
            })
            .into_iter()
            .collect();
        assert_eq!(step["nonfinite_payloads"], json!(payloads), "{step}");
    }

    // Flagged: counted, and one event for a stretch.
    let counters = &rest.get(&format!("/api/v1/runs/{dirty_run}")).await["counters"];
    assert_eq!((&counters["nonfinite"], &counters["rejected"]), (&8.into(), &0.into()));
    let counters = &rest.get(&format!("/api/v1/runs/{clean_run}")).await["counters"];
    assert_eq!(counters["nonfinite"], 0);
    let events = rows(&rest, &dirty_run, "events?types=numeric.nonfinite").await;
    let told: Vec<Value> =
        events.iter().map(|event| json!([event["step"], event["group"], event["evidence"]])).collect();
    let counts = |nan: u64, positive: u64, negative: u64| json!({ "nan": nan, "positive_infinity": positive, "negative_infinity": negative });
    let expected = [
        json!([10, null, { "scalar": "loss", "value": "NaN" }]),
        json!([10, "b", counts(3, 2, 1)]),
        json!([20, null, { "scalar": "loss", "value": "NaN" }]),
        json!([20, "b", counts(1, 0, 0)]),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows(&rest, &clean_run, "events?types=numeric.nonfinite").await, Vec::<Value>::new());

    // Charts.
    let series = format!("/api/v1/runs/{dirty_run}/series?metric=scalar.loss&metric=edge.update_norm&group=b");
    let plain = rest.get(&series).await;
    let point = |step: u64| {
        let points = plain["items"][0]["points"].as_array().expect("points");
        points.iter().find(|point| point["step"] == step).expect("a point").clone()
    };
    assert_eq!(
        point(10),
        json!({ "segment": 1, "step": 10, "last_step": null, "min": null, "max": null, "last": null, "count": 0,
                "nonfinite": 1 })
    );
    assert_eq!((&point(9)["count"], &point(9)["nonfinite"]), (&1.into(), &0.into()));
    let bucket = rest.get(&format!("{series}&max_points=1")).await["items"][0]["points"][0].clone();
    assert_eq!((&bucket["count"], &bucket["nonfinite"]), (&(LAST_STEP - 4).into(), &4.into()));
    assert_eq!((&bucket["max"], &bucket["last"]), (&1.0.into(), &(1.0 / LAST_STEP as f64).into()));
    assert_eq!(plain["items"][1]["points"].as_array().map(Vec::len), Some(finite.len()));
}

async fn a_stretch_goes_on_over_a_restart_of_the_server(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(v1::StreamSpec { groups: vec![group_spec("a"), group_spec("b")], ..spec() });
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames((1..=11).map(dirty).collect()).await;
    stream.acknowledged(11).await;
    drop(stream);
    let server = server.restart().await;
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open(&request).await.unwrap();
    assert!(opened.resend_from_seq <= 9, "the other group's rows are asked for again");
    stream.frames((opened.resend_from_seq..=LAST_STEP).map(dirty).collect()).await;
    stream.acknowledged(LAST_STEP).await;
    let rest = server.rest();
    let events = rows(&rest, &request.run_id, "events?types=numeric.nonfinite").await;
    assert_eq!(steps_of(&events), [10, 10, 20, 20], "steps 10 to 12 are one stretch");
    let own = rows(&rest, &request.run_id, "readings/edge?group=b").await;
    let reading = own.iter().find(|reading| reading["step"] == 13).expect("a reading");
    assert_eq!(reading["rows"], 1);
}
