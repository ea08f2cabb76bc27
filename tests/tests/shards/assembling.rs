//! Joining the shards' frames.

use std::collections::BTreeSet;

use gradwatch_proto::v1::{self, NonFinite, client_message, payload, server_message::Message};
use gradwatch_tests::{
    Offline, Peer, Row, TestServer, assert_readings, assert_status, group_spec, open_request, payload_f32, spec,
};
use tonic::Code;

use crate::made::{Made, Random, events, open_all, reopen, requests, requests_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_taken_in_the_order_of_the_shards_however_they_arrive() {
    let server = TestServer::start().await;
    let rest = server.rest();
    for (shards, seed) in [(2, 1), (2, 2), (4, 3), (4, 4)] {
        let made = Made::new(shards, 60, seed);
        let requests = requests(shards);
        let mut streams = open_all(&server.url(), &requests).await;
        let mut random = Random(seed);
        let mut sent = vec![0; shards];
        while sent.iter().any(|&sent| sent < made.steps()) {
            let shard = random.below(shards);
            let to_step = made.steps().min(sent[shard] + 1 + random.below(7) as u64);
            if sent[shard] < to_step {
                streams[shard].frames((sent[shard] + 1..=to_step).map(|step| made.frame(shard, step)).collect()).await;
                sent[shard] = to_step;
            }
        }
        for stream in &mut streams {
            assert_eq!(stream.acknowledged(made.steps()).await, []);
        }
        made.assert_read(&rest, &requests[0].run_id, &BTreeSet::new()).await;

        // One shard that sends the sum reads the same.
        let whole = open_request(spec());
        let (mut stream, _) = Peer::connect(&server.url()).await.open(&whole).await.unwrap();
        let frame =
            |step| v1::Frame { payloads: vec![payload_f32(0, step - 1, &made.sum(step))], ..made.frame(0, step) };
        stream.frames((1..=made.steps()).map(frame).collect()).await;
        stream.acknowledged(made.steps()).await;
        let path = |run_id: &str| format!("/api/v1/runs/{run_id}/readings/edge?limit=1000");
        let expected = made.expected(&BTreeSet::new());
        assert_readings(&rest.all(&path(&whole.run_id)).await, &expected.readings[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_waits_for_another_shard_is_not_acknowledged() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let made = Made::new(2, 8, 5);
    let requests = requests(2);
    let mut streams = open_all(&server.url(), &requests).await;
    streams[0].frames((1..=8).map(|step| made.frame(0, step)).collect()).await;
    streams[1].frames((1..=5).map(|step| made.frame(1, step)).collect()).await;
    for stream in &mut streams {
        stream.acknowledged(5).await;
    }
    // Shard 0 comes again: what waits is known, and was never settled.
    let (mut again, opened) = reopen(&server.url(), &requests[0]).await;
    assert_eq!((opened.committed_seq, opened.resend_from_seq), (5, 6));
    again.frames((6..=8).map(|step| made.frame(0, step)).collect()).await;
    streams[1].frames((6..=8).map(|step| made.frame(1, step)).collect()).await;
    again.acknowledged(8).await;
    streams[1].acknowledged(8).await;
    made.assert_read(&rest, &requests[0].run_id, &BTreeSet::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_owns_nothing_of_a_group_takes_no_part_in_its_rows() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let made = Made::new(3, 30, 6);
    let groups = vec![group_spec("all"), group_spec("first"), group_spec("others")];
    let requests = requests_of(open_request(v1::StreamSpec { groups, ..spec() }), 3);
    let mut streams = open_all(&server.url(), &requests).await;
    for (shard, stream) in streams.iter().enumerate() {
        let frame = |step: u64| {
            let mut frame = made.frame(shard, step);
            let part = &made.parts[shard][step as usize - 1];
            frame.payloads.push(payload_f32(if shard == 0 { 1 } else { 2 }, step - 1, part));
            frame
        };
        stream.frames((1..=30).map(frame).collect()).await;
    }
    for stream in &mut streams {
        stream.acknowledged(30).await;
    }
    let run_id = &requests[0].run_id;
    let others = Made { parts: made.parts[1..].to_vec() };
    let first = Made { parts: made.parts[..1].to_vec() };
    for (group, made) in [("all", &made), ("first", &first), ("others", &others)] {
        let path = format!("/api/v1/runs/{run_id}/readings/edge?group={group}&limit=1000");
        let expected = made.expected(&BTreeSet::new());
        assert_readings(&rest.all(&path).await, &expected.readings[0]);
    }
    assert!(events(&rest, run_id, "window.restarted").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_different_rows_cost_that_row_and_name_what_differs() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let made = Made::new(2, 20, 7);
    let requests = requests(2);
    let mut streams = open_all(&server.url(), &requests).await;
    for (shard, stream) in streams.iter().enumerate() {
        let frame = |step: u64| {
            let mut frame = made.frame(shard, step);
            if step == 8 && shard == 1 {
                frame.payloads[0].base_step = 5;
            }
            if step == 14 {
                let counts = NonFinite { nan: 3 + shard as u64, positive_infinity: 1, negative_infinity: 0 };
                frame.payloads[0].body = Some(payload::Body::NonFinite(counts));
            }
            frame.phase = u32::from((step == 17 && shard == 1) || step > 17);
            frame
        };
        stream.frames((1..=20).map(frame).collect()).await;
    }
    for stream in &mut streams {
        stream.acknowledged(20).await;
    }
    let run_id = &requests[0].run_id;
    let rows: Vec<Row> = (1..=20)
        .filter(|step| ![8, 14, 17].contains(step))
        .map(|step| Row { step, base_step: step - 1, sketch: made.sum(step) })
        .collect();
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000")).await;
    assert_readings(&readings, &Offline::compute(&rows, &[3], 1_000).readings[0]);
    let restarted = events(&rest, run_id, "window.restarted").await;
    let told: Vec<_> = restarted.iter().map(|event| (event["step"].clone(), event["evidence"].clone())).collect();
    let disagreement = |field: &str, values: [u64; 2]| serde_json::json!({ "reason": "disagreement", "field": field, "shards": [0, 1], "values": values });
    assert_eq!(told, [(8.into(), disagreement("base_step", [7, 5])), (17.into(), disagreement("phase", [0, 1]))]);
    let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?from_step=14&to_step=14&limit=10")).await;
    let counted = &steps[0]["nonfinite_payloads"][0];
    assert_eq!((&counted["nan"], &counted["positive_infinity"]), (&7.into(), &2.into()), "{steps:?}");
    assert_eq!(steps[0]["complete"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_shard_went_past_is_not_waited_for() {
    // With the default patience of 30 s nothing of this may wait.
    let server = TestServer::start().await;
    let rest = server.rest();
    let made = Made::new(2, 24, 8);
    let requests = requests(2);
    let mut streams = open_all(&server.url(), &requests).await;
    streams[0].frames((1..=24).map(|step| made.frame(0, step)).collect()).await;
    // Shard 1 leaves out step 5, gives up 10 to 12, and its frame of step 17 is invalid.
    streams[1].frames((1..=4).map(|step| made.frame(1, step)).collect()).await;
    streams[1].frames((6..=9).map(|step| v1::Frame { seq: step - 1, ..made.frame(1, step) }).collect()).await;
    let dropped = v1::Dropped { from_seq: 9, to_seq: 11, first_step: 10, last_step: 12 };
    streams[1].send(client_message::Message::Dropped(dropped)).await;
    streams[0].acknowledged(12).await;
    streams[1]
        .frames(
            (13..=24)
                .map(|step| v1::Frame { seq: step - 1, ..made.frame(1, step) })
                .map(|mut frame| {
                    if frame.step == 17 {
                        frame.payloads[0].group = 9;
                    }
                    frame
                })
                .collect(),
        )
        .await;
    streams[0].acknowledged(24).await;
    let told = streams[1].acknowledged(23).await;
    assert!(matches!(&told[..], [Message::Rejected(rejected)] if rejected.seq == 16), "{told:?}");

    let run_id = &requests[0].run_id;
    let incomplete = BTreeSet::from([5, 10, 11, 12, 17]);
    let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=1000")).await;
    let found: BTreeSet<u64> =
        steps.iter().filter(|step| step["complete"] == false).map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!((steps.len(), &found), (24, &incomplete));
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000")).await;
    assert_readings(&readings, &made.expected(&incomplete).readings[0]);
    let run = rest.get(&format!("/api/v1/runs/{run_id}")).await;
    let counters = &run["counters"];
    assert_eq!(
        (&counters["incomplete"], &counters["dropped"], &counters["rejected"]),
        (&5.into(), &3.into(), &1.into())
    );
    // One event for each stretch.
    let restarted = events(&rest, run_id, "window.restarted").await;
    let at: Vec<_> = restarted.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [5, 10, 17]);
    for event in &restarted {
        assert_eq!(event["evidence"], serde_json::json!({ "reason": "incomplete", "missing_shards": [1] }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_shard_has_one_writer_and_all_declare_the_same() {
    let server = TestServer::start().await;
    let requests = requests(2);
    let _streams = open_all(&server.url(), &requests).await;
    let mut peer = Peer::connect(&server.url()).await;
    let mut second = requests[1].clone();
    second.writer_id = "a second process".into();
    assert_eq!(peer.open_run(&second).await.unwrap_err().code(), Code::AlreadyExists);
    let status = peer.open_stream(&second).await.err().expect("the shard has a writer");
    assert_eq!(status.code(), Code::AlreadyExists);

    let mut other_count = requests[1].clone();
    other_count.shard_count = 3;
    let status = peer.open_run(&other_count).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "shard_count", "declared 2 first");
    let mut other_spec = requests[1].clone();
    other_spec.spec.as_mut().unwrap().sketch_seed += 1;
    let status = peer.open_run(&other_spec).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "spec.sketch_seed", "differs");
    let mut other_resumes = requests[1].clone();
    let attempt = other_resumes.attempt.as_mut().unwrap();
    attempt.resumes = Some(v1::Resumes { attempt_id: attempt.attempt_id.clone(), step: 3 });
    let status = peer.open_run(&other_resumes).await.unwrap_err();
    assert_status(&status, Code::FailedPrecondition, "attempt.resumes", "nothing to resume");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_far_ahead_neither_fills_the_memory_nor_shuts_the_others_out() {
    let server = TestServer::start_with(|config| {
        config.limits.max_message_bytes = 1 << 16;
        config.memory_limit_bytes = 4 << 16;
    })
    .await;
    let made = Made::new(3, 300, 9);
    let requests = requests(3);
    let url = server.url();
    let streams = open_all(&url, &requests).await;
    let (mut ready, begin) = (Vec::new(), std::sync::Arc::new(tokio::sync::Barrier::new(3)));
    for (shard, mut stream) in streams.into_iter().enumerate() {
        let frames: Vec<v1::Frame> = (1..=300).map(|step| made.frame(shard, step)).collect();
        let begin = std::sync::Arc::clone(&begin);
        ready.push(tokio::spawn(async move {
            // A client in small: sends what there is, and again from where it is told to.
            let send =
                |from_seq: u64| frames[from_seq as usize - 1..].chunks(10).map(<[_]>::to_vec).collect::<Vec<_>>();
            let mut resends = 0;
            if shard > 0 {
                begin.wait().await;
            }
            for chunk in send(1) {
                stream.frames(chunk).await;
            }
            if shard == 0 {
                begin.wait().await;
            }
            loop {
                match stream.next().await.expect("an open stream").expect("an open stream") {
                    Message::Ack(ack) if ack.committed_seq == 300 => return resends,
                    Message::Resend(resend) => {
                        resends += 1;
                        for chunk in send(resend.from_seq) {
                            stream.frames(chunk).await;
                        }
                    }
                    _ => {}
                }
            }
        }));
    }
    let mut resends = Vec::new();
    for shard in ready {
        resends.push(shard.await.expect("settled"));
    }
    assert!(
        (1..=100).contains(&resends[0]),
        "300 frames do not fit, and are asked for when there is room: {resends:?}"
    );
    made.assert_read(&server.rest(), &requests[0].run_id, &BTreeSet::new()).await;
}
