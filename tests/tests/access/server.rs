//! A server that asks for tokens, and callers with one.

use gradwatch_proto::v1::{OpenRunRequest, telemetry_client::TelemetryClient};
use gradwatch_server::{access::Secret, config::Config};
use gradwatch_tests::{Rest, TestServer, open_request, spec};
use http::Method;
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The first token, for everything.
pub(crate) const BOOTSTRAP: &str = "gw_bootstrap_token_of_the_access_tests_0123456789";

/// A server that asks everybody for a token.
pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::start_with(|config| {
        config.access.require_tokens = true;
        config.bootstrap_token = Some(Secret::chosen(BOOTSTRAP.to_owned()).expect("long enough"));
        change(config);
    })
    .await
}

/// REST with the first token.
pub(crate) fn admin(server: &TestServer) -> Rest {
    server.rest().with_token(BOOTSTRAP)
}

/// Makes a token; answers what the server says of it.
pub(crate) async fn create(rest: &Rest, project: Option<&str>, scopes: &[&str]) -> Value {
    let body = json!({ "name": "a test", "project": project, "scopes": scopes });
    let (status, answer) = rest.call(Method::POST, "/api/v1/tokens", &body.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// Makes a token; answers its text.
pub(crate) async fn token(rest: &Rest, project: Option<&str>, scopes: &[&str]) -> String {
    create(rest, project, scopes).await["token"].as_str().expect("a token").to_owned()
}

/// Sends a token with every call.
#[derive(Clone)]
pub(crate) struct Bearer(pub(crate) Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = format!("Bearer {token}").parse().expect("a header");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub(crate) type Telemetry = TelemetryClient<InterceptedService<Channel, Bearer>>;

/// gRPC with a token.
pub(crate) async fn telemetry(server: &TestServer, token: Option<&str>) -> Telemetry {
    let channel = Endpoint::from_shared(server.url()).expect("a URL").connect().await.expect("the server listens");
    TelemetryClient::with_interceptor(channel, Bearer(token.map(str::to_owned)))
}

/// A new run of a project.
pub(crate) fn run_of(project: &str) -> OpenRunRequest {
    OpenRunRequest { project: project.to_owned(), ..open_request(spec()) }
}
