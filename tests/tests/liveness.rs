//! Whether a job is still going: silence is noticed, a frame takes it back, and an end is an end.

use gradwatch_proto::v1::{CloseRunRequest, Finish, Heartbeat, Outcome, client_message::Message};
use gradwatch_server::config::Config;
use gradwatch_tests::{Peer, SseStream, TestServer, frame, open_request, spec};
use serde_json::{Value, json};

/// Long enough never to happen here.
const NEVER_S: u64 = 100_000;

fn impatient(crashed_after_s: u64, stalled_after_s: u64) -> impl FnOnce(&mut Config) {
    move |config| {
        config.liveness.heartbeat_ms = 500;
        config.liveness.check_every_ms = 20;
        config.liveness.crashed_after_s = crashed_after_s;
        config.liveness.stalled_after_s = stalled_after_s;
        config.liveness.stalled_intervals = 1;
    }
}

/// Reads until the run's state changes; answers the new state and the events since the last change.
async fn next_state(stream: &mut SseStream) -> (String, Vec<Value>) {
    let mut events = Vec::new();
    loop {
        let message = stream.next().await.expect("the stream goes on");
        match (message.event.as_str(), message.data["state"].as_str()) {
            ("run", Some(state)) => return (state.to_owned(), events),
            ("event", _) => events.push(message.data),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_without_steps_are_a_stall_until_a_step_comes() {
    let server = TestServer::start_with(impatient(NEVER_S, 1)).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let mut live = rest.events(&format!("/api/v1/stream?types=run,event&run={}", request.run_id), None).await;
    let (mut stream, opened) = peer.open(&request).await.expect("opened");
    assert_eq!(opened.heartbeat_ms, 500);
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await;
    stream.send(Message::Heartbeat(Heartbeat {})).await;

    let (state, events) = next_state(&mut live).await;
    assert_eq!(state, "stalled");
    let event = events.last().expect("an event");
    assert_eq!((&event["type"], &event["step"], &event["segment"]), (&json!("run.stalled"), &json!(1), &json!(1)));
    assert!(event["evidence"]["silent_s"].as_u64() >= Some(1), "{event}");
    assert_eq!(rest.get(&run).await["state"], "stalled");
    assert_eq!(rest.get("/api/v1/overview").await["stalled"][0]["run_id"], json!(request.run_id));

    stream.frames(vec![frame(2, 2)]).await;
    assert_eq!(next_state(&mut live).await.0, "running");
    // A job that went silent once may do so again.
    assert_eq!(next_state(&mut live).await.0, "stalled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_a_crash_until_a_step_comes() {
    let server = TestServer::start_with(impatient(1, NEVER_S)).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let mut live = rest.events(&format!("/api/v1/stream?types=run,event&run={}", request.run_id), None).await;
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await;
    drop(stream);
    let (state, events) = next_state(&mut live).await;
    assert_eq!(state, "crashed");
    let event = events.last().expect("an event");
    assert_eq!((&event["type"], &event["step"]), (&json!("run.crashed"), &json!(1)));
    let crashed = rest.get("/api/v1/runs?state=crashed").await;
    assert_eq!(crashed["items"][0]["run_id"], json!(request.run_id));

    let (stream, opened) = peer.open_stream(&request).await.expect("a crashed run can come back");
    assert_eq!((opened.segment, opened.committed_seq), (1, 1));
    stream.frames(vec![frame(2, 2)]).await;
    assert_eq!(next_state(&mut live).await.0, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_died_while_the_server_was_down_is_noticed() {
    let server = TestServer::start_with(impatient(1, NEVER_S)).await;
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await;
    drop((stream, peer));
    let server = server.restart().await;
    let run = format!("/api/v1/runs/{}", request.run_id);
    server.rest().until(&run, "a crash", |run| run["state"] == "crashed").await;
    let events = server.rest().all(&format!("{run}/events?types=run.crashed&limit=10")).await;
    assert_eq!(events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_an_end() {
    let server = TestServer::start_with(impatient(1, 1)).await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let outcomes = [(Outcome::Finished, "finished"), (Outcome::Failed, "failed"), (Outcome::Preempted, "preempted")];
    let mut ended = Vec::new();
    for (outcome, state) in outcomes {
        let request = open_request(spec());
        let run = format!("/api/v1/runs/{}", request.run_id);
        let (mut stream, _) = peer.open(&request).await.expect("opened");
        stream.frames((1..=3).map(|seq| frame(seq, seq)).collect()).await;
        stream.send(Message::Finish(Finish { outcome: outcome.into(), last_seq: 3 })).await;
        stream.half_close();
        while stream.next().await.expect("no error").is_some() {}
        // Once the stream has ended, the word has been heard.
        assert_eq!(rest.get(&run).await["state"], state);
        ended.push((run, state));

        // From outside the job, without its stream ending.
        let request = open_request(spec());
        let run = format!("/api/v1/runs/{}", request.run_id);
        let (mut stream, _) = peer.open(&request).await.expect("opened");
        stream.frames(vec![frame(1, 1)]).await;
        stream.acknowledged(1).await;
        let close = CloseRunRequest { run_id: request.run_id.clone(), outcome: outcome.into() };
        peer.telemetry.close_run(close).await.expect("closed");
        assert_eq!(rest.get(&run).await["state"], state);
        ended.push((run, state));
    }
    // An end is not taken for silence: while another run crashes, these stay what they are.
    let silent = open_request(spec());
    let (mut stream, _) = peer.open(&silent).await.expect("opened");
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await;
    drop(stream);
    let path = format!("/api/v1/runs/{}", silent.run_id);
    rest.until(&path, "a crash", |run| run["state"] == "crashed").await;
    for (run, state) in &ended {
        assert_eq!(rest.get(run).await["state"], *state);
    }
    let overview = rest.get("/api/v1/overview").await;
    for (_, state) in outcomes {
        assert_eq!(overview["by_state"][state], 2, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preempted_run_comes_back_as_a_new_attempt() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let mut peer = Peer::connect(&server.url()).await;
    let request = open_request(spec());
    let run = format!("/api/v1/runs/{}", request.run_id);
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames((1..=5).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(5).await;
    let close = CloseRunRequest { run_id: request.run_id.clone(), outcome: Outcome::Preempted.into() };
    peer.telemetry.close_run(close).await.expect("closed");

    let mut again = open_request(spec());
    again.run_id.clone_from(&request.run_id);
    let resumes = gradwatch_proto::v1::Resumes {
        attempt_id: request.attempt.as_ref().expect("an attempt").attempt_id.clone(),
        step: 5,
    };
    again.attempt.as_mut().expect("an attempt").resumes = Some(resumes);
    let (mut stream, opened) = peer.open(&again).await.expect("a preempted run may come back");
    assert_eq!((opened.segment, opened.committed_seq), (2, 0));
    stream.frames((1..=5).map(|seq| frame(seq, seq + 5)).collect()).await;
    stream.acknowledged(5).await;
    assert_eq!(rest.get(&run).await["state"], "running");
    let steps = rest.all(&format!("{run}/steps?limit=100")).await;
    let places: Vec<(u64, u64)> =
        steps.iter().filter_map(|step| Some((step["segment"].as_u64()?, step["step"].as_u64()?))).collect();
    let want = (1..=10).map(|step| (if step <= 5 { 1 } else { 2 }, step));
    assert_eq!(places, want.collect::<Vec<_>>());
}
