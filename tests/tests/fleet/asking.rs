//! How computations are asked for: what is refused, and one that takes long.

use std::sync::Arc;

use gradwatch_server::{Drained, config::Config, serve_on};
use gradwatch_store::Store;
use gradwatch_tests::{FaultyStore, Rest, SseEvent, TestServer, any_port};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::made::{Made, at, members, predicted, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_request_is_refused_with_its_member() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let labels = [("width_family", "mlp"), ("data_seed", "1"), ("init_seed", "1")];
    let mut run = Made::open(&server.url(), "run", &labels).await;
    run.send([predicted(whole(at(100), 50, 2.0), "held", &[1.0], &[])]).await;

    let dimension = json!({"project": "tests", "family": "mlp", "align": "step"});
    let split = json!({"project": "tests", "probe": "held"});
    for (what, base, member, value, field, part) in [
        ("dimension", &dimension, "project", Value::Null, "project", "missing"),
        ("dimension", &dimension, "project", json!("other"), "family", "no run of project \"other\""),
        ("dimension", &dimension, "project", json!("a\0"), "project", "NUL"),
        ("dimension", &dimension, "family", Value::Null, "family", "missing"),
        ("dimension", &dimension, "family", json!(5), "family", "text"),
        ("dimension", &dimension, "family", json!(""), "family", "empty"),
        ("dimension", &dimension, "family", json!("cnn"), "family", "width_family = \"cnn\""),
        ("dimension", &dimension, "layer", json!("head"), "layer", "\"head\""),
        ("dimension", &dimension, "layer", json!(["head"]), "layer", "text"),
        ("dimension", &dimension, "align", Value::Null, "align", "missing"),
        ("dimension", &dimension, "align", json!("event"), "align", "\"step\""),
        ("dimension", &dimension, "align", json!({"step": 1}), "align", "\"step\""),
        ("dimension", &dimension, "align", json!({"event": "a", "condition": "b"}), "align", "\"step\""),
        ("dimension", &dimension, "align", json!({"event": 7}), "align.event", "text"),
        ("dimension", &dimension, "align", json!({"condition": "loss < 1"}), "align.condition", "character 1"),
        ("dimension", &dimension, "align", json!({"condition": "scalar.loss = 1"}), "align.condition", "character 16"),
        ("dimension", &dimension, "align", json!({"condition": "scalar.loss < x"}), "align.condition", "character 15"),
        ("dimension", &dimension, "window", json!(0), "window", "at least 1"),
        ("dimension", &dimension, "window", json!(-5), "window", "at least 1"),
        ("dimension", &dimension, "window", json!(1_u64 << 53), "window", "steps"),
        ("dimension", &dimension, "from", json!(0.5), "from", "whole number"),
        ("dimension", &dimension, "to", json!(1_u64 << 53), "to", "2^53"),
        ("dimension", &dimension, "familiy", json!("mlp"), "familiy", "did you mean family"),
        ("error_split", &split, "project", Value::Null, "project", "missing"),
        ("error_split", &split, "probe", Value::Null, "probe", "missing"),
        ("error_split", &split, "labels", json!(["a"]), "labels", "object"),
        ("error_split", &split, "labels", json!({"a": 1}), "labels.a", "text"),
        ("error_split", &split, "labels", json!({"": "x"}), "labels", "empty"),
        ("error_split", &split, "labels", json!({"a": "b"}), "labels", "no run"),
        ("error_split", &split, "step", json!("first"), "step", "last"),
        ("error_split", &split, "step", json!(-1), "step", "last"),
        ("error_split", &split, "stop", json!(1), "stop", "did you mean step"),
    ] {
        let mut request = base.clone();
        request[member] = value;
        let problem = rest.problem(Method::POST, &format!("/api/v1/fleet/{what}"), &request.to_string()).await;
        assert_eq!((&problem["status"], &problem["field"]), (&json!(400), &json!(field)), "{request}: {problem}");
        assert!(problem["detail"].as_str().expect("a text").contains(part), "{request}: {problem}");
    }
    let both = json!({"project": "tests", "family": "mlp", "align": "step", "from": 5, "to": 4});
    for (method, path, body, status, field) in [
        (Method::POST, "/api/v1/fleet/dimension".to_owned(), both.to_string(), 400, "to"),
        (Method::POST, "/api/v1/fleet/dimension".to_owned(), "[]".to_owned(), 400, "body"),
        (Method::POST, "/api/v1/fleet/dimension".to_owned(), "{".to_owned(), 400, "body"),
        (Method::POST, "/api/v1/fleet/dimension?project=tests".to_owned(), dimension.to_string(), 400, "project"),
        (Method::POST, "/api/v1/fleet/error_split".to_owned(), " ".repeat(300_000), 413, "body"),
        (Method::GET, "/api/v1/fleet/dimensions".to_owned(), String::new(), 400, "computation_id"),
        (Method::GET, format!("/api/v1/fleet/{}", Uuid::new_v4()), String::new(), 404, "computation_id"),
        (Method::GET, "/api/v1/fleet/families?family=mlp".to_owned(), String::new(), 400, "family"),
    ] {
        let problem = rest.problem(method, &path, &body).await;
        assert_eq!((&problem["status"], &problem["field"]), (&json!(status), &json!(field)), "{path}: {problem}");
    }
    server.shutdown().await;
}

/// A server whose computations wait for the test, with a family of two runs.
struct Held {
    server: gradwatch_server::ServerHandle,
    store: Arc<FaultyStore>,
    rest: Rest,
    _runs: Vec<Made>,
    _data_dir: TempDir,
}

/// Reads of the store that a run takes: ln s, N and whether it was capped.
const READS: usize = 3;

async fn held() -> Held {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(any_port(), data_dir.path()).expect("the defaults are valid");
    let inner = gradwatch_store::open(None, data_dir.path()).await.expect("opened");
    let store = Arc::new(FaultyStore::new(inner));
    let server = serve_on(config, Arc::clone(&store) as Arc<dyn Store>).await.expect("the server starts");
    let url = format!("http://{}", server.address());
    let rest = Rest::new(&url);
    let mut runs = Vec::new();
    for sites in [100, 200] {
        let mut run = Made::open(&url, "run", &[("width_family", "mlp")]).await;
        run.send([whole(at(100), sites, 3.0)]).await;
        run.finish(&rest).await;
        runs.push(run);
    }
    store.hold_series();
    Held { server, store, rest, _runs: runs, _data_dir: data_dir }
}

/// Asks for something that does not come within a second.
async fn begin(rest: &Rest) -> (String, Value) {
    let request = json!({"project": "tests", "family": "mlp", "align": "step"}).to_string();
    let (head, body) = rest.exchange(Method::POST, "/api/v1/fleet/dimension", &request).await;
    assert_eq!(head.status, 202, "{body}");
    let location = head.headers["location"].to_str().expect("text").to_owned();
    (location, serde_json::from_str(&body).expect("JSON"))
}

fn progress(event: Option<SseEvent>) -> Value {
    let event = event.expect("an event");
    assert_eq!(event.event, "progress");
    event.data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_computation_tells_its_progress() {
    let Held { server, store, rest, .. } = &held().await;
    let (location, begun) = begin(rest).await;
    assert_eq!(
        (&begun["state"], &begun["result"], &begun["computed_at"]),
        (&json!("running"), &Value::Null, &Value::Null)
    );
    assert_eq!(begun["progress"], json!({"done": 0, "total": 2}));
    // The same request again: the same computation.
    assert_eq!(begin(rest).await.1["id"], begun["id"]);

    let mut events = rest.events(&location, None).await;
    assert_eq!(progress(events.next().await), json!({"done": 0, "total": 2}));
    store.let_series_through(READS);
    assert_eq!(progress(events.next().await), json!({"done": 1, "total": 2}));
    assert_eq!(rest.get(&location).await["progress"]["done"], 1);
    store.let_series_through(READS);
    let end = loop {
        let event = events.next().await.expect("an event");
        if event.event != "progress" {
            break event;
        }
    };
    assert_eq!(end.event, "done");
    assert_eq!(end.data["progress"], json!({"done": 3, "total": 3}));
    assert_eq!(members(&end.data["result"]["points"], "reason"), ["too_few_widths"]);
    assert_eq!(events.next().await, None);
    assert_eq!(rest.get(&location).await, end.data);
    // Who comes late is told the end.
    let mut late = rest.events(&location, None).await;
    assert_eq!(late.next().await.map(|event| event.data), Some(end.data));
    assert_eq!(late.next().await, None);
    server.start_shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_for_no_computation() {
    let Held { server, rest, .. } = held().await;
    let (location, _) = begin(&rest).await;
    let mut events = rest.events(&location, None).await;
    progress(events.next().await);
    server.start_shutdown();
    let last = loop {
        let event = events.next().await.expect("a last event");
        if event.event != "progress" {
            break event;
        }
    };
    // Whichever comes first.
    assert!(last.event == "drain" || last.event == "failed" && last.data["error"]["code"] == "unavailable", "{last:?}");
    assert_eq!(events.next().await, None);
    drop(events);
    assert_eq!(server.shutdown().await, Drained::Completely);
}
