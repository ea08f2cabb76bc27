//! Receivers are made, replaced and removed; their secrets stay inside.

use gradwatch_tests::{Backend, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, SECOND, ok, refused, rule, webhook};

on_both_backends!(a_receiver_comes_back_without_its_secrets, what_a_rule_needs_stays);

async fn a_receiver_comes_back_without_its_secrets(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let made = ok(&rest, Method::POST, RECEIVERS, &webhook("oncall")).await;
    assert_eq!((&made["name"], &made["source"], &made["disabled"]), (&json!("oncall"), &json!("api"), &Value::Null));
    let shown = json!({
        "name": "oncall",
        "webhook": { "url": "http://127.0.0.1:9/hook", "secrets": ["***"] },
        "group_by": ["rule"],
        "group_wait_s": 5,
        "send_resolved": true,
        "max_concurrency": 4,
        "max_per_minute": 60,
        "timeout_s": 10,
    });
    assert_eq!(made["definition"], shown);
    let path = format!("{RECEIVERS}/oncall");
    assert_eq!(rest.get(&path).await, made);
    refused(&rest, (Method::POST, RECEIVERS), &webhook("oncall"), 409, Some("name")).await;
    refused(&rest, (Method::PUT, &format!("{RECEIVERS}/other")), &webhook("other"), 404, Some("name")).await;

    // As it was shown it can be sent back.
    let mut changed = shown.clone();
    changed["timeout_s"] = json!(3);
    let replaced = ok(&rest, Method::PUT, &path, &changed).await;
    assert_eq!(replaced["definition"], changed);
    // A new secret stands before the old one, which then goes.
    changed["webhook"]["secrets"] = json!([SECOND, "***"]);
    let rotated = ok(&rest, Method::PUT, &path, &changed).await;
    assert_eq!(rotated["definition"]["webhook"]["secrets"], json!(["***", "***"]));
    changed["webhook"]["secrets"] = json!(["***"]);
    ok(&rest, Method::PUT, &path, &changed).await;
    changed["webhook"]["secrets"] = json!(["***", "***"]);
    let problem = refused(&rest, (Method::PUT, &path), &changed, 400, Some("webhook.secrets[1]")).await;
    assert_eq!(problem["problems"].as_array().map(Vec::len), Some(1), "{problem}");
    // One kind's secret is not another's.
    let slack = json!({ "slack": { "url": "https://hooks.slack.com/***" } });
    refused(&rest, (Method::PUT, &path), &slack, 400, Some("slack.url")).await;

    let slack = json!({ "name": "chat", "slack": { "url": "https://hooks.slack.com/services/T0/B0/XYZ" } });
    let slack = ok(&rest, Method::POST, RECEIVERS, &slack).await;
    assert_eq!(slack["definition"]["slack"], json!({ "url": "https://hooks.slack.com/***" }));
    let kept = ok(&rest, Method::PUT, &format!("{RECEIVERS}/chat"), &slack["definition"]).await;
    assert_eq!(kept["definition"], slack["definition"]);

    let server = server.restart().await;
    let rest = server.rest();
    let listed = rest.get(RECEIVERS).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed["items"][0], kept);
    ok(&rest, Method::DELETE, &path, &json!({})).await;
    refused(&rest, (Method::GET, &path), &json!({}), 404, Some("name")).await;
    server.shutdown().await;
}

async fn what_a_rule_needs_stays(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let mut definition = rule("r", None);
    definition["receivers"] = json!(["oncall"]);
    let problem = rest.problem(Method::POST, RULES, &definition.to_string()).await;
    assert_eq!(problem["status"], 400, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("oncall")), "{problem}");
    ok(&rest, Method::POST, RECEIVERS, &webhook("oncall")).await;
    ok(&rest, Method::POST, RULES, &definition).await;
    let path = format!("{RECEIVERS}/oncall");
    let problem = refused(&rest, (Method::DELETE, &path), &json!({}), 409, Some("name")).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("\"r\"")), "{problem}");
    ok(&rest, Method::DELETE, &format!("{RULES}/r"), &json!({})).await;
    ok(&rest, Method::DELETE, &path, &json!({})).await;
    server.shutdown().await;
}
