//! A server that ends, politely or not, in the middle of a run: afterwards the run is the one it would have been.

use std::time::Duration;

use gradwatch_proto::v1::{self, server_message};
use gradwatch_tests::{
    Backend, Job, JobOptions, Offline, PATIENCE, Peer, Place, Rest, ServerProcess, TENSOR, TestServer, any_port,
    assert_detected, assert_readings, exact_sketches, frame, group_spec, on_both_backends, open_request, payload_f32,
    random_walk, rows, spec,
};
use serde_json::{Value, json};
use uuid::Uuid;

on_both_backends!(
    a_graceful_restart_leaves_no_trace,
    sigkill_at_any_moment_leaves_no_trace,
    a_killed_server_keeps_every_acknowledged_frame,
);

const STEPS: u64 = 220;

/// A made training job and what a server that nothing happens to reads off it.
struct Made {
    options: JobOptions,
    parameters: Vec<Vec<f32>>,
}

impl Made {
    fn new(groups: &[(&'static str, u64)], steps: u64) -> Self {
        let options = JobOptions { windows: vec![10, 5], groups: groups.to_vec(), ..JobOptions::default() };
        let parameters = random_walk(11, steps as usize, options.len);
        Self { options, parameters }
    }

    fn expected(&self, every: u64) -> Offline {
        let parameters: Vec<_> = self.parameters.iter().step_by(every as usize).cloned().collect();
        let sketches = exact_sketches(&parameters, TENSOR, self.options.dim, self.options.seed);
        Offline::compute(&rows(sketches, every), &self.options.windows, self.options.len)
    }

    /// Compares a run with what it must have been: every step once, readings and detections to the bit, no window
    /// started again.
    async fn assert_undisturbed(&self, rest: &Rest, run_id: Uuid) {
        let run = format!("/api/v1/runs/{run_id}");
        let steps = rest.all(&format!("{run}/steps?segment=all&limit=1000")).await;
        let got: Vec<(u64, String)> = steps.iter().map(step_and_seq).collect();
        let want = (0..self.parameters.len() as u64).map(|step| (step, (step + 1).to_string()));
        assert_eq!(got, want.collect::<Vec<_>>());
        assert_eq!(rest.get(&run).await["counters"]["steps"], self.parameters.len());
        for (group, every) in &self.options.groups {
            let expected = self.expected(*every);
            for (window, expected) in self.options.windows.iter().zip(&expected.readings) {
                let path = format!("{run}/readings/edge?segment=all&group={group}&window={window}&limit=1000");
                assert_readings(&rest.all(&path).await, expected);
            }
            let events = rest.all(&format!("{run}/events?segment=all&group={group}&limit=1000")).await;
            assert!(!expected.detections.is_empty(), "the planted change of {group} is not detected offline either");
            assert_detected(&events, &expected.detections);
        }
        let restarted = rest.all(&format!("{run}/events?segment=all&types=window.restarted&limit=10")).await;
        assert_eq!(restarted, Vec::<Value>::new());
        let duplicates = rest.all(&format!("{run}/events?segment=all&types=segment.started&limit=10")).await;
        assert_eq!(duplicates.len(), 1, "{duplicates:?}");
    }
}

fn step_and_seq(step: &Value) -> (u64, String) {
    let seq = step["seqs"][0].as_str().expect("one shard").to_owned();
    (step["step"].as_u64().expect("a step"), seq)
}

/// SplitMix64: the moments at which the server is killed are the same every time, as far as a test can say.
struct Moments(u64);

impl Moments {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Waits until the one run of a server has reached a step.
async fn reached(rest: &Rest, step: u64) {
    let reached = |runs: &Value| runs["items"][0]["last_step"].as_u64() >= Some(step);
    rest.until("/api/v1/runs", "the run at the step", reached).await;
}

/// A list of a run without what differs between two runs that went the same way: ids, and what clocks said.
async fn comparable(rest: &Rest, run_id: Uuid, path: &str) -> Vec<Value> {
    let mut items = rest.all(&format!("/api/v1/runs/{run_id}/{path}")).await;
    for item in &mut items {
        let fields = item.as_object_mut().expect("an object");
        for field in ["wall_time", "received_at", "at", "event_id", "run_id"] {
            fields.remove(field);
        }
        if let Some(evidence) = fields.get_mut("evidence").and_then(Value::as_object_mut) {
            evidence.remove("attempt_id");
        }
    }
    items
}

async fn a_graceful_restart_leaves_no_trace(backend: Backend) {
    let made = Made::new(&[("all", 1)], STEPS);
    let undisturbed = TestServer::start_on(backend).await;
    let mut server = TestServer::start_on(backend).await;
    let mut job = Job::open(&server.url(), &made.options);
    let mut twin = Job::open(&undisturbed.url(), &made.options);
    let (run_id, twin_id) = (job.run_id(), twin.run_id());
    for (step, parameters) in (0..).zip(&made.parameters) {
        job.submit(step, parameters);
        twin.submit(step, parameters);
        // Before any window is full, while detectors still gather a past, and behind the planted change.
        if [1, 7, 60, 130].contains(&step) {
            // At least something of each part has reached the server.
            reached(&server.rest(), step / 2).await;
            server = server.restart().await;
        }
    }
    job.close().await;
    twin.close().await;
    made.assert_undisturbed(&server.rest(), run_id).await;
    made.assert_undisturbed(&undisturbed.rest(), twin_id).await;
    for path in ["steps?limit=1000", "readings/edge?window=10&limit=1000", "events?limit=1000"] {
        let left = comparable(&server.rest(), run_id, path).await;
        let right = comparable(&undisturbed.rest(), twin_id, path).await;
        assert_eq!(left, right, "{path}");
    }
}

/// Streams a made job to a server that is killed again and again, at moments that `seed` draws.
async fn survives_kills(backend: Backend, groups: &[(&'static str, u64)], steps: u64, kills: u64, seed: u64) {
    let made = Made::new(groups, steps);
    let place = Place::new(backend);
    let mut server = ServerProcess::start_in(&place, any_port());
    let address = server.address();
    let mut job = Job::open(&server.url(), &made.options);
    let run_id = job.run_id();
    let mut moments = Moments(seed);
    // One moment in each part of the run, and one behind its end.
    let part = made.parameters.len() as u64 / kills;
    let kill_at: Vec<u64> = (0..kills).map(|kill| kill * part + moments.below(part)).collect();
    for (step, parameters) in (0..).zip(&made.parameters) {
        job.submit(step, parameters);
        // Commits take about this long: kills hit all phases of them.
        tokio::time::sleep(Duration::from_micros(500 + moments.below(4_000))).await;
        if kill_at.contains(&step) {
            if moments.below(2) == 0 {
                // The client is connected and streams.
                reached(&Rest::new(&server.url()), step / 2).await;
                tokio::time::sleep(Duration::from_micros(moments.below(3_000))).await;
            }
            server.kill();
            server = ServerProcess::start_in(&place, address);
        }
    }
    job.close().await;
    server.kill();
    server = ServerProcess::start_in(&place, address);
    made.assert_undisturbed(&Rest::new(&server.url()), run_id).await;
}

async fn sigkill_at_any_moment_leaves_no_trace(backend: Backend) {
    for seed in [1, 2, 3] {
        survives_kills(backend, &[("all", 1)], STEPS, 6, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_with_a_group_that_is_seldom_submitted_leaves_no_trace() {
    // Long enough for the seldom group's detectors to have a past.
    survives_kills(Backend::Sqlite, &[("often", 1), ("seldom", 5)], 1_000, 8, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_old_frames_loses_only_its_windows() {
    const BEFORE: u64 = 20;
    const AFTER: u64 = 40;
    let server = TestServer::start().await;
    let request = open_request(spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames((1..=BEFORE).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(BEFORE).await;
    let before = server.rest().all(&format!("{run}/readings/edge?limit=100")).await;
    drop((stream, peer));

    let server = server.restart().await;
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open(&request).await.expect("opened again");
    // Four rows: the window and one more.
    assert_eq!((opened.segment, opened.committed_seq, opened.resend_from_seq), (1, BEFORE, BEFORE - 3));
    stream.frames((BEFORE + 1..=AFTER).map(|seq| frame(seq, seq)).collect()).await;
    let others = stream.acknowledged(AFTER).await;
    assert_eq!(others, Vec::<server_message::Message>::new());

    let rest = server.rest();
    let steps = rest.all(&format!("{run}/steps?limit=100")).await;
    assert_eq!(
        steps.iter().map(step_and_seq).map(|(step, _)| step).collect::<Vec<_>>(),
        (1..=AFTER).collect::<Vec<_>>()
    );
    let readings = rest.all(&format!("{run}/readings/edge?limit=100")).await;
    assert_eq!(readings[..BEFORE as usize], before, "what was read before stands");
    let filling: Vec<u64> = readings[BEFORE as usize..].iter().filter_map(|reading| reading["rows"].as_u64()).collect();
    assert_eq!(filling.len() as u64, AFTER - BEFORE);
    assert_eq!(filling[..4], [1, 2, 3, 3]);
    assert!(!readings.last().expect("readings")["warming"].as_bool().expect("a flag"), "warm again");
    let events = rest.all(&format!("{run}/events?types=window.restarted&limit=100")).await;
    let [event] = events.as_slice() else { panic!("one event: {events:?}") };
    let missing = json!({
        "reason": "refill",
        "missing_from_seq": (BEFORE - 3).to_string(),
        "missing_to_seq": BEFORE.to_string(),
    });
    assert_eq!((&event["evidence"], &event["segment"]), (&missing, &json!(1)));
    assert_eq!(rest.get(&run).await["counters"]["steps"], AFTER);
}

/// A frame of group 0 and, in the first steps only, of group 1: a layer that is frozen early.
fn frame_with_frozen_group(step: u64) -> v1::Frame {
    let mut frame = frame(step, step);
    if step <= 5 {
        let row: Vec<f32> = (0..64).map(|column| (step * 64 + column) as f32).collect();
        frame.payloads.push(payload_f32(1, step - 1, &row));
    }
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_group_costs_no_other_group_its_window() {
    const BEFORE: u64 = 40;
    const AFTER: u64 = 60;
    // The client keeps far fewer frames than the frozen group's rows reach back, but enough for the other's.
    const KEPT_FROM: u64 = 30;
    let mut readings = Vec::new();
    for restarted in [false, true] {
        let mut server = TestServer::start().await;
        let request = open_request(v1::StreamSpec { groups: vec![group_spec("all"), group_spec("frozen")], ..spec() });
        let run = format!("/api/v1/runs/{}", request.run_id);
        let mut peer = Peer::connect(&server.url()).await;
        let (mut stream, _) = peer.open(&request).await.expect("opened");
        stream.frames((1..=BEFORE).map(frame_with_frozen_group).collect()).await;
        stream.acknowledged(BEFORE).await;
        let mut from = BEFORE + 1;
        if restarted {
            drop((stream, peer));
            server = server.restart().await;
            peer = Peer::connect(&server.url()).await;
            let (again, opened) = peer.open(&request).await.expect("opened again");
            assert_eq!(opened.resend_from_seq, 2, "the frozen group's last four rows");
            (stream, from) = (again, KEPT_FROM);
        }
        stream.frames((from..=AFTER).map(frame_with_frozen_group).collect()).await;
        stream.acknowledged(AFTER).await;
        let rest = server.rest();
        readings.push(rest.all(&format!("{run}/readings/edge?group=all&limit=100")).await);
        let events = rest.all(&format!("{run}/events?types=window.restarted&limit=100")).await;
        let lost: Vec<_> = events.iter().map(|event| (event["group"].as_str(), &event["evidence"])).collect();
        let missing = json!({ "reason": "refill", "missing_from_seq": "2", "missing_to_seq": "29" });
        assert_eq!(lost, if restarted { vec![(Some("frozen"), &missing)] } else { Vec::new() });
    }
    let mut bits = |index: usize| {
        readings[index].iter_mut().for_each(|reading| reading["wall_time"] = json!(null));
        std::mem::take(&mut readings[index])
    };
    let (undisturbed, restarted) = (bits(0), bits(1));
    assert_eq!(undisturbed.len() as u64, AFTER);
    assert_eq!(restarted, undisturbed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_group_does_not_bring_back_a_long_history() {
    const REFILLED: u64 = 16_384;
    const LAST: u64 = REFILLED + 1_000;
    // Rows only where they matter: at the beginning, and at the end of one of the groups.
    let thin_frame = |step| {
        let mut frame = frame_with_frozen_group(step);
        if (6..LAST - 10).contains(&step) {
            frame.payloads.clear();
        }
        frame
    };
    let mut server = TestServer::start().await;
    let request = open_request(v1::StreamSpec { groups: vec![group_spec("all"), group_spec("frozen")], ..spec() });
    let mut peer = Peer::connect(&server.url()).await;
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    let frames: Vec<v1::Frame> = (1..=LAST).map(thin_frame).collect();
    for batch in frames.chunks(1_000) {
        stream.frames(batch.to_vec()).await;
        stream.acknowledged(batch[batch.len() - 1].seq).await;
    }
    drop((stream, peer));
    server = server.restart().await;
    peer = Peer::connect(&server.url()).await;
    let (mut stream, opened) = peer.open(&request).await.expect("opened again");
    assert_eq!(opened.resend_from_seq, LAST - REFILLED + 1, "and not the frozen group's rows at the beginning");
    let again: Vec<v1::Frame> = (opened.resend_from_seq..=LAST + 1).map(thin_frame).collect();
    for batch in again.chunks(1_000) {
        stream.frames(batch.to_vec()).await;
    }
    stream.acknowledged(LAST + 1).await;
    let path = format!("/api/v1/runs/{}/events?types=window.restarted&limit=100", request.run_id);
    let events = server.rest().all(&path).await;
    let told: Vec<_> =
        events.iter().map(|event| (event["group"].as_str(), event["evidence"]["reason"].as_str())).collect();
    assert_eq!(told, [(Some("all"), Some("hole")), (Some("frozen"), Some("refill"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_was_rejected_is_not_in_the_windows_after_a_restart_either() {
    const REJECTED: u64 = 10;
    const LAST: u64 = 20;
    let frame_or_rejected = |seq| {
        let mut frame = frame(seq, seq);
        if seq == REJECTED {
            frame.scalars.insert("one too many".into(), 1.0);
        }
        frame
    };
    let mut outcomes = Vec::new();
    for restarted in [false, true] {
        let mut server = TestServer::start_with(|config| config.limits.max_scalar_names = 1).await;
        let request = open_request(spec());
        let run = format!("/api/v1/runs/{}", request.run_id);
        let mut peer = Peer::connect(&server.url()).await;
        let (mut stream, _) = peer.open(&request).await.expect("opened");
        stream.frames((1..=REJECTED).map(frame_or_rejected).collect()).await;
        stream.acknowledged(REJECTED).await;
        let mut from = REJECTED + 1;
        if restarted {
            drop((stream, peer));
            server = server.restart().await;
            peer = Peer::connect(&server.url()).await;
            let opened;
            (stream, opened) = peer.open(&request).await.expect("opened again");
            from = opened.resend_from_seq;
            assert!(from < REJECTED, "the rejected frame is among those sent again");
        }
        stream.frames((from..=LAST).map(frame_or_rejected).collect()).await;
        stream.acknowledged(LAST).await;
        let rest = server.rest();
        let mut readings = rest.all(&format!("{run}/readings/edge?limit=100")).await;
        readings.iter_mut().for_each(|reading| reading["wall_time"] = json!(null));
        let events = rest.all(&format!("{run}/events?types=window.restarted&limit=100")).await;
        let reasons: Vec<Value> = events.iter().map(|event| event["evidence"]["reason"].clone()).collect();
        outcomes.push((readings, reasons, rest.get(&run).await["counters"].clone()));
    }
    assert_eq!(outcomes[0].1, [json!("hole")], "the frame behind the rejected one starts the window again");
    assert_eq!(outcomes[1], outcomes[0]);
}

async fn a_killed_server_keeps_every_acknowledged_frame(backend: Backend) {
    let place = Place::new(backend);
    let mut server = ServerProcess::start_in(&place, any_port());
    let mut moments = Moments(9);
    let mut requests = Vec::new();
    for _ in 0..6 {
        let request = open_request(spec());
        let mut peer = Peer::connect(&server.url()).await;
        let (mut stream, _) = peer.open(&request).await.expect("opened");
        let enough = 1 + moments.below(60);
        stream.frames((1..=100).map(|seq| frame(seq, seq)).collect()).await;
        let acknowledged = last_acknowledged(&mut stream, enough).await;
        server.kill();
        server = ServerProcess::start_in(&place, server.address());
        requests.push((request, acknowledged));
    }
    let rest = Rest::new(&server.url());
    let mut peer = Peer::connect(&server.url()).await;
    for (request, acknowledged) in requests {
        let (_stream, opened) = peer.open(&request).await.expect("opened again");
        assert!(opened.committed_seq >= acknowledged, "{} < {acknowledged}", opened.committed_seq);
        let steps = rest.all(&format!("/api/v1/runs/{}/steps?limit=500", request.run_id)).await;
        let steps: Vec<u64> = steps.iter().filter_map(|step| step["step"].as_u64()).collect();
        assert_eq!(steps, (1..=opened.committed_seq).collect::<Vec<_>>(), "mark and steps are one transaction");
        let readings = rest.all(&format!("/api/v1/runs/{}/readings/edge?limit=500", request.run_id)).await;
        assert_eq!(readings.len() as u64, opened.committed_seq, "and so are the readings");
    }
}

/// Reads until at least `enough` frames are acknowledged; answers how many are.
async fn last_acknowledged(stream: &mut gradwatch_tests::PeerStream, enough: u64) -> u64 {
    let reading = async {
        loop {
            if let Ok(Some(server_message::Message::Ack(v1::Ack { committed_seq, .. }))) = stream.next().await
                && committed_seq >= enough
            {
                return committed_seq;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an acknowledgement")
}
