//! Shards that do not come: steps are settled without them, and wait again once they are back.

use std::collections::BTreeSet;

use gradwatch_proto::v1::{self, RejectCode, server_message::Message};
use gradwatch_tests::{PeerStream, Rest};

use crate::made::{Made, events, impatient_server, open_all, reached, requests};

async fn send(made: &Made, stream: &PeerStream, shard: usize, steps: std::ops::RangeInclusive<u64>) {
    stream.frames(steps.map(|step| made.frame(shard, step)).collect()).await;
}

/// Shards named by events of a type, with the events' steps.
async fn told(rest: &Rest, run_id: &str, event_type: &str) -> Vec<(u64, u64)> {
    let shard = |event: &serde_json::Value| event["evidence"]["shard"].as_u64().expect("a shard");
    let events = events(rest, run_id, event_type).await;
    events.iter().map(|event| (shard(event), event["step"].as_u64().expect("a step"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_shard_costs_readings_until_it_returns() {
    let server = impatient_server().await;
    let rest = server.rest();
    let made = Made::new(2, 60, 21);
    let requests = requests(2);
    let run_id = requests[0].run_id.clone();
    let mut streams = open_all(&server.url(), &requests).await;
    for (shard, stream) in streams.iter_mut().enumerate() {
        send(&made, stream, shard, 1..=20).await;
    }
    for stream in &mut streams {
        stream.acknowledged(20).await;
    }
    // Shard 1 is gone: two steps are waited for, but two are not three.
    drop(streams.pop());
    send(&made, &streams[0], 0, 21..=22).await;
    streams[0].acknowledged(22).await;
    assert_eq!(told(&rest, &run_id, "run.shard_lost").await, []);

    // It comes back with what is late by now, and goes on: nothing was lost.
    let (mut back, opened) = crate::made::reopen(&server.url(), &requests[1]).await;
    assert_eq!((opened.committed_seq, opened.resend_from_seq), (20, 21));
    send(&made, &back, 1, 21..=24).await;
    send(&made, &streams[0], 0, 23..=24).await;
    let others = back.acknowledged(24).await;
    let rejected: Vec<_> = others
        .iter()
        .map(|message| match message {
            Message::Rejected(rejected) => (rejected.seq, rejected.code(), rejected.field.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rejected, [(21, RejectCode::Late, "step"), (22, RejectCode::Late, "step")]);
    streams[0].acknowledged(24).await;
    assert_eq!(told(&rest, &run_id, "run.shard_lost").await, []);

    // Three in a row are three: from then on nobody waits.
    drop(back);
    send(&made, &streams[0], 0, 25..=30).await;
    streams[0].acknowledged(30).await;
    assert_eq!(told(&rest, &run_id, "run.shard_lost").await, [(1, 27)]);
    send(&made, &streams[0], 0, 31..=40).await;
    streams[0].acknowledged(40).await;

    // Back again, it first brings what is late.
    let (mut back, opened) = crate::made::reopen(&server.url(), &requests[1]).await;
    assert_eq!(opened.committed_seq, 24);
    send(&made, &back, 1, 25..=60).await;
    back.acknowledged(40).await;
    assert_eq!(told(&rest, &run_id, "run.shard_returned").await, [(1, 40)]);
    send(&made, &streams[0], 0, 41..=60).await;
    streams[0].acknowledged(60).await;
    back.acknowledged(60).await;
    let incomplete: BTreeSet<u64> = [21, 22].into_iter().chain(25..=40).collect();
    made.assert_read(&rest, &run_id, &incomplete).await;
    let counters = &rest.get(&format!("/api/v1/runs/{run_id}")).await["counters"];
    assert_eq!(counters["rejected"], 18, "the late frames: {counters}");
    let restarted = events(&rest, &run_id, "window.restarted").await;
    let at: Vec<_> = restarted.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [21, 25], "one event for each stretch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_nobody_opened_is_lost_and_may_still_come() {
    let server = impatient_server().await;
    let rest = server.rest();
    let made = Made::new(3, 40, 22);
    let requests = requests(3);
    let run_id = requests[0].run_id.clone();
    let mut streams = open_all(&server.url(), &requests[..2]).await;
    for (shard, stream) in streams.iter().enumerate() {
        send(&made, stream, shard, 1..=10).await;
    }
    streams[0].acknowledged(10).await;
    assert_eq!(told(&rest, &run_id, "run.shard_lost").await, [(2, 3)]);
    streams.extend(open_all(&server.url(), &requests[2..]).await);
    // A process that joined late numbers its frames from 1.
    let frame = |step| v1::Frame { seq: step - 10, ..made.frame(2, step) };
    streams[2].frames((11..=40).map(frame).collect()).await;
    rest.until(&format!("/api/v1/runs/{run_id}/events?types=run.shard_returned"), "the return", |events| {
        events["items"][0]["evidence"]["shard"] == 2
    })
    .await;
    for (shard, stream) in streams.iter().enumerate().take(2) {
        send(&made, stream, shard, 11..=40).await;
    }
    for (stream, seq) in streams.iter_mut().zip([40, 40, 30]) {
        stream.acknowledged(seq).await;
    }
    let steps = rest.all(&format!("/api/v1/runs/{run_id}/steps?limit=1000")).await;
    let incomplete: BTreeSet<u64> =
        steps.iter().filter(|step| step["complete"] == false).map(|step| step["step"].as_u64().unwrap()).collect();
    assert_eq!(incomplete, (1..=10).collect());
    let readings = rest.all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000")).await;
    gradwatch_tests::assert_readings(&readings, &made.expected(&incomplete).readings[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_catches_up_is_waited_for() {
    let server = impatient_server().await;
    let rest = server.rest();
    let made = Made::new(2, 12, 23);
    let requests = requests(2);
    let mut streams = open_all(&server.url(), &requests).await;
    send(&made, &streams[0], 0, 1..=12).await;
    // Each within the second, all of them together far beyond it.
    for step in 1..=12 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        send(&made, &streams[1], 1, step..=step).await;
    }
    for stream in &mut streams {
        stream.acknowledged(12).await;
    }
    made.assert_read(&rest, &requests[0].run_id, &BTreeSet::new()).await;
    reached(&rest, &requests[0].run_id, 12).await;
}
