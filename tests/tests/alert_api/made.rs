//! What the tests send, and to whom.

use gradwatch_proto::v1::{self, client_message, telemetry_client::TelemetryClient};
use gradwatch_server::{access::Secret, config::Config};
use gradwatch_tests::{Backend, Peer, PeerStream, Place, Rest, TestServer, frame, open_request, spec};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

pub(crate) const RULES: &str = "/api/v1/alerts/rules";
pub(crate) const RECEIVERS: &str = "/api/v1/alerts/receivers";
pub(crate) const SILENCES: &str = "/api/v1/alerts/silences";

/// The first token, for everything.
pub(crate) const BOOTSTRAP: &str = "gw_bootstrap_token_of_the_alert_tests_0123456789";
/// A secret that signs.
pub(crate) const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The one after it.
pub(crate) const SECOND: &str = "whsec_c2Vjb25kIHNlY3JldCBvZiB0aGUgdGVzdHMhISEh";

/// A server that asks everybody for a token.
pub(crate) async fn start_with_tokens(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::start_with(|config| {
        config.access.require_tokens = true;
        config.bootstrap_token = Some(Secret::chosen(BOOTSTRAP.to_owned()).expect("long enough"));
        change(config);
    })
    .await
}

/// Makes a token; answers REST with it.
pub(crate) async fn with_token(server: &TestServer, project: Option<&str>, scope: &str) -> Rest {
    let body = json!({ "name": format!("{scope} {project:?}"), "project": project, "scopes": [scope] });
    let made = ok(&server.rest().with_token(BOOTSTRAP), Method::POST, "/api/v1/tokens", &body).await;
    server.rest().with_token(made["token"].as_str().expect("a token"))
}

/// A call that has to succeed; answers the JSON.
pub(crate) async fn ok(rest: &Rest, method: Method, path: &str, body: &Value) -> Value {
    let (status, answer) = rest.call(method.clone(), path, &body.to_string()).await;
    assert!(status.is_success(), "{method} {path} {body}: {status} {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// A call that has to be refused with a status and the field at fault; answers the problem.
pub(crate) async fn refused(
    rest: &Rest,
    (method, path): (Method, &str),
    body: &Value,
    status: u16,
    field: Option<&str>,
) -> Value {
    let problem = rest.problem(method, path, &body.to_string()).await;
    assert_eq!(problem["status"], status, "{path} {body}: {problem}");
    assert_eq!(problem["field"].as_str(), field, "{path} {body}: {problem}");
    problem
}

/// A rule that fires at every step.
pub(crate) fn rule(name: &str, project: Option<&str>) -> Value {
    let mut rule = json!({ "name": name, "when": "scalar.loss > 0", "severity": "critical" });
    if let Some(project) = project {
        rule["select"] = json!({ "project": project });
    }
    rule
}

/// A receiver that nobody is.
pub(crate) fn webhook(name: &str) -> Value {
    json!({ "name": name, "webhook": { "url": "http://127.0.0.1:9/hook", "secrets": [SIGNING] } })
}

/// A run of a project with so many steps, still open.
pub(crate) async fn run_of(server: &TestServer, project: &str, steps: u64) -> (PeerStream, String) {
    let mut peer = Peer::connect(&server.url()).await;
    let mut request = open_request(spec());
    request.project = project.to_owned();
    let (mut stream, _) = peer.open(&request).await.expect("opened");
    stream.frames((1..=steps).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(steps).await;
    (stream, request.run_id)
}

/// A server with a file of rules that it looks at only when it is told to, and its directory.
pub(crate) async fn start_with_file(backend: Backend, text: &str) -> (TestServer, TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rules.yaml");
    std::fs::write(&file, text).expect("written");
    let server = TestServer::start_in(Place::new(backend), |config| {
        config.alerts.rules_file = Some(file);
        config.alerts.check_file_every_s = 86_400;
    })
    .await;
    (server, dir)
}

/// All rules and receivers, with all that is said of them.
pub(crate) async fn everything(rest: &Rest) -> [Value; 2] {
    [rest.get(RULES).await, rest.get(RECEIVERS).await]
}

/// Sends a run of a project with a token; waits until it is settled.
pub(crate) async fn send_with_token(server: &TestServer, project: &str, token: &str) {
    let channel = Endpoint::from_shared(server.url()).expect("a URL").connect().await.expect("the server listens");
    let value: MetadataValue<Ascii> = format!("Bearer {token}").parse().expect("a header");
    let mut peer = TelemetryClient::with_interceptor(channel, move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    });
    let mut request = open_request(spec());
    request.project = project.to_owned();
    peer.open_run(request.clone()).await.expect("opened");
    let open = client_message::Message::Open(v1::Open {
        run_id: request.run_id.clone(),
        attempt_id: request.attempt.expect("an attempt").attempt_id,
        shard: 0,
        writer_id: request.writer_id,
    });
    let frames = client_message::Message::Frames(v1::FrameBatch { frames: vec![frame(1, 1)] });
    let messages = [open, frames].map(|message| v1::ClientMessage { message: Some(message) });
    // Ends with the frame: the server settles it all the same.
    let stream = peer.stream_frames(tokio_stream::iter(messages)).await.expect("a stream");
    let mut inbound = stream.into_inner();
    while inbound.message().await.expect("no error").is_some() {}
}
