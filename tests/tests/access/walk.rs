//! The walk: what is there comes from the contracts themselves, so that a new path or RPC is covered by being there.

use std::collections::BTreeSet;

use bytes::Bytes;
use gradwatch_proto::v1::FILE_DESCRIPTOR_SET;
use gradwatch_tests::{Rest, TestServer};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use crate::server::{BOOTSTRAP, admin, create, run_of, start, telemetry, token};

/// Documented paths that nobody is asked a token for.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];
/// Paths that change nothing although they are no GET: what they ask is in the body.
const READ_BY_POST: [&str; 4] = ["/api/v1/fleet/dimension", "/api/v1/fleet/error_split", CHECK, BACKTEST];
/// Says what is wrong with whatever it is sent.
const CHECK: &str = "/api/v1/alerts/rules/check";
/// Tests the rules in force that the caller may see, unless it is sent others.
const BACKTEST: &str = "/api/v1/alerts/backtest";
/// How paths begin that a token of one project never opens.
const ALL_PROJECTS: [&str; 5] = [
    "/metrics",
    "/api/v1/alerts/receivers",
    "/api/v1/alerts/messages",
    "/api/v1/alerts/deliveries",
    "/api/v1/alerts/rules/reload",
];
/// What is in no server of the walk.
const NOBODY: &str = "nobody";
const NO_ID: &str = "00000000-0000-4000-8000-000000000000";

/// One documented call, ready to be sent: about project `alpha`.
struct Call {
    method: Method,
    /// As documented.
    path: String,
    /// Filled in, with the parameters that it needs.
    target: String,
    /// Names a run, a token or a computation of `alpha`.
    names_something: bool,
    takes_project: bool,
}

impl Call {
    fn needs_admin(&self) -> bool {
        let asks_more = self.method != Method::GET && !READ_BY_POST.contains(&self.path.as_str())
            || self.path.starts_with("/api/v1/tokens");
        asks_more && !self.needs_ingest()
    }

    /// What computes on a run asks for what makes a run.
    fn needs_ingest(&self) -> bool {
        self.method != Method::GET && (self.path.ends_with("/reanalyze") || self.path.contains("/analyses"))
    }

    fn is_of_all_projects(&self) -> bool {
        ALL_PROJECTS.iter().any(|start| self.path.starts_with(start))
    }

    /// Names what is not there.
    fn names_nothing(&self) -> bool {
        self.target.contains(NOBODY) || self.target.contains(NO_ID)
    }

    fn with(&self, parameter: &str) -> String {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        format!("{}{separator}{parameter}", self.target)
    }
}

/// Everything that the server documents.
async fn calls(rest: &Rest, alpha: &Alpha) -> Vec<Call> {
    let Alpha { run_id, token_id, computation_id, silence_id } = alpha;
    let document = rest.get("/openapi.json").await;
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, call) in item.as_object().expect("methods") {
            let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
            let mut target = path
                .replace("{run_id}", run_id)
                .replace("{token_id}", token_id)
                .replace("{computation_id}", computation_id)
                .replace("{silence_id}", silence_id)
                .replace("/rules/{name}", "/rules/walked")
                .replace("{name}", NOBODY)
                .replace("{alert_id}", NO_ID)
                .replace("{message_id}", NO_ID)
                .replace("{instrument}", "edge");
            let mut names_something = target != *path;
            assert!(!target.contains('{'), "the walk does not know what to fill in: {path}");
            let query = |parameter: &&Value| parameter["in"] == "query";
            for parameter in parameters.iter().filter(query).filter(|parameter| parameter["required"] == true) {
                let (name, value) = match parameter["name"].as_str().expect("a name") {
                    "run" => ("run", run_id.as_str()),
                    "metric" => ("metric", "edge.ratio"),
                    other => panic!("the walk does not know what to ask {path} for {other}"),
                };
                names_something |= name == "run";
                target += &format!("{}{name}={value}", if target.contains('?') { '&' } else { '?' });
            }
            calls.push(Call {
                method: method.to_uppercase().parse().expect("a method"),
                path: path.clone(),
                target,
                names_something,
                takes_project: parameters.iter().filter(query).any(|parameter| parameter["name"] == "project"),
            });
        }
    }
    assert!(calls.len() > 15);
    calls
}

async fn refused(rest: &Rest, method: &Method, target: &str, who: &str) -> u16 {
    let problem = rest.problem(method.clone(), target, "{}").await;
    problem["status"].as_u64().unwrap_or_else(|| panic!("{who}: {method} {target}: {problem}")) as u16
}

/// What there is of project `alpha`.
struct Alpha {
    run_id: String,
    token_id: String,
    computation_id: String,
    silence_id: String,
}

/// A server with a run, a token, a computation, a rule and a silence of project `alpha`.
async fn with_alpha() -> (TestServer, Alpha) {
    let server = start(|_| {}).await;
    let mut peer = telemetry(&server, Some(BOOTSTRAP)).await;
    let mut run = run_of("alpha");
    run.labels = [("width_family".to_owned(), "f".to_owned())].into();
    peer.open_run(run.clone()).await.expect("opened");
    let token_id = create(&admin(&server), Some("alpha"), &["read"]).await["token_id"].as_str().unwrap().to_owned();
    let request = r#"{"project": "alpha", "family": "f", "align": "step"}"#;
    let (_, computation) = admin(&server).call(Method::POST, "/api/v1/fleet/dimension", request).await;
    let computation: Value = serde_json::from_str(&computation).expect("JSON");
    let computation_id = computation["id"].as_str().expect("an id").to_owned();
    let rule = r#"{"name": "walked", "select": {"project": "alpha"}, "when": "run.crashed"}"#;
    let (status, answer) = admin(&server).call(Method::POST, "/api/v1/alerts/rules", rule).await;
    assert_eq!(status, 201, "{answer}");
    let silence = r#"{"project": "alpha", "matchers": [{"name": "rule", "value": "*"}], "duration_s": 3600}"#;
    let (_, silence) = admin(&server).call(Method::POST, "/api/v1/alerts/silences", silence).await;
    let silence: Value = serde_json::from_str(&silence).expect("JSON");
    let silence_id = silence["silence_id"].as_str().expect("an id").to_owned();
    (server, Alpha { run_id: run.run_id, token_id, computation_id, silence_id })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_asks_for_a_token_that_is_good_for_it() {
    let (server, alpha) = with_alpha().await;
    let Alpha { run_id, token_id, computation_id, silence_id } = &alpha;
    let rest = server.rest();
    let of = async |project, scopes| rest.with_token(&token(&admin(&server), project, scopes).await);
    let nobody = [("no token", rest.clone()), ("a wrong token", rest.with_token("gw_wrong"))];
    let ingest = of(Some("alpha"), &["ingest"]).await;
    let (read, read_all) = (of(Some("alpha"), &["read"]).await, of(None, &["read"]).await);
    let foreign = [of(Some("beta"), &["read"]).await, of(Some("beta"), &["admin"]).await];
    for call in calls(&rest, &alpha).await {
        let Call { method, target, path, .. } = &call;
        if OPEN.contains(&path.as_str()) {
            rest.get(path).await;
            continue;
        }
        for (who, rest) in &nobody {
            assert_eq!(refused(rest, method, target, who).await, 401, "{who}: {method} {target}");
            let (head, _) = rest.exchange(method.clone(), target, "{}").await;
            let challenge = head.headers.get("www-authenticate").and_then(|value| value.to_str().ok());
            assert!(challenge.is_some_and(|challenge| challenge.starts_with("Bearer")), "{method} {target}");
        }
        // Let through, and told what is wrong with what it asks for.
        let expected = match method {
            _ if !call.needs_ingest() => 403,
            &Method::POST => 400,
            _ => 404,
        };
        assert_eq!(refused(&ingest, method, target, "ingest only").await, expected, "{method} {target}");
        if call.needs_ingest() || call.needs_admin() {
            for reader in [&read, &read_all] {
                assert_eq!(refused(reader, method, target, "read only").await, 403, "{method} {target}");
            }
        } else if call.is_of_all_projects() {
            assert_eq!(refused(&read, method, target, "of one project").await, 403, "{target}");
            let expected = if call.names_nothing() { 404 } else { 200 };
            assert_eq!(read_all.call(Method::GET, target, "").await.0, expected, "{target}");
        } else if *path == "/api/v1/stream" {
            read.events(target, None).await;
        } else if call.names_nothing() {
            assert_eq!(refused(&read, method, target, "read").await, 404, "{target}");
        } else if *method == Method::GET {
            read.get(target).await;
        } else if path == CHECK || path == BACKTEST {
            assert_eq!(read.call(Method::POST, target, "{}").await.0, 200, "{target}");
        } else {
            // Let through, and told that an empty body says too little.
            assert_eq!(refused(&read, method, target, "read").await, 400, "{method} {target}");
        }
        for rest in &foreign {
            let who = "of another project";
            if (call.needs_admin() || call.needs_ingest()) && std::ptr::eq(rest, &foreign[0])
                || call.is_of_all_projects()
            {
                assert_eq!(refused(rest, method, target, who).await, 403, "{method} {target}");
            } else if call.names_something {
                assert_eq!(refused(rest, method, target, who).await, 404, "{method} {target}");
            } else if call.takes_project {
                assert_eq!(refused(rest, method, &call.with("project=alpha"), who).await, 403, "{method} {target}");
            }
            let endless = *path == "/api/v1/stream";
            if !endless {
                let (_, body) = rest.exchange(method.clone(), target, "{}").await;
                // What the caller itself named may be said back.
                let said = body.replace(target.as_str(), "");
                let ids = [run_id, token_id, computation_id, silence_id].map(String::as_str);
                let unnamed = |said: String| ids.iter().fold(said, |said, id| said.replace(id, ""));
                let said = if call.names_something { unnamed(said) } else { said };
                for secret in std::iter::once("alpha").chain(ids) {
                    assert!(!said.contains(secret), "{who}: {method} {target} tells {secret}: {body}");
                }
            }
        }
    }
    // All of that changed nothing.
    assert_eq!(admin(&server).get(&format!("/api/v1/runs/{run_id}")).await["project"], "alpha");
    let tokens = admin(&server).get("/api/v1/tokens").await;
    assert!(tokens["items"].as_array().unwrap().iter().all(|token| token["revoked_at"].is_null()), "{tokens}");
    assert_eq!(admin(&server).get("/api/v1/alerts/rules/walked").await["definition"]["when"], "run.crashed");
    let silence = admin(&server).get(&format!("/api/v1/alerts/silences/{silence_id}")).await;
    assert_eq!(silence["state"], "active");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_documented_is_not_there() {
    let (server, _) = with_alpha().await;
    for rest in [server.rest(), admin(&server)] {
        for path in ["/", "/api/v1", "/api/v1/secrets", "/api/v1/runs/", "/metrics/x", "//metrics", "/%6Detrics"] {
            assert_eq!(refused(&rest, &Method::GET, path, "anybody").await, 404, "{path}");
        }
        let (head, _) = rest.exchange(Method::PUT, "/api/v1/runs", "").await;
        assert_eq!((head.status.as_u16(), &head.headers["allow"]), (405, &"GET,HEAD".parse().unwrap()));
    }
    for open in ["/openapi.json", "/docs"] {
        assert_eq!(server.rest().call(Method::GET, open, "").await.0, 200);
    }
    server.shutdown().await;
}

/// Every RPC of the contract, by its path.
fn rpcs() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let mut paths = BTreeSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert!(paths.contains("/gradwatch.v1.Telemetry/OpenRun"), "{paths:?}");
    paths
}

/// Calls an RPC with an empty message; answers the status.
async fn call(server: &TestServer, path: &str, token: Option<&str>) -> Code {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut request = Request::post(format!("{}{path}", server.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let empty_message = Bytes::from_static(&[0; 5]);
    let response = client.request(request.body(Full::new(empty_message)).expect("a request")).await.expect("an answer");
    assert_eq!(response.status(), 200, "{path}");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let status = head.headers.get("grpc-status").or_else(|| body.trailers().and_then(|it| it.get("grpc-status")));
    Code::from_bytes(status.unwrap_or_else(|| panic!("{path} answers no status")).as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_asks_for_a_token_that_may_send() {
    let server = start(|_| {}).await;
    let (admin, rest) = (admin(&server), server.rest());
    let reader = token(&admin, None, &["read"]).await;
    let senders = [token(&admin, None, &["ingest"]).await, token(&admin, Some("alpha"), &["admin"]).await];
    for rpc in rpcs() {
        assert_eq!(call(&server, &rpc, None).await, Code::Unauthenticated, "{rpc}");
        assert_eq!(call(&server, &rpc, Some("gw_wrong")).await, Code::Unauthenticated, "{rpc}");
        assert_eq!(call(&server, &rpc, Some(&reader)).await, Code::PermissionDenied, "{rpc}");
        for sender in &senders {
            // Let through, and told that an empty message says nothing.
            assert_eq!(call(&server, &rpc, Some(sender)).await, Code::InvalidArgument, "{rpc}");
        }
    }
    assert_eq!(call(&server, "/gradwatch.v1.Telemetry/Undeclared", Some(BOOTSTRAP)).await, Code::Unimplemented);
    assert_eq!(call(&server, "/gradwatch.v1.Other/Call", Some(BOOTSTRAP)).await, Code::Unimplemented);
    assert_eq!(call(&server, "/grpc.health.v1.Health/Check", None).await, Code::Ok);
    // A token in a query is none.
    assert_eq!(refused(&rest, &Method::GET, &format!("/api/v1/runs?token={BOOTSTRAP}"), "a query").await, 401);
    server.shutdown().await;
}

/// `projects.rs` tries each of these with a token of another project; a new RPC has to be tried there as well.
#[test]
fn every_rpc_is_tried_with_a_foreign_token() {
    let tried = ["OpenRun", "StreamFrames", "CloseRun"].map(|name| format!("/gradwatch.v1.Telemetry/{name}"));
    assert_eq!(rpcs(), BTreeSet::from(tried));
}
