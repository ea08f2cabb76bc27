//! Terms that a job sends of the edge of its windows: readings carry them to the bit, whatever happens to the server, and
//! wrong ones are refused by name.

use gradwatch_proto::v1::{self, EdgeTerms, Frame, GroupOptimizer, Kind, RejectCode, server_message::Message};
use gradwatch_spectral::{
    detectors::DetectorConfig,
    edge::{self, EdgeStream},
    followers::Followers,
};
use gradwatch_tests::{
    Backend, Expected, Peer, PeerStream, Place, Rest, ServerProcess, TestServer, any_port, assert_readings, frame,
    group_spec, next_attempt, on_both_backends, open_request, payload_f32, spec,
};
use serde_json::Value;

on_both_backends!(readings_carry_the_terms_over_restarts);

const DIM: usize = 64;
const STEPS: u64 = 60;
const ETA: f64 = 1e-3;
const WINDOWS: [u32; 2] = [3, 4];

fn two_windows() -> v1::StreamSpec {
    v1::StreamSpec { window_lengths: WINDOWS.to_vec(), ..spec() }
}

/// An update with a direction that all of them share, so that the gap that stands out is the first.
fn row(step: u64) -> Vec<f32> {
    let own = |column: usize| ((step * step) as f32 * 0.37 + column as f32 * (1.0 + step as f32 * 0.61)).sin();
    (0..DIM).map(|column| 2.0 + 0.3 * own(column)).collect()
}

/// What the job measures of a window: of the second one at even steps only. At every third step it speaks of a position
/// that is not the reading's.
fn terms(step: u64, window: u32) -> Option<EdgeTerms> {
    if window == WINDOWS[1] && step % 2 == 1 {
        return None;
    }
    let t = step as f64;
    Some(EdgeTerms {
        group: 0,
        kind: Kind::Update.into(),
        window,
        position: if step.is_multiple_of(3) { 2 } else { 1 },
        curvature: Some(0.3 + 0.1 * (0.7 * t).sin()),
        next_curvature: Some(0.5 + 0.2 * (0.4 * t).cos()),
        projection: Some(1.1 + (1.3 * t).sin()),
        next_projection: Some(0.2),
        training_projections: vec![t, -0.5, 0.25],
        validation_projections: vec![1.5, 2.5, 3.5],
    })
}

/// The group's own weight decay at every fourth step.
fn own_weight_decay(step: u64) -> Option<f64> {
    step.is_multiple_of(4).then_some(0.7)
}

fn sent(step: u64) -> Frame {
    let optimizer = GroupOptimizer { group: 0, learning_rate: None, weight_decay: own_weight_decay(step) };
    Frame {
        weight_decay: Some(0.1),
        group_optimizers: vec![optimizer],
        payloads: vec![payload_f32(0, step - 1, &row(step))],
        edge_terms: WINDOWS.iter().filter_map(|&window| terms(step, window)).collect(),
        ..frame(step, step)
    }
}

fn in_domain(terms: &EdgeTerms) -> edge::EdgeTerms {
    let pair = |at: Option<f64>, behind: Option<f64>| Some([at?, behind?]);
    let three = |values: &[f64]| <[f64; 3]>::try_from(values).ok();
    let loss = (three(&terms.training_projections), three(&terms.validation_projections));
    edge::EdgeTerms {
        position: terms.position,
        curvatures: pair(terms.curvature, terms.next_curvature),
        projections: pair(terms.projection, terms.next_projection),
        loss_projections: loss.0.zip(loss.1).map(|(training, validation)| [training, validation]),
    }
}

/// The readings of each window, without a server.
fn expected() -> [Vec<Expected>; 2] {
    let lengths = WINDOWS.map(|window| window as usize);
    let mut stream = EdgeStream::new(DIM, &lengths, 1_000, true).expect("valid arguments");
    let config = DetectorConfig::default();
    let mut followers = lengths.map(|window| Followers::new(window, &config));
    let mut all = [Vec::new(), Vec::new()];
    for step in 1..=STEPS {
        let readings = stream.push(&row(step), Some(ETA)).expect("a finite row");
        for (index, mut reading) in readings.into_iter().enumerate() {
            if let Some(terms) = terms(step, WINDOWS[index]) {
                reading.add_terms(&in_domain(&terms), Some(ETA), own_weight_decay(step).or(Some(0.1)));
            }
            followers[index].follow(step, &mut reading);
            all[index].push(Expected { step, reading, regime: followers[index].regime() });
        }
    }
    all
}

async fn assert_read(rest: &Rest, run_id: &str, expected: &[Vec<Expected>; 2]) {
    for (window, expected) in WINDOWS.iter().zip(expected) {
        let path = format!("/api/v1/runs/{run_id}/readings/edge?window={window}&limit=1000");
        assert_readings(&rest.all(&path).await, expected);
    }
}

async fn readings_carry_the_terms_over_restarts(backend: Backend) {
    let expected = expected();
    for (readings, fewest) in expected.iter().zip([30, 15]) {
        let count = |metric| readings.iter().filter(|it| it.reading.value(metric).is_some()).count();
        assert!(count("gap_flow_driving") >= fewest && count("loss_terms_1") >= fewest, "the case says nothing");
    }
    assert!(expected[0].iter().any(|it| it.reading.gap_flow_r2_free.is_some()), "the case fits nothing");

    let place = Place::new(backend);
    let mut server = ServerProcess::start_in(&place, any_port());
    let request = open_request(two_windows());
    Peer::connect(&server.url()).await.open_run(&request).await.expect("opened");
    for to in [2, 20, 41, STEPS] {
        let mut peer = Peer::connect(&server.url()).await;
        let (mut stream, opened) = peer.open_stream(&request).await.expect("opened");
        stream.frames((opened.resend_from_seq..=to).map(sent).collect()).await;
        stream.acknowledged(to).await;
        server.kill();
        server = ServerProcess::start_in(&place, server.address());
    }
    let rest = Rest::new(&server.url());
    assert_read(&rest, &request.run_id, &expected).await;

    // As series: one value a reading that has one.
    for metric in ["gap_flow_damping", "gap_flow_r2_unit", "loss_terms_2"] {
        let path = format!("/api/v1/runs/{}/series?metric=edge.{metric}", request.run_id);
        let series = rest.get(&path).await;
        let points = series["items"][0]["points"].as_array().expect("points");
        let got: Vec<_> = points.iter().map(|point| (point["step"].as_u64(), point["last"].as_f64())).collect();
        let readings = expected[0].iter().filter_map(|it| Some((Some(it.step), Some(it.reading.value(metric)?))));
        assert_eq!(got, readings.collect::<Vec<_>>(), "{metric}");
    }
}

/// Terms are those of the lowest shard that sends them, and need no payload of that shard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_shards_the_lowest_that_sends_them_is_taken() {
    let server = TestServer::start().await;
    let mut first = open_request(two_windows());
    first.shard_count = 2;
    let second = v1::OpenRunRequest { shard: 1, writer_id: uuid::Uuid::new_v4().to_string(), ..first.clone() };
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, _) = peer.open(&first).await.expect("opened");
    let (other, _) = peer.open(&second).await.expect("opened");
    for step in 1..=STEPS {
        let mut whole = sent(step);
        // The second shard alone sends those of even steps; at odd ones it says something else, too late.
        let mut part = Frame { payloads: Vec::new(), ..whole.clone() };
        if step % 2 == 0 {
            whole.edge_terms.clear();
        } else {
            part.edge_terms.iter_mut().for_each(|terms| terms.curvature = Some(99.0));
        }
        stream.frames(vec![whole]).await;
        other.frames(vec![part]).await;
    }
    stream.acknowledged(STEPS).await;
    assert_read(&server.rest(), &first.run_id, &expected()).await;
}

type Change = fn(&mut EdgeTerms);

fn wrong() -> Vec<(Change, RejectCode, &'static str, &'static str)> {
    use RejectCode::{Invalid, SpecMismatch};
    vec![
        (|it| it.group = 1, SpecMismatch, "edge_terms[0].group", "1 is not the index of one of 1 groups"),
        (|it| it.kind = 0, Invalid, "edge_terms[0].kind", "KIND_UPDATE"),
        (|it| it.kind = 77, Invalid, "edge_terms[0].kind", "KIND_UPDATE"),
        (|it| it.kind = Kind::Gradient.into(), SpecMismatch, "edge_terms[0].kind", "gradient was not declared"),
        (|it| it.window = 0, SpecMismatch, "edge_terms[0].window", "0 is not one of"),
        (|it| it.window = 5, SpecMismatch, "edge_terms[0].window", "5 is not one of"),
        (|it| it.window = u32::MAX, SpecMismatch, "edge_terms[0].window", "is not one of"),
        (|it| it.position = 0, Invalid, "edge_terms[0].position", "0 is not between 1 and 2"),
        (|it| it.position = 3, Invalid, "edge_terms[0].position", "3 is not between 1 and 2"),
        (|it| it.position = u32::MAX, Invalid, "edge_terms[0].position", "is not between 1 and 2"),
        (|it| it.curvature = None, Invalid, "edge_terms[0].curvature", "together with edge_terms[0].next_curvature"),
        (|it| it.next_curvature = None, Invalid, "edge_terms[0].next_curvature", "is missing"),
        (|it| it.curvature = Some(f64::NAN), Invalid, "edge_terms[0].curvature", "NaN is not finite"),
        (|it| it.next_curvature = Some(f64::INFINITY), Invalid, "edge_terms[0].next_curvature", "inf is not finite"),
        (|it| it.projection = None, Invalid, "edge_terms[0].projection", "is missing"),
        (|it| it.next_projection = None, Invalid, "edge_terms[0].next_projection", "is missing"),
        (|it| it.projection = Some(f64::NAN), Invalid, "edge_terms[0].projection", "NaN is not finite"),
        (|it| it.next_projection = Some(f64::NEG_INFINITY), Invalid, "edge_terms[0].next_projection", "not finite"),
        (|it| it.training_projections.clear(), Invalid, "edge_terms[0].training_projections", "is missing"),
        (|it| it.validation_projections.clear(), Invalid, "edge_terms[0].validation_projections", "is missing"),
        (|it| it.training_projections.push(1.0), Invalid, "edge_terms[0].training_projections", "4 values; 3 or none"),
        (|it| it.validation_projections.truncate(2), Invalid, "edge_terms[0].validation_projections", "2 values"),
        (|it| it.training_projections[1] = f64::NAN, Invalid, "edge_terms[0].training_projections[1]", "not finite"),
        (|it| it.validation_projections[2] = f64::INFINITY, Invalid, "edge_terms[0].validation_projections[2]", "inf"),
        (
            |it| *it = EdgeTerms { kind: it.kind, window: it.window, position: it.position, ..EdgeTerms::default() },
            Invalid,
            "edge_terms[0]",
            "holds no terms",
        ),
    ]
}

/// Waits for the rejection of a frame.
async fn rejection(stream: &mut PeerStream) -> v1::Rejected {
    loop {
        match stream.next().await.expect("an open stream").expect("an open stream") {
            Message::Rejected(rejected) => return rejected,
            Message::Ack(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_terms_are_refused_by_name_and_nothing_of_their_frame_is_taken() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(two_windows());
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    let mut seq = 0;
    for (change, code, field, part) in wrong() {
        seq += 1;
        let mut bad = Frame { seq, ..sent(1) };
        change(&mut bad.edge_terms[0]);
        stream.frames(vec![bad]).await;
        let rejected = rejection(&mut stream).await;
        assert_eq!((rejected.seq, rejected.code(), rejected.field.as_str()), (seq, code, field), "{rejected:?}");
        assert!(rejected.message.contains(part), "{rejected:?}");
    }
    let mut twice = Frame { seq: seq + 1, ..sent(2) };
    twice.edge_terms[1].window = WINDOWS[0];
    stream.frames(vec![twice]).await;
    let rejected = rejection(&mut stream).await;
    assert_eq!((rejected.code(), rejected.field.as_str()), (RejectCode::Invalid, "edge_terms[1]"), "{rejected:?}");
    assert!(rejected.message.contains("second terms of update window 3"), "{rejected:?}");

    let good = (1..=STEPS).map(|step| Frame { seq: seq + 1 + step, ..sent(step) });
    stream.frames(good.collect()).await;
    stream.acknowledged(seq + 1 + STEPS).await;
    assert_read(&server.rest(), &request.run_id, &expected()).await;
}

/// Terms without a reading, and a job that says neither its learning rate nor its weight decay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_computed_is_null() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let mut declared = two_windows();
    declared.groups.push(group_spec("other"));
    let request = open_request(declared);
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    let silent = |step| Frame { learning_rate: None, weight_decay: None, group_optimizers: Vec::new(), ..sent(step) };
    let undecayed = |step| Frame { weight_decay: None, group_optimizers: Vec::new(), ..sent(step) };
    let absent = |step| {
        let mut frame = sent(step);
        frame.edge_terms.iter_mut().for_each(|terms| terms.group = 1);
        frame
    };
    stream.frames((1..=10).map(silent).chain((11..=20).map(undecayed)).chain((21..=30).map(absent)).collect()).await;
    stream.acknowledged(30).await;
    let rest = server.rest();
    let readings = rest.all(&format!("/api/v1/runs/{}/readings/edge?window=3", request.run_id)).await;
    assert_eq!(readings.len(), 30);
    let defined = |reading: &Value| {
        ["gap_flow_curvature", "gap_flow_damping", "gap_flow_driving", "loss_terms"]
            .map(|field| !reading.get(field).expect("a field").is_null())
    };
    for (step, reading) in (1..=30_u64).zip(&readings) {
        let expected = match step {
            // Warming, or about another position.
            1 | 2 => [false; 4],
            _ if step.is_multiple_of(3) => [false; 4],
            // In the first full window alpha is undefined, and step 3 is about another position.
            4..=10 => [false, false, false, true],
            11..=20 => [true, false, true, true],
            _ => [false; 4],
        };
        assert_eq!(defined(reading), expected, "step {step}: {reading}");
        assert!(reading["gap_flow_r2_unit"].is_null() && reading["gap_flow_r2_free"].is_null());
    }
    let other = rest.all(&format!("/api/v1/runs/{}/readings/edge?group=other", request.run_id)).await;
    assert_eq!(other, Vec::<Value>::new());

    // A rewind is a new past: its own terms, its own fit.
    let resumed = next_attempt(&request, Some((&request, 12)));
    let (mut stream, _) = peer.open(&resumed).await.expect("opened");
    stream.frames((1..=20).map(|seq| Frame { seq, ..sent(12 + seq) }).collect()).await;
    stream.acknowledged(20).await;
    let readings = rest.all(&format!("/api/v1/runs/{}/readings/edge?window=3&segment=2", request.run_id)).await;
    let with_terms = readings.iter().filter(|reading| defined(reading)[2]).count();
    assert!(readings.len() == 20 && with_terms > 5, "{with_terms}");
}
