//! Server-sent events.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream},
    http::{Request, StatusCode},
};
use futures_util::StreamExt;
use gradwatch_store::{Reading, RunPatch};
use tower::ServiceExt;

use super::fixture::{Api, event, readings, run_id};
use crate::recorder::{Publication, PublishedRun};

/// A commit of `run` with two readings and an event; segment 1 is live up to step 10.
fn publication(commit_seq: u64, run: u64, step: u64) -> Publication {
    let wall_time_us = 1_700_000_000_000_000;
    let readings = readings(1, step..=step + 1).into_iter().map(|row| Reading { row, wall_time_us }).collect();
    Publication {
        commit_seq,
        runs: vec![PublishedRun {
            run_id: run_id(run),
            project: Arc::from("vision"),
            live_to_step: Arc::new(BTreeMap::from([(1, 10)])),
            readings,
            layer_readings: Vec::new(),
            events: vec![(100 + commit_seq, event("edge.regime", 1, Some(step), Some("all")))],
            patch: RunPatch { last_step: Some(step + 1), ..RunPatch::default() },
        }],
    }
}

/// One message: (event, id, data).
#[derive(Debug, PartialEq)]
struct Message {
    event: String,
    id: Option<String>,
    data: String,
}

struct Listener {
    body: BodyDataStream,
    text: String,
}

impl Listener {
    async fn open(api: &Api, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = Request::builder().uri(format!("/api/v1/stream{query}"));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next block of lines; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        while !self.text.contains("\n\n") {
            let chunk = tokio::time::timeout(Duration::from_secs(60), self.body.next()).await.expect("a message");
            self.text.push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
        let (block, rest) = self.text.split_once("\n\n").unwrap();
        let mut message = Message { event: String::new(), id: None, data: String::new() };
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", value)) => message.event = value.to_owned(),
                Some(("id", value)) => message.id = Some(value.to_owned()),
                Some(("data", value)) => message.data = value.to_owned(),
                _ => {}
            }
        }
        self.text = rest.to_owned();
        Some(message)
    }

    async fn take(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.push(self.next().await.expect("a message"));
        }
        messages
    }
}

fn outline(messages: &[Message]) -> Vec<(&str, Option<&str>)> {
    messages.iter().map(|message| (message.event.as_str(), message.id.as_deref())).collect()
}

#[tokio::test]
async fn a_commit_is_told_in_order_with_its_id_on_the_last_message() {
    let api = Api::empty(|_| {}).await;
    let mut listener = Listener::open(&api, "", None).await;
    // The greeting carries where the listener stands, and no data: it is no message.
    assert_eq!(outline(&listener.take(1).await), [("", Some("0"))]);
    api.state.hub.publish(publication(1, 1, 4));
    let messages = listener.take(4).await;
    assert_eq!(outline(&messages), [("reading", None), ("reading", None), ("event", None), ("run", Some("1"))]);
    let reading: serde_json::Value = serde_json::from_str(&messages[0].data).unwrap();
    assert_eq!(reading["run_id"], run_id(1).to_string());
    assert_eq!((reading["step"].as_u64(), reading["live"].as_bool()), (Some(4), Some(true)));
    let run: serde_json::Value = serde_json::from_str(&messages[3].data).unwrap();
    assert_eq!(run["last_step"], 5);
    assert!(run.get("state").is_none());
}

#[tokio::test]
async fn filters_leave_out_what_was_not_asked_for() {
    let api = Api::empty(|_| {}).await;
    let query = format!("?types=reading&run={}&project=vision", run_id(2));
    let mut some = Listener::open(&api, &query, None).await;
    let mut all = Listener::open(&api, "?types=reading,event&segment=all", None).await;
    some.take(1).await;
    all.take(1).await;
    api.state.hub.publish(publication(1, 1, 4));
    // Step 10 is live, 11 was rewound.
    api.state.hub.publish(publication(2, 2, 10));
    assert_eq!(outline(&some.take(1).await), [("reading", Some("2"))]);
    assert_eq!(
        outline(&all.take(6).await),
        [
            ("reading", None),
            ("reading", None),
            ("event", Some("1")),
            ("reading", None),
            ("reading", None),
            ("event", Some("2"))
        ]
    );
}

#[tokio::test]
async fn a_listener_resumes_behind_the_commit_it_knows() {
    let api = Api::empty(|_| {}).await;
    for commit in 1..=3 {
        api.state.hub.publish(publication(commit, 1, commit));
    }
    let mut listener = Listener::open(&api, "?types=event", Some("1")).await;
    assert_eq!(outline(&listener.take(3).await), [("", Some("1")), ("event", Some("2")), ("event", Some("3"))]);
    // The header wins: a browser that reconnects sends it along with the address it was opened with.
    let mut listener = Listener::open(&api, "?types=event&last_event_id=1", Some("2")).await;
    assert_eq!(outline(&listener.take(2).await), [("", Some("2")), ("event", Some("3"))]);
    let mut listener = Listener::open(&api, "?types=event&last_event_id=2", None).await;
    assert_eq!(outline(&listener.take(2).await), [("", Some("2")), ("event", Some("3"))]);
    // And goes on with what comes.
    api.state.hub.publish(publication(4, 1, 4));
    assert_eq!(outline(&listener.take(1).await), [("event", Some("4"))]);
}

#[tokio::test]
async fn who_missed_too_much_is_told_to_start_again() {
    let api = Api::empty(|config| config.api.replay_bytes = 1).await;
    for commit in 1..=3 {
        api.state.hub.publish(publication(commit, 1, commit));
    }
    let mut listener = Listener::open(&api, "?types=event", Some("1")).await;
    let messages = listener.take(2).await;
    assert_eq!(outline(&messages), [("", None), ("reset", Some("3"))]);
    assert_eq!(messages[1].data, r#"{"reason":"too_old","commit_seq":"3"}"#);
    // The newest is kept, however large.
    let mut behind = Listener::open(&api, "?types=event", Some("2")).await;
    assert_eq!(outline(&behind.take(2).await), [("", Some("2")), ("event", Some("3"))]);
    // A sequence that was never given out.
    let mut ahead = Listener::open(&api, "", Some("99")).await;
    assert_eq!(outline(&ahead.take(2).await), [("", None), ("reset", Some("3"))]);
    api.state.hub.publish(publication(4, 1, 4));
    assert_eq!(outline(&listener.take(1).await), [("event", Some("4"))]);
}

#[tokio::test]
async fn who_does_not_read_lags_and_is_told() {
    let api = Api::empty(|config| config.api.replay_bytes = 100_000).await;
    let mut listener = Listener::open(&api, "?types=event", None).await;
    listener.take(1).await;
    for commit in 1..=5_000 {
        api.state.hub.publish(Publication { commit_seq: commit, runs: Vec::new() });
    }
    let messages = listener.take(1).await;
    assert_eq!(outline(&messages), [("reset", Some("5000"))]);
    assert_eq!(messages[0].data, r#"{"reason":"lagged","commit_seq":"5000"}"#);
    api.state.hub.publish(publication(5_001, 1, 4));
    assert_eq!(outline(&listener.take(1).await), [("event", Some("5001"))]);
}

/// A commit of one run with this many readings, too many for one part.
fn big_publication(commit_seq: u64, count: u64) -> Publication {
    let mut big = publication(commit_seq, 1, 1);
    let one = big.runs[0].readings[0].clone();
    big.runs[0].readings = (0..count).map(|_| one.clone()).collect();
    big
}

#[tokio::test]
async fn a_big_commit_comes_whole_with_its_id_on_the_last_message() {
    // Larger than the ring, too.
    let api = Api::empty(|config| config.api.replay_bytes = 1).await;
    let mut listener = Listener::open(&api, "", None).await;
    let mut some = Listener::open(&api, "?types=reading", None).await;
    listener.take(1).await;
    some.take(1).await;
    for commit in 1..=2 {
        api.state.hub.publish(big_publication(commit, 1_000));
        let id = commit.to_string();
        let messages = listener.take(1_002).await;
        assert!(messages[..1_000].iter().all(|message| message.event == "reading" && message.id.is_none()));
        assert_eq!(outline(&messages[1_000..]), [("event", None), ("run", Some(id.as_str()))]);
        // The filter leaves out what stands last in the commit: the id is on the last message that it lets through.
        let readings = some.take(1_000).await;
        assert!(readings[..999].iter().all(|message| message.id.is_none()));
        assert_eq!(outline(&readings[999..]), [("reading", Some(id.as_str()))]);
    }
}

#[tokio::test]
async fn who_stops_reading_holds_no_commit_and_is_reset_in_the_middle_of_one() {
    let api = Api::empty(|config| config.api.replay_bytes = 1).await;
    let mut never = Listener::open(&api, "", None).await;
    let mut stops = Listener::open(&api, "", None).await;
    stops.take(1).await;
    let big = big_publication(1, 5_000);
    let weak = Arc::downgrade(&big.runs[0].live_to_step);
    api.state.hub.publish(big);
    assert_eq!(outline(&stops.take(1).await), [("reading", None)]);
    assert!(weak.upgrade().is_some());
    api.state.hub.publish(publication(2, 1, 4));
    assert!(weak.upgrade().is_none());
    // What was already written of the commit goes out, without its id, then the reset.
    let mut rest = 0;
    let reset = loop {
        let message = stops.next().await.unwrap();
        if message.event == "reset" {
            break message;
        }
        assert_eq!((message.event.as_str(), message.id), ("reading", None));
        rest += 1;
    };
    assert!(rest < 1_000, "{rest} messages were held");
    assert_eq!(reset.data, r#"{"reason":"lagged","commit_seq":"2"}"#);
    assert_eq!(outline(&never.take(2).await), [("", Some("0")), ("reset", Some("2"))]);
    api.state.hub.publish(publication(3, 1, 4));
    for listener in [&mut stops, &mut never] {
        let expected = [("reading", None), ("reading", None), ("event", None), ("run", Some("3"))];
        assert_eq!(outline(&listener.take(4).await), expected);
    }
}

#[tokio::test]
async fn a_shutdown_ends_streams() {
    let api = Api::empty(|_| {}).await;
    let mut listener = Listener::open(&api, "", None).await;
    listener.take(1).await;
    api.state.draining.cancel();
    assert_eq!(outline(&listener.take(1).await), [("drain", None)]);
    assert_eq!(listener.next().await, None);
}

#[tokio::test]
async fn streams_are_bounded_and_their_places_given_back() {
    let api = Api::empty(|config| config.api.max_streams = 1).await;
    let first = Listener::open(&api, "", None).await;
    let reply = api.get("/api/v1/stream").await;
    assert_eq!(reply.problem(), (429, "resource_exhausted".into(), None));
    assert!(reply.headers.contains_key("retry-after"));
    drop(first);
    Listener::open(&api, "", None).await.take(1).await;
    assert_eq!(api.state.metrics.live_streams_opened.get(), 2);
    assert_eq!(api.state.metrics.live_streams_closed.get(), 2);
}
