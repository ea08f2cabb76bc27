//! What holds for every path.

use axum::http::{Method, StatusCode, header};

use super::fixture::{Api, of_run, run_id};
use crate::api::openapi;

#[tokio::test]
async fn a_route_that_nobody_declared_is_not_reachable() {
    let mut api = Api::empty(|_| {}).await;
    let forgotten = axum::Router::new().route("/api/v1/forgotten", axum::routing::get(async || "a secret"));
    api.router = crate::access::protect(forgotten, api.state.clone());
    assert_eq!(api.get("/api/v1/forgotten").await.problem().0, 404);
}

#[tokio::test]
async fn pages_of_other_origins_cannot_speak_for_a_user_of_this_machine() {
    let api = Api::empty(|_| {}).await;
    for host in ["localhost:7700", "127.0.0.1:7700", "[::1]:7700"] {
        assert_eq!(api.send(Method::GET, "/api/v1/runs", &[("host", host)], "").await.status, StatusCode::OK, "{host}");
    }
    for path in ["/api/v1/runs", "/healthz", "/nowhere"] {
        let reply = api.send(Method::GET, path, &[("host", "rebound.example.org:7700")], "").await;
        assert_eq!(reply.problem(), (403, "permission_denied".into(), Some("host".into())), "{path}");
    }
    let reply = api.get("http://rebound.example.org/api/v1/runs").await;
    assert_eq!(reply.problem().0, 403, "as HTTP/2 says it");
    // Whoever has a token may be anywhere, and so may a server that is meant for others.
    let asking = Api::empty(|config| config.access.require_tokens = true).await;
    assert_eq!(asking.send(Method::GET, "/healthz", &[("host", "gw.example.org")], "").await.status, StatusCode::OK);

    let bodies = [
        (Method::POST, "/api/v1/tokens".to_owned(), r#"{"name": "x", "scopes": ["read"]}"#),
        (Method::PATCH, of_run(""), r#"{"labels": {}}"#),
        (Method::POST, "/api/v1/fleet/error_split".to_owned(), r#"{"project": "vision", "probe": "held"}"#),
    ];
    for (method, path, body) in bodies {
        for headers in [&[][..], &[("content-type", "text/plain")]] {
            let refused = api.send(method.clone(), &path, headers, body).await;
            assert_eq!(refused.problem(), (400, "invalid_argument".into(), Some("content-type".into())), "{path}");
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let api = Api::empty(|_| {}).await;
    for path in ["/", "/api/v1", "/api/v1/run", "/api/v2/runs", "/docs/"] {
        assert_eq!(api.get(path).await.problem().0, 404, "{path}");
    }
    let reply = api.send(Method::POST, "/api/v1/runs", &[], "{}").await;
    assert_eq!(reply.problem(), (405, "method_not_allowed".into(), None));
    assert_eq!(reply.headers[header::ALLOW], "GET,HEAD");
}

#[tokio::test]
async fn the_parameters_documented_are_those_that_are_known() {
    let api = Api::with_run().await;
    let document = serde_json::to_value(openapi::document()).unwrap();
    let calls = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let mut ids: Vec<&str> = calls.map(|call| call["operationId"].as_str().unwrap()).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "{ids:?}");
    let mut calls = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .replace("{run_id}", &run_id(1).to_string())
            .replace("{instrument}", "edge")
            .replace("{computation_id}", "00000000-0000-0000-0000-000000000000");
        let Some(call) = item.get("get") else { continue };
        let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
        let query = |parameter: &&serde_json::Value| parameter["in"] == "query";
        let required: String = parameters
            .iter()
            .filter(query)
            .filter(|parameter| parameter["required"] == true)
            .map(|parameter| match parameter["name"].as_str().unwrap() {
                "run" => format!("run={}&", run_id(1)),
                "metric" => "metric=edge.ratio&".to_owned(),
                other => panic!("{path} requires {other}"),
            })
            .collect();
        let reply = api.get(&format!("{filled}?{required}no_such_parameter=1")).await;
        assert_eq!(reply.problem(), (400, "invalid_argument".into(), Some("no_such_parameter".into())), "{path}");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        let takes = detail.split_once("this path takes ").unwrap().1;
        let mut takes: Vec<&str> = takes.split(", ").filter(|name| *name != "none").collect();
        takes.sort_unstable();
        let mut documented: Vec<&str> = parameters.iter().filter(query).map(|p| p["name"].as_str().unwrap()).collect();
        documented.sort_unstable();
        assert_eq!(takes, documented, "{path}");
        for parameter in parameters.iter().filter(query) {
            // A value that no parameter takes: a known one refuses it, or narrows to nothing.
            let name = parameter["name"].as_str().unwrap();
            if path == "/api/v1/stream" && name == "project" {
                continue;
            }
            let reply = api.get(&format!("{filled}?{name}=%7F&{required}")).await;
            assert!(!reply.text.contains("unknown parameter"), "{path} {name}: {}", reply.text);
            if reply.status != StatusCode::OK {
                assert_eq!(reply.problem().2.as_deref(), Some(name), "{path} {name}: {}", reply.text);
            }
            calls += 1;
        }
    }
    assert!(calls > 50, "{calls} parameters tried");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let api = Api::with_run().await;
    let missing = run_id(99);
    for (path, status, field) in [
        ("/api/v1/runs/not-a-uuid".to_owned(), 400, "run_id"),
        (format!("/api/v1/runs/{missing}"), 404, "run_id"),
        (format!("/api/v1/runs/{missing}/steps"), 404, "run_id"),
        (format!("/api/v1/series?run={missing}&metric=edge.ratio"), 404, "run"),
        ("/api/v1/series?metric=edge.ratio".to_owned(), 400, "run"),
        ("/api/v1/series?run=x&metric=edge.ratio".to_owned(), 400, "run"),
        ("/api/v1/runs?state=sleeping".to_owned(), 400, "state"),
        ("/api/v1/runs?regime=calm".to_owned(), 400, "regime"),
        ("/api/v1/runs?sort=name".to_owned(), 400, "sort"),
        ("/api/v1/runs?limit=10001".to_owned(), 400, "limit"),
        ("/api/v1/runs?cursor=AAAA".to_owned(), 400, "cursor"),
        ("/api/v1/events?after=3&sort=-event_id".to_owned(), 400, "after"),
        ("/api/v1/stream?types=readings".to_owned(), 400, "types"),
        ("/api/v1/stream?segment=1".to_owned(), 400, "segment"),
        (of_run("/readings/cascades"), 404, "instrument"),
        (of_run("/readings/edge?layer=fc1"), 400, "layer"),
        (of_run("/readings/cascade?group=all"), 400, "group"),
        (of_run("/readings/curvature?kind=update"), 400, "kind"),
        (of_run("/readings/dead_directions?window=3"), 400, "window"),
        (of_run("/readings/learning_cell?analysis=other"), 400, "analysis"),
        (of_run("/readings/learning_cell?layer=haed"), 400, "layer"),
        (of_run("/readings/curvature?layer="), 400, "layer"),
        (of_run("/readings/curvature?layer=fc1&layer=fc1"), 400, "layer"),
        (of_run("/readings/curvature?segment=3"), 400, "segment"),
        (of_run("/readings/curvature?cursor=AAAA"), 400, "cursor"),
        (of_run("/layers?layer=fc1"), 400, "layer"),
        (of_run("/readings/edge?group=mpl"), 400, "group"),
        (of_run("/readings/edge?kind=gradient"), 400, "kind"),
        (of_run("/readings/edge?window=4"), 400, "window"),
        (of_run("/readings/edge?analysis=other"), 400, "analysis"),
        (of_run("/readings/edge?segment=3"), 400, "segment"),
        (of_run("/readings/edge?segment=last"), 400, "segment"),
        (of_run("/readings/edge?from_step=5&to_step=4"), 400, "to_step"),
        (of_run("/series"), 400, "metric"),
        (of_run("/series?metric=edge.ration"), 400, "metric"),
        (of_run("/series?metric=scalar.los"), 400, "metric"),
        (of_run("/series?metric=cascade.reason"), 400, "metric"),
        (of_run("/series?metric=cascade.phi&layer=fc1"), 400, "layer"),
        (of_run("/series?metric=edge.ratio&metric=scalar.loss&layer=fc1"), 400, "layer"),
        (of_run("/series?metric=edge.ratio&max_points=0"), 400, "max_points"),
    ] {
        let (found_status, _, found_field) = api.get(&path).await.problem();
        assert_eq!((found_status, found_field.as_deref()), (status, Some(field)), "{path}");
    }
    let reply = api.get(&of_run("/series?metric=edge.ration")).await;
    assert!(reply.text.contains("did you mean edge.ratio"), "{}", reply.text);
    for (path, part) in [
        ("/readings/cascades", "edge, cascade, curvature, dead_directions, learning_cell"),
        ("/readings/learning_cell?layer=haed", "there are head; did you mean head?"),
        ("/readings/cascade?layer=fc1", r#"there are all, blocks, \"0\", early"#),
        ("/readings/cascade?group=all", "readings of cascade belong to a layer"),
        ("/series?metric=curvature.exponnt", "did you mean curvature.exponent"),
        ("/series?metric=curvature.preconditioner", "only numbers, counts and flags"),
    ] {
        let reply = api.get(&of_run(path)).await;
        assert!(reply.text.contains(part), "{path}: {}", reply.text);
    }
    let reply = api.send(Method::GET, &of_run("/readings/edge"), &[("accept", "text/html")], "").await;
    assert_eq!(reply.problem(), (406, "not_acceptable".into(), Some("accept".into())));
}

#[tokio::test]
async fn refused_requests_are_counted_by_code() {
    let api = Api::empty(|_| {}).await;
    api.get("/api/v1/runs?typo=1").await;
    api.get("/nowhere").await;
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains(r#"gradwatch_errors_total{code="invalid_argument"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"gradwatch_errors_total{code="not_found"} 1"#), "{metrics}");
}

#[tokio::test]
async fn health_and_readiness() {
    let api = Api::empty(|_| {}).await;
    assert_eq!(api.ok("/healthz").await["status"], "alive");
    let ready = api.ok("/readyz").await;
    assert_eq!((ready["status"].as_str(), ready["backend"].as_str()), (Some("ready"), Some("sqlite")));
    assert!(!ready["durability"].as_object().unwrap().is_empty());
    api.state.draining.cancel();
    assert_eq!(api.get("/readyz").await.problem().0, 503);
    assert_eq!(api.ok("/healthz").await["status"], "alive");
}

#[tokio::test]
async fn a_broken_store_is_not_ready() {
    let api = Api::empty(|_| {}).await;
    api.state.store.close().await;
    assert_eq!(api.get("/readyz").await.problem().0, 503);
}

#[tokio::test]
async fn other_origins_are_let_in_by_configuration_only() {
    let origin = "https://dashboards.example.org";
    let preflight = [("origin", origin), ("access-control-request-method", "GET")];
    let closed = Api::empty(|_| {}).await;
    for method in [Method::GET, Method::OPTIONS] {
        let reply = closed.send(method, "/api/v1/runs", &preflight, "").await;
        assert!(!reply.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{:?}", reply.headers);
    }
    let open = Api::empty(|config| config.api.cors_origins = vec![origin.to_owned()]).await;
    let reply = open.send(Method::GET, "/api/v1/runs", &preflight, "").await;
    assert_eq!(reply.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], origin);
    let reply = open.send(Method::OPTIONS, "/api/v1/runs", &preflight, "").await;
    assert_eq!(reply.status, StatusCode::OK);
    let allowed = reply.headers[header::ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap();
    assert_eq!(allowed, "GET,POST,PUT,PATCH,DELETE");
    let other = [("origin", "https://elsewhere.example.org")];
    let reply = open.send(Method::GET, "/api/v1/runs", &other, "").await;
    assert!(!reply.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}
