//! A token of one project sees, sends and changes nothing of another.

use gradwatch_proto::v1::{
    self, ClientMessage, CloseRunRequest, OpenRunRequest, Outcome, ServerMessage, client_message, server_message,
};
use gradwatch_tests::{PATIENCE, assert_status, frame, next_attempt};
use http::Method;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::server::{BOOTSTRAP, Telemetry, admin, create, run_of, start, telemetry, token};

pub(crate) struct Stream {
    pub(crate) sender: mpsc::Sender<ClientMessage>,
    inbound: Streaming<ServerMessage>,
}

impl Stream {
    /// A stream with its `Open` sent.
    pub(crate) async fn open(peer: &mut Telemetry, run: &OpenRunRequest) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let open = v1::Open {
            run_id: run.run_id.clone(),
            attempt_id: run.attempt.as_ref().expect("an attempt").attempt_id.clone(),
            shard: 0,
            writer_id: run.writer_id.clone(),
        };
        let message = ClientMessage { message: Some(client_message::Message::Open(open)) };
        sender.send(message).await.expect("there is room");
        let inbound = peer.stream_frames(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { sender, inbound })
    }

    pub(crate) async fn frames(&self, frames: Vec<v1::Frame>) {
        let message = client_message::Message::Frames(v1::FrameBatch { frames });
        // A stream that was refused says so when it is read.
        let _ = self.sender.send(ClientMessage { message: Some(message) }).await;
    }

    pub(crate) async fn next(&mut self) -> Result<Option<server_message::Message>, Status> {
        let message = timeout(PATIENCE, self.inbound.message()).await.expect("a message, or the end")?;
        Ok(message.and_then(|message| message.message))
    }

    /// Waits until everything up to `seq` is acknowledged.
    pub(crate) async fn acknowledged(&mut self, seq: u64) -> Result<(), Status> {
        loop {
            match self.next().await? {
                Some(server_message::Message::Ack(ack)) if ack.committed_seq >= seq => return Ok(()),
                Some(_) => {}
                None => panic!("the stream ended before frame {seq} was acknowledged"),
            }
        }
    }
}

/// Opens a run and sends some frames.
async fn send(peer: &mut Telemetry, run: &OpenRunRequest, frames: std::ops::RangeInclusive<u64>) -> Stream {
    peer.open_run(run.clone()).await.expect("opened");
    let mut stream = Stream::open(peer, run).await.expect("opened");
    let last = *frames.end();
    stream.frames(frames.map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(last).await.expect("settled");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_run_is_like_an_unknown_one_over_grpc() {
    let server = start(|_| {}).await;
    let mut alpha = telemetry(&server, Some(&token(&admin(&server), Some("alpha"), &["ingest"]).await)).await;
    let mut beta = telemetry(&server, Some(&token(&admin(&server), Some("beta"), &["ingest"]).await)).await;
    let run = run_of("alpha");
    let _stream = send(&mut alpha, &run, 1..=3).await;

    // Naming another project.
    let refused = beta.open_run(run_of("alpha")).await.unwrap_err();
    assert_status(&refused, Code::PermissionDenied, "project", "beta");
    // Its own project, but a run of another: nothing is told about it, whatever its state.
    let mut taken = next_attempt(&run, None);
    taken.project = "beta".into();
    let refused = beta.open_run(taken.clone()).await.unwrap_err();
    assert_status(&refused, Code::NotFound, "run_id", "unknown");
    assert!(!refused.message().contains("alpha"), "{refused:?}");
    let unknown = run_of("beta");
    for (run, opened) in [(&run, true), (&unknown, false)] {
        let close = CloseRunRequest { run_id: run.run_id.clone(), outcome: Outcome::Failed.into() };
        let refused = beta.close_run(close).await.unwrap_err();
        assert_status(&refused, Code::NotFound, "run_id", &format!("run {} is unknown", run.run_id));
        let refused = match Stream::open(&mut beta, run).await {
            Ok(mut stream) => stream.next().await.unwrap_err(),
            Err(status) => status,
        };
        assert_status(&refused, Code::NotFound, "run_id", &format!("run {} is unknown", run.run_id));
        let found = admin(&server).call(Method::GET, &format!("/api/v1/runs/{}", run.run_id), "").await;
        assert_eq!(found.0 == 200, opened, "{}", found.1);
    }
    // While it is being deleted as well.
    let path = format!("/api/v1/runs/{}", run.run_id);
    assert_eq!(admin(&server).call(Method::DELETE, &path, "").await.0, 202);
    assert_status(&beta.open_run(taken).await.unwrap_err(), Code::NotFound, "run_id", "unknown");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_project_sends_reads_and_changes_there() {
    let server = start(|_| {}).await;
    let text = token(&admin(&server), Some("alpha"), &["admin"]).await;
    let (mut peer, rest) = (telemetry(&server, Some(&text)).await, server.rest().with_token(&text));
    let run = run_of("alpha");
    let _stream = send(&mut peer, &run, 1..=5).await;
    let path = format!("/api/v1/runs/{}", run.run_id);
    assert_eq!(rest.get(&path).await["last_step"], 5);
    assert_eq!(rest.all("/api/v1/runs?project=alpha").await.len(), 1);
    let (status, body) = rest.call(Method::PATCH, &path, r#"{"labels": {"a": "b"}}"#).await;
    assert_eq!(status, 200, "{body}");
    let close = CloseRunRequest { run_id: run.run_id.clone(), outcome: Outcome::Finished.into() };
    peer.close_run(close).await.expect("closed");
    assert_eq!(rest.call(Method::DELETE, &path, "").await.0, 202);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_streams_show_one_project_only() {
    let server = start(|_| {}).await;
    let beta = server.rest().with_token(&token(&admin(&server), Some("beta"), &["read"]).await);
    let mut peer = telemetry(&server, Some(BOOTSTRAP)).await;
    let (foreign, own) = (run_of("alpha"), run_of("beta"));
    let mut listening = beta.events("/api/v1/stream?segment=all", None).await;
    let of_foreign_run = format!("/api/v1/stream?run={}&run={}", foreign.run_id, own.run_id);
    let mut listening_to_runs = beta.events(&of_foreign_run, None).await;
    // A frame that restarts the window makes an event.
    let broken = |seq| v1::Frame { phase: 1, ..frame(seq, seq) };
    for run in [&foreign, &own] {
        let mut stream = send(&mut peer, run, 1..=5).await;
        stream.frames(vec![broken(6)]).await;
        stream.acknowledged(6).await.expect("settled");
    }
    // Own messages were committed behind the foreign ones: once all of them are there, no foreign one can follow.
    for stream in [&mut listening, &mut listening_to_runs] {
        let mut events = 0;
        while events == 0 {
            let message = stream.next().await.expect("an open stream");
            assert_eq!(message.data["project"], "beta", "{message:?}");
            assert_eq!(message.data["run_id"], own.run_id.as_str());
            events += usize::from(message.event == "event");
        }
    }
    let everything = admin(&server).all("/api/v1/events?limit=100&segment=all").await;
    let projects = |events: &[Value], project: &str| events.iter().filter(|it| it["project"] == project).count();
    assert!(projects(&everything, "alpha") > 0 && projects(&everything, "beta") > 0, "{everything:?}");
    for path in ["/api/v1/runs?limit=100", "/api/v1/events?limit=100&segment=all", "/api/v1/events?limit=1"] {
        let items = beta.all(path).await;
        assert!(!items.is_empty(), "{path}");
        assert!(items.iter().all(|item| item["project"] == "beta"), "{path}: {items:?}");
    }
    let overview = beta.get("/api/v1/overview").await;
    assert_eq!(overview["by_state"]["running"], 1, "{overview}");
    let series = format!("/api/v1/series?metric=scalar.loss&run={}", own.run_id);
    beta.get(&series).await;
    let (status, problem) = beta.refused(&format!("{series},{}", foreign.run_id)).await;
    let (unknown, unknown_problem) = beta.refused(&format!("{series},{}", Uuid::nil())).await;
    assert_eq!((status, problem["field"].as_str()), (404, Some("run")));
    let same = |problem: &Value, id: &str| problem.to_string().replace(id, "ID");
    assert_eq!((status, same(&problem, &foreign.run_id)), (unknown, same(&unknown_problem, &Uuid::nil().to_string())));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_one_project_gives_away_no_more_than_that() {
    let server = start(|_| {}).await;
    let other = create(&admin(&server), Some("beta"), &["read"]).await;
    let rest = server.rest().with_token(&token(&admin(&server), Some("alpha"), &["admin"]).await);
    for project in [Value::Null, "beta".into()] {
        let body = json!({ "name": "more", "project": project, "scopes": ["read"] }).to_string();
        let problem = rest.problem(Method::POST, "/api/v1/tokens", &body).await;
        assert_eq!((problem["status"].as_u64(), problem["field"].as_str()), (Some(403), Some("project")), "{problem}");
    }
    let made = create(&rest, Some("alpha"), &["admin"]).await;
    let listed = rest.get("/api/v1/tokens").await;
    let listed = listed["items"].as_array().unwrap();
    assert!(listed.iter().any(|token| token["token_id"] == made["token_id"]), "{listed:?}");
    assert!(listed.iter().all(|token| token["project"] == "alpha" && token["token"].is_null()), "{listed:?}");
    let path = |token: &Value| format!("/api/v1/tokens/{}", token["token_id"].as_str().unwrap());
    assert_eq!(rest.problem(Method::DELETE, &path(&other), "").await["status"], 404);
    assert_eq!(rest.call(Method::DELETE, &path(&made), "").await.0, 200);
    server.shutdown().await;
}
