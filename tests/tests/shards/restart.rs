//! A server that is killed between the shards' frames: afterwards the run is the one it would have been.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use gradwatch_proto::v1::{Frame, OpenRunRequest, server_message::Message};
use gradwatch_tests::{PeerStream, Rest, ServerProcess, any_port};
use serde_json::Value;

use crate::made::{Made, Random, events, impatient_server, open_all, reached, reopen, requests};

fn start(data_dir: &Path, address: SocketAddr) -> ServerProcess {
    ServerProcess::start(data_dir, address)
}

/// A client in small: keeps all its frames, and sends from where it is told to.
struct Client<'a> {
    frames: Vec<Frame>,
    request: &'a OpenRunRequest,
    stream: PeerStream,
    next_seq: u64,
}

impl<'a> Client<'a> {
    async fn connect(url: &str, made: &Made, shard: usize, request: &'a OpenRunRequest) -> Self {
        Self::leaving_out(url, made, shard, request, &BTreeSet::new()).await
    }

    /// Connects a shard that does not bring some of the steps.
    async fn leaving_out(
        url: &str,
        made: &Made,
        shard: usize,
        request: &'a OpenRunRequest,
        left_out: &BTreeSet<u64>,
    ) -> Self {
        let steps = (1..=made.steps()).filter(|step| !left_out.contains(step));
        let frames = (1..).zip(steps).map(|(seq, step)| Frame { seq, ..made.frame(shard, step) }).collect();
        let (stream, opened) = reopen(url, request).await;
        Self { frames, request, stream, next_seq: opened.resend_from_seq }
    }

    fn last_seq(&self) -> u64 {
        self.frames.len() as u64
    }

    async fn send_to(&mut self, last_seq: u64) {
        let last_seq = last_seq.min(self.last_seq());
        if self.next_seq <= last_seq {
            self.stream.frames(self.frames[self.next_seq as usize - 1..last_seq as usize].to_vec()).await;
            self.next_seq = last_seq + 1;
        }
    }

    async fn reconnect(self, url: &str) -> Self {
        let (stream, opened) = reopen(url, self.request).await;
        Self { stream, next_seq: opened.resend_from_seq, ..self }
    }
}

/// Streams a made attempt to a server that is killed again and again while frames of some shards wait for others.
/// The last shard does not bring some of the steps.
async fn survives_kills(shards: usize, steps: usize, kills: usize, seed: u64, left_out: &BTreeSet<u64>) {
    let made = Made::new(shards, steps, seed);
    let requests = requests(shards);
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let mut server = start(data_dir.path(), any_port());
    let address = server.address();
    let url = server.url();
    open_all(&url, &requests).await;
    let mut clients = Vec::new();
    for (shard, request) in requests.iter().enumerate() {
        let nothing = BTreeSet::new();
        let left_out = if shard + 1 == shards { left_out } else { &nothing };
        clients.push(Client::leaving_out(&url, &made, shard, request, left_out).await);
    }
    let mut random = Random(seed);
    for kill in 0..kills {
        // How far each shard gets before the kill; the slowest of them decides how far the run does.
        let from = (kill * steps / kills) as u64;
        let reach: Vec<u64> = (0..shards).map(|_| from + random.below(steps / kills) as u64).collect();
        for _ in 0..4 * shards {
            let shard = random.below(shards);
            let to = clients[shard].next_seq + random.below(5) as u64;
            clients[shard].send_to(to.min(reach[shard])).await;
        }
        if random.below(2) == 0 {
            // All of it has come, and what is whole is settled.
            for (client, &to) in clients.iter_mut().zip(&reach) {
                client.send_to(to).await;
            }
            let whole = reach.iter().copied().min().unwrap_or(0);
            if whole > 0 {
                reached(&Rest::new(&url), &requests[0].run_id, whole).await;
            }
        }
        tokio::time::sleep(std::time::Duration::from_micros(random.next() % 4_000)).await;
        server.kill();
        server = start(data_dir.path(), address);
        let mut back = Vec::new();
        for client in clients {
            back.push(client.reconnect(&url).await);
        }
        clients = back;
    }
    for client in &mut clients {
        client.send_to(steps as u64).await;
    }
    for client in &mut clients {
        client.stream.acknowledged(client.last_seq()).await;
    }
    let rest = Rest::new(&url);
    made.assert_read(&rest, &requests[0].run_id, left_out).await;
    let told = events(&rest, &requests[0].run_id, "window.restarted,run.shard_lost,run.lossy").await;
    let told: Vec<(&Value, &Value)> = told.iter().map(|event| (&event["step"], &event["evidence"]["reason"])).collect();
    let reason = Value::from("incomplete");
    let incomplete: Vec<Value> = left_out.iter().copied().map(Value::from).collect();
    assert_eq!(told, incomplete.iter().map(|step| (step, &reason)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_between_the_frames_of_two_shards_leave_no_trace() {
    survives_kills(2, 160, 8, 41, &BTreeSet::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_between_the_frames_of_four_shards_leave_no_trace() {
    survives_kills(4, 160, 8, 42, &BTreeSet::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_a_run_with_incomplete_steps_leave_no_trace() {
    survives_kills(3, 160, 8, 46, &(7..160).step_by(11).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refill_leaves_out_what_was_left_out() {
    let mut server = impatient_server().await;
    let made = Made::new(2, 40, 43);
    let requests = requests(2);
    let run_id = requests[0].run_id.clone();
    let streams = open_all(&server.url(), &requests).await;
    streams[0].frames((1..=12).map(|step| made.frame(0, step)).collect()).await;
    streams[1].frames((1..=9).map(|step| made.frame(1, step)).collect()).await;
    reached(&server.rest(), &run_id, 10).await;
    streams[1].frames((10..=12).map(|step| made.frame(1, step)).collect()).await;
    reached(&server.rest(), &run_id, 12).await;
    let steps = server.rest().all(&format!("/api/v1/runs/{run_id}/steps?limit=1000")).await;
    // One step at least; how many more were waited for in vain is the clock's.
    let incomplete: BTreeSet<u64> =
        steps.iter().filter(|step| step["complete"] == false).map(|step| step["step"].as_u64().unwrap()).collect();
    assert!(incomplete.contains(&10) && incomplete.iter().all(|step| (10..=12).contains(step)), "{incomplete:?}");
    let restarted = events(&server.rest(), &run_id, "window.restarted").await;
    // The oldest frame that is needed again is one behind the incomplete step: so often that a window holds it anyway.
    for to in [20, 30, 40] {
        drop(server.rest());
        server = server.restart().await;
        let mut clients = Vec::new();
        for (shard, request) in requests.iter().enumerate() {
            clients.push(Client::connect(&server.url(), &made, shard, request).await);
        }
        for client in &mut clients {
            client.send_to(to).await;
        }
        for client in &mut clients {
            client.stream.acknowledged(to).await;
        }
    }
    made.assert_read(&server.rest(), &run_id, &incomplete).await;
    assert_eq!(events(&server.rest(), &run_id, "window.restarted").await, restarted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_shard_is_lost_behind_a_restart_too() {
    let mut server = impatient_server().await;
    let made = Made::new(2, 30, 44);
    let requests = requests(2);
    let run_id = requests[0].run_id.clone();
    let mut streams = open_all(&server.url(), &requests).await;
    streams[1].frames((1..=6).map(|step| made.frame(1, step)).collect()).await;
    streams[0].frames((1..=10).map(|step| made.frame(0, step)).collect()).await;
    streams[0].acknowledged(10).await;
    server = server.restart().await;
    let mut first = Client::connect(&server.url(), &made, 0, &requests[0]).await;
    first.send_to(20).await;
    first.stream.acknowledged(20).await;
    let lost = events(&server.rest(), &run_id, "run.shard_lost").await;
    assert_eq!(lost.len(), 1, "it was not lost once more: {lost:?}");

    // It begins behind what it has settled, and its late frames are no second step.
    let mut second = Client::connect(&server.url(), &made, 1, &requests[1]).await;
    second.send_to(30).await;
    let late = second.stream.acknowledged(20).await;
    let rejected = late.iter().filter(|message| matches!(message, Message::Rejected(_))).count();
    assert_eq!(rejected, 14);
    first.send_to(30).await;
    first.stream.acknowledged(30).await;
    second.stream.acknowledged(30).await;
    made.assert_read(&server.rest(), &run_id, &(7..=20).collect()).await;
    let restarted = events(&server.rest(), &run_id, "window.restarted").await;
    let at: Vec<_> = restarted.iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [7], "one event for the whole stretch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_lacks_settled_frames_costs_the_windows_and_no_reading_behind_them() {
    let mut server = impatient_server().await;
    let made = Made::new(2, 20, 45);
    let requests = requests(2);
    let run_id = requests[0].run_id.clone();
    let mut streams = open_all(&server.url(), &requests).await;
    for (shard, stream) in streams.iter().enumerate() {
        stream.frames((1..=10).map(|step| made.frame(shard, step)).collect()).await;
    }
    for stream in &mut streams {
        stream.acknowledged(10).await;
    }
    server = server.restart().await;
    let mut first = Client::connect(&server.url(), &made, 0, &requests[0]).await;
    let mut second = Client::connect(&server.url(), &made, 1, &requests[1]).await;
    assert_eq!((first.next_seq, second.next_seq), (7, 7), "the last four rows of W = 3");
    second.next_seq = 9;
    for client in [&mut first, &mut second] {
        client.send_to(20).await;
    }
    first.stream.acknowledged(20).await;
    second.stream.acknowledged(20).await;
    let restarted = events(&server.rest(), &run_id, "window.restarted").await;
    let evidence: Vec<_> = restarted.iter().map(|event| event["evidence"].clone()).collect();
    let missing = serde_json::json!({ "reason": "refill", "missing_from_seq": "7", "missing_to_seq": "8" });
    assert_eq!(evidence, [missing]);
    let readings = server.rest().all(&format!("/api/v1/runs/{run_id}/readings/edge?limit=1000")).await;
    let rows: Vec<_> = readings.iter().map(|reading| reading["rows"].as_u64().unwrap()).collect();
    assert_eq!(rows, [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3]);
}
