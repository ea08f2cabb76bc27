//! What the server says to wrong requests over REST, as docs/rest.md promises it: a problem document that names the
//! field at fault.

use gradwatch_tests::{Peer, Rest, TestServer, frame, open_request, spec};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

/// A server with one run of 20 steps.
async fn start() -> (TestServer, String) {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    let mut request = open_request(spec());
    request.labels = [("team".to_owned(), "optim".to_owned())].into();
    let (mut stream, _) = peer.open(&request).await.unwrap();
    stream.frames((1..=20).map(|seq| frame(seq, seq)).collect()).await;
    stream.acknowledged(20).await;
    (server, request.run_id)
}

fn assert_problem(problem: &Value, status: u16, code: &str, field: Option<&str>, part: &str) {
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{problem}");
    assert_eq!(problem["type"], format!("/docs#problem-{code}"), "{problem}");
    assert_eq!(problem.get("field"), field.map(|field| json!(field)).as_ref(), "{problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(part), "{part:?}: {problem}");
    if let Some(field) = field {
        assert!(detail.starts_with(field), "{problem}");
    }
}

async fn assert_refused(rest: &Rest, path: &str, field: &str, part: &str) {
    let problem = rest.problem(Method::GET, path, "").await;
    assert_problem(&problem, 400, "invalid_argument", Some(field), part);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_query_is_refused_with_its_parameter() {
    let (server, run_id) = start().await;
    let rest = server.rest();
    let run = format!("/api/v1/runs/{run_id}");

    // What every list takes.
    let lists = ["readings/edge?", "steps?", "events?", "series?metric=edge.ratio&"];
    for list in lists {
        let path = format!("{run}/{list}");
        for (query, field, part) in [
            ("limit=0", "limit", "0"),
            ("limit=10001", "limit", "10001"),
            ("limit=-1", "limit", "-1"),
            ("limit=many", "limit", "many"),
            ("limit=1&limit=2", "limit", "more than once"),
            ("limit=", "limit", "empty"),
            ("cursor=nonsense", "cursor", ""),
            ("cursor=%00", "cursor", ""),
            ("segment=99", "segment", "no segment 99"),
            ("segment=first", "segment", "first"),
            ("from_step=-1", "from_step", "-1"),
            ("from_step=18446744073709551616", "from_step", "18446744073709551616"),
            ("from_step=5&to_step=4", "to_step", "below from_step"),
            ("grop=all", "grop", "unknown parameter"),
            ("from_stpe=1", "from_stpe", "did you mean from_step"),
        ] {
            assert_refused(&rest, &format!("{path}{query}"), field, part).await;
        }
    }
    for list in ["readings/edge?", "series?metric=edge.ratio&"] {
        let path = format!("{run}/{list}");
        for (query, field, part) in [
            ("group=none", "group", "no group \"none\""),
            ("kind=hessian", "kind", "hessian"),
            ("kind=gradient", "kind", "does not send gradients"),
            ("window=4", "window", "no window of 4 rows"),
            ("window=x", "window", "x"),
            ("analysis=later", "analysis", "later"),
        ] {
            assert_refused(&rest, &format!("{path}{query}"), field, part).await;
        }
    }
    for (query, field, part) in [
        ("", "metric", "missing"),
        ("?metric=edge.ration", "metric", "did you mean edge.ratio"),
        ("?metric=scalar.los", "metric", "scalar.loss"),
        ("?metric=loss", "metric", "no metric \"loss\""),
        ("?metric=edge.ratio&max_points=0", "max_points", "0"),
        ("?metric=edge.ratio&max_points=10001", "max_points", "10001"),
    ] {
        assert_refused(&rest, &format!("{run}/series{query}"), field, part).await;
    }
    // Readings of streams take no layer, readings of layers no stream; and this run declares no layer.
    for instrument in ["cascade", "curvature", "dead_directions", "learning_cell"] {
        for (query, field, part) in [
            ("group=all", "group", "belong to a layer"),
            ("kind=update", "kind", "belong to a layer"),
            ("window=3", "window", "belong to a layer"),
            ("window=x", "window", "x"),
            ("analysis=later", "analysis", "later"),
            ("layer=", "layer", "empty"),
            ("layer=%00", "layer", "NUL"),
            ("layer=a&layer=b", "layer", "more than once"),
            ("layer=a", "layer", "no layer is declared"),
            ("layr=a", "layr", "did you mean layer"),
            ("limit=0", "limit", "0"),
            ("cursor=nonsense", "cursor", ""),
            ("segment=99", "segment", "no segment 99"),
            ("from_step=5&to_step=4", "to_step", "below from_step"),
            ("", "layer", instrument),
        ] {
            assert_refused(&rest, &format!("{run}/readings/{instrument}?{query}"), field, part).await;
        }
    }
    for (query, field, part) in [
        ("readings/edge?layer=a", "layer", "group, kind and window"),
        ("series?metric=cascade.phi", "layer", "no layer is declared"),
        ("series?metric=edge.ratio&metric=cascade.phi&layer=a", "layer", "no layer is declared"),
        ("series?metric=edge.ratio&layer=a", "layer", "none is asked for"),
        ("series?metric=cascade.phj", "metric", "did you mean cascade.phi"),
        ("series?metric=cascade.reason", "metric", "holds words"),
        ("series?metric=dead_directions.batch", "metric", "holds words"),
        ("series?metric=learning_cell.refit_curve", "metric", "holds lists"),
        ("series?metric=dead_direction.rank", "metric", "dead_directions.rank"),
        ("layers?limit=1", "limit", "unknown parameter"),
        ("groups?layer=a", "layer", "unknown parameter"),
        ("events?layer=a", "layer", "unknown parameter"),
    ] {
        assert_refused(&rest, &format!("{run}/{query}"), field, part).await;
    }
    for (path, field, part) in [
        ("series?metric=edge.ratio", "run", "missing"),
        ("series?metric=edge.ratio&run=x", "run", "no UUID"),
        ("runs?state=asleep", "state", "asleep"),
        ("runs?regime=asleep", "regime", "asleep"),
        ("runs?sort=name", "sort", "-last_seen"),
        ("runs?label.=x", "label.", "names no label"),
        ("events?types=", "types", "empty"),
        ("events?after=x", "after", "x"),
        ("events?sort=step", "sort", "-event_id"),
        ("overview?run=x", "run", "unknown parameter"),
        ("stream?types=readings", "types", "unknown type"),
        ("stream?run=x", "run", "no UUID"),
        ("stream?segment=1", "segment", "live or all"),
        ("stream?last_event_id=x", "last_event_id", "x"),
        ("runs/4711", "run_id", "no UUID"),
        ("runs/%FF", "run_id", ""),
        ("runs/4711/series?metric=edge.ratio", "run_id", "no UUID"),
    ] {
        assert_refused(&rest, &format!("/api/v1/{path}"), field, part).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_belongs_to_its_query() {
    let (server, run_id) = start().await;
    let rest = server.rest();
    let run = format!("/api/v1/runs/{run_id}");
    let page = rest.get(&format!("{run}/steps?limit=7")).await;
    let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
    // Only the limit may change.
    let next = rest.get(&format!("{run}/steps?limit=5&cursor={cursor}")).await;
    assert_eq!((&next["items"][0]["step"], next["items"].as_array().map(Vec::len)), (&8.into(), Some(5)));
    let (start, end) = cursor.split_at(cursor.len() / 2);
    for path in [
        format!("{run}/steps?from_step=1&cursor={cursor}"),
        format!("{run}/steps?segment=all&cursor={cursor}"),
        format!("{run}/readings/edge?cursor={cursor}"),
        format!("{run}/events?cursor={cursor}"),
        format!("/api/v1/runs?cursor={cursor}"),
        format!("{run}/steps?cursor={start}"),
        format!("{run}/steps?cursor={end}"),
        format!("{run}/steps?cursor={cursor}{cursor}"),
    ] {
        assert_refused(&rest, &path, "cursor", "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_found() {
    let (server, run_id) = start().await;
    let rest = server.rest();
    let unknown = Uuid::new_v4();
    let run = format!("/api/v1/runs/{unknown}");
    let layers = ["/layers", "/readings/cascade", "/series?metric=cascade.phi"];
    let others = ["", "/groups", "/segments", "/steps", "/events", "/readings/edge", "/series?metric=edge.ratio"];
    for path in others.into_iter().chain(layers) {
        let problem = rest.problem(Method::GET, &format!("{run}{path}"), "").await;
        assert_problem(&problem, 404, "not_found", Some("run_id"), &unknown.to_string());
    }
    for (method, body) in [(Method::PATCH, r#"{"labels": {"a": "b"}}"#), (Method::DELETE, "")] {
        let problem = rest.problem(method, &run, body).await;
        assert_problem(&problem, 404, "not_found", Some("run_id"), &unknown.to_string());
    }
    let path = format!("/api/v1/series?run={run_id}&run={unknown}&metric=edge.ratio");
    let problem = rest.problem(Method::GET, &path, "").await;
    assert_problem(&problem, 404, "not_found", Some("run"), &unknown.to_string());
    let problem = rest.problem(Method::GET, &format!("/api/v1/runs/{run_id}/readings/egde"), "").await;
    assert_problem(&problem, 404, "not_found", Some("instrument"), "egde");

    for path in ["/nothing", "/api/v1/nothing", "/api/v2/runs", "/api/v1/runs/"] {
        let problem = rest.problem(Method::GET, path, "").await;
        assert_problem(&problem, 404, "not_found", None, "");
    }
    for (method, path) in [
        (Method::POST, "/api/v1/runs".to_owned()),
        (Method::PUT, format!("/api/v1/runs/{run_id}")),
        (Method::DELETE, format!("/api/v1/runs/{run_id}/steps")),
        (Method::POST, "/healthz".to_owned()),
    ] {
        let problem = rest.problem(method, &path, "{}").await;
        assert_problem(&problem, 405, "method_not_allowed", None, "Allow");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_patch_changes_nothing() {
    let (server, run_id) = start().await;
    let rest = server.rest();
    let run = format!("/api/v1/runs/{run_id}");
    let before = rest.get(&run).await;
    let long = "x".repeat(257);
    let many: serde_json::Map<String, Value> = (0..64).map(|n| (n.to_string(), json!("v"))).collect();
    for (body, field, part) in [
        (String::new(), "body", "not JSON"),
        ("{".into(), "body", "not JSON"),
        (r#"{"labels": {"a": "b"}"#.into(), "body", "not JSON"),
        ("[]".into(), "body", "JSON object"),
        ("null".into(), "body", "JSON object"),
        ("{}".into(), "labels", "missing"),
        (r#"{"labels": []}"#.into(), "labels", "object"),
        (r#"{"labels": {"a": 1}}"#.into(), "labels.a", "text"),
        (r#"{"labels": {"a": "b"}, "name": "n"}"#.into(), "name", "unknown"),
        (r#"{"labels": {"good": "v", "a\u0000": "b"}}"#.into(), "labels.a\0", "control character"),
        (r#"{"labels": {"good": "v", "a": "b\u0000"}}"#.into(), "labels.a", "control character"),
        (r#"{"labels": {"": "b"}}"#.into(), "labels.", "empty"),
        (json!({ "labels": { "good": "v", "a": long } }).to_string(), "labels.a", "the limit is 256"),
        (json!({ "labels": many }).to_string(), "labels", "would have 65; the limit is 64"),
    ] {
        let problem = rest.problem(Method::PATCH, &run, &body).await;
        assert_problem(&problem, 400, "invalid_argument", Some(field), part);
    }
    assert_eq!(rest.get(&run).await, before);

    // A right one does.
    let (status, _) = rest.call(Method::PATCH, &run, r#"{"labels": {"team": null, "a": "b"}}"#).await;
    assert!(status.is_success());
    assert_eq!(rest.get(&run).await["labels"], json!({ "a": "b" }));
}
