//! What cannot be meant is refused with the field at fault, and changes nothing.

use gradwatch_tests::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, SIGNING, SILENCES, everything, ok, refused, rule, webhook};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_cannot_be_meant_is_refused_with_its_place() {
    let server = TestServer::start().await;
    let rest = server.rest();
    ok(&rest, Method::POST, RULES, &rule("made", None)).await;
    let before = everything(&rest).await;
    let nested = |depth: usize| format!("{}1 < 2{}", "(".repeat(depth), ")".repeat(depth));
    for (when, column, part) in [
        ("edge.ratio < ", None, ""),
        ("edge.ratio < < 1", Some(14), ""),
        ("edge.ratio < 1)", Some(15), ""),
        ("edge.ration < 1", Some(1), "edge.ratio"),
        ("scalar.loss > 1 and\n  edge.rato < 1", Some(3), "edge.ratio"),
        ("run.chrashed", Some(1), "run.crashed"),
        ("edge.ratio and 1 < 2", None, ""),
        ("edge.ratio < 1 and 1", None, ""),
        ("scalar.loss / 0 > 1", None, "zero"),
        ("mean(edge.ratio, 1) > 1", None, "2"),
        ("mean(edge.ratio, 1001) > 1", None, "1000"),
        ("edge.ratio", None, ""),
        ("", None, ""),
        // As deep as one may write, and far beyond.
        (&*nested(1_000), None, ""),
        (&*nested(10_000), None, ""),
    ] {
        let mut definition = rule("wrong", None);
        definition["when"] = json!(when);
        let mut replacing = definition.clone();
        replacing["name"] = json!("made");
        for (method, path, body) in
            [(Method::POST, RULES, &definition), (Method::PUT, &*format!("{RULES}/made"), &replacing)]
        {
            let problem = rest.problem(method, path, &body.to_string()).await;
            let shown = problem.to_string();
            assert!(shown.len() < 2_000, "{shown}");
            assert_eq!((&problem["status"], &problem["field"]), (&json!(400), &json!("when")), "{when:.60}: {shown}");
            let first = &problem["problems"][0];
            let line = if when.contains('\n') { 2 } else { 1 };
            assert_eq!((&first["field"], &first["line"]), (&json!("when"), &json!(line)), "{when:.60}: {shown}");
            assert!(first["column"].as_u64().is_some_and(|it| it >= 1), "{when:.60}: {shown}");
            if let Some(column) = column {
                assert_eq!(first["column"], column, "{when:.60}: {shown}");
            }
            assert!(first["message"].as_str().is_some_and(|text| text.len() > 5 && text.contains(part)), "{shown}");
            assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("when: line ")), "{shown}");
        }
    }
    assert_eq!(everything(&rest).await, before);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_cannot_be_meant_is_refused_with_its_field() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let before = everything(&rest).await;
    let many: Vec<Value> = (0..2).map(|_| json!(SIGNING)).collect();
    let with = |mut body: Value, member: &str, value: Value| {
        body[member] = value;
        body
    };
    let long = "x".repeat(200);
    for (member, value, field) in [
        ("name", json!(""), "name"),
        ("name", json!("a b"), "name"),
        ("name", json!(long), "name"),
        ("name", json!(7), "name"),
        ("when", json!(null), "when"),
        ("for", json!(-1), "for"),
        ("for", json!("tomorrow"), "for"),
        ("for", json!({}), "for"),
        ("keep_firing_for", json!("1 fortnight"), "keep_firing_for"),
        ("max_age", json!("x"), "max_age"),
        ("severity", json!("fatal"), "severity"),
        ("select", json!("vision"), "select"),
        ("select", json!({ "project": 7 }), "select.project"),
        ("select", json!({ "team": "x" }), "select.team"),
        ("select", json!({ "kind": "hessian" }), "select.kind"),
        ("labels", json!({ "a": 1 }), "labels.a"),
        ("labels", json!({ "a": "b\u{0}" }), "labels.a"),
        ("receivers", json!("oncall"), "receivers"),
        ("sumary", json!("x"), "sumary"),
    ] {
        let body = with(rule("r", None), member, value);
        refused(&rest, (Method::POST, RULES), &body, 400, Some(field)).await;
    }
    for (member, value, field) in [
        ("name", json!("a/b"), "name"),
        ("webhook", json!({ "url": "ftp://h", "secrets": many }), "webhook.url"),
        ("webhook", json!({ "url": "http://h", "secrets": ["short"] }), "webhook.secrets[0]"),
        ("webhook", json!({ "url": "http://h", "secrets_env": "DATABASE_URL" }), "webhook.secrets_env"),
        ("max_concurrency", json!(0), "max_concurrency"),
        ("max_per_minute", json!(0), "max_per_minute"),
        ("timeout_s", json!(0), "timeout_s"),
        ("group_by", json!(["severity"]), "group_by[0]"),
    ] {
        let body = with(webhook("r"), member, value);
        refused(&rest, (Method::POST, RECEIVERS), &body, 400, Some(field)).await;
    }
    for (body, field) in [
        (
            json!({ "name": "r", "alertmanager": { "url": "http://h", "bearer_env": "DATABASE_URL" } }),
            "alertmanager.bearer_env",
        ),
        (json!({ "name": "r", "slack": { "url_env": "DATABASE_URL" } }), "slack.url_env"),
    ] {
        refused(&rest, (Method::POST, RECEIVERS), &body, 400, Some(field)).await;
    }
    // Bodies that are none.
    for path in [RULES, RECEIVERS, SILENCES] {
        for body in ["", "{", "[]", "null", "7"] {
            let problem = rest.problem(Method::POST, path, body).await;
            assert_eq!(
                (&problem["status"], &problem["field"]),
                (&json!(400), &json!("body")),
                "{path} {body}: {problem}"
            );
        }
        let (head, _) = rest.exchange_as("text/plain", Method::POST, path, "{}").await;
        assert_eq!(head.status, 400, "{path}");
        let long = json!({ "name": "x".repeat(300_000) }).to_string();
        assert_eq!(rest.problem(Method::POST, path, &long).await["status"], 413, "{path}");
    }
    // What takes no body is asked for in a way that no page of another origin can.
    let reload = format!("{RULES}/reload");
    let (head, _) = rest.exchange_as("text/plain", Method::POST, &reload, "").await;
    assert_eq!(head.status, 400);
    refused(&rest, (Method::POST, &reload), &json!({ "file": "x" }), 400, Some("file")).await;
    assert_eq!(everything(&rest).await, before);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silence_that_cannot_be_meant_is_refused_with_its_field() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let matcher = json!({ "name": "rule", "value": "x" });
    let right = json!({ "matchers": [matcher], "duration_s": 60 });
    for (member, value, field) in [
        ("matchers", json!(null), "matchers"),
        ("matchers", json!([]), "matchers"),
        ("matchers", json!("rule=x"), "matchers"),
        ("matchers", json!(vec![matcher.clone(); 33]), "matchers"),
        ("matchers", json!([matcher, 7]), "matchers[1]"),
        ("matchers", json!([{ "value": "x" }]), "matchers[0].name"),
        ("matchers", json!([{ "name": "", "value": "x" }]), "matchers[0].name"),
        ("matchers", json!([{ "name": "rule" }]), "matchers[0].value"),
        ("matchers", json!([{ "name": "rule", "value": "[a" }]), "matchers[0].value"),
        ("matchers", json!([{ "name": "rule", "value": "a\u{0}" }]), "matchers[0].value"),
        ("matchers", json!([{ "name": "rule", "value": "x", "negate": 1 }]), "matchers[0].negate"),
        ("matchers", json!([{ "name": "rule", "value": "x", "not": true }]), "matchers[0].not"),
        ("duration_s", json!(null), "ends_at"),
        ("duration_s", json!(0), "duration_s"),
        ("duration_s", json!(-1), "duration_s"),
        ("duration_s", json!("1h"), "duration_s"),
        ("duration_s", json!(u64::MAX), "duration_s"),
        ("ends_at", json!("2999-01-01T00:00:00Z"), "duration_s"),
        ("starts_at", json!("tomorrow"), "starts_at"),
        ("starts_at", json!(7), "starts_at"),
        ("starts_at", json!("2001-01-01T00:00:00Z"), "ends_at"),
        ("comment", json!("x".repeat(1_025)), "comment"),
        ("comment", json!("a\u{0}"), "comment"),
        ("project", json!(7), "project"),
        ("projekt", json!("x"), "projekt"),
    ] {
        let mut body = right.clone();
        body[member] = value;
        refused(&rest, (Method::POST, SILENCES), &body, 400, Some(field)).await;
    }
    for (ends_at, starts_at) in [
        ("2001-01-01T00:00:00Z", None),
        ("2999-01-01T00:00:00Z", None),
        ("2001-01-01T00:00:00Z", Some("2001-01-02T00:00:00Z")),
    ] {
        let body = json!({ "matchers": right["matchers"], "starts_at": starts_at, "ends_at": ends_at });
        refused(&rest, (Method::POST, SILENCES), &body, 400, Some("ends_at")).await;
    }
    assert_eq!(rest.get(&format!("{SILENCES}?state=pending,active,ended")).await["items"], json!([]));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_query_is_refused_with_its_parameter() {
    let server = TestServer::start().await;
    let rest = server.rest();
    for (path, field) in [
        ("alerts?state=burning", "state"),
        ("alerts?severity=fatal", "severity"),
        ("alerts?run=4711", "run"),
        ("alerts?rule=", "rule"),
        ("alerts?project=a&project=b", "project"),
        ("alerts?limit=0", "limit"),
        ("alerts?cursor=x", "cursor"),
        ("alerts?stat=firing", "stat"),
        ("alerts/4711", "alert_id"),
        ("alerts/rules?limit=10001", "limit"),
        ("alerts/rules?name=x", "name"),
        ("alerts/rules?cursor=x", "cursor"),
        ("alerts/rules/x?a=b", "a"),
        ("alerts/receivers?cursor=x", "cursor"),
        ("alerts/receivers?project=x", "project"),
        ("alerts/silences?state=old", "state"),
        ("alerts/silences?cursor=x", "cursor"),
        ("alerts/silences/4711", "silence_id"),
        ("alerts/messages?state=lost", "state"),
        ("alerts/messages?cursor=x", "cursor"),
        ("alerts/messages/4711", "message_id"),
        ("alerts/deliveries?message=4711", "message"),
        ("alerts/deliveries?cursor=x", "cursor"),
    ] {
        refused(&rest, (Method::GET, &format!("/api/v1/{path}")), &json!({}), 400, Some(field)).await;
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/alerts"),
        (Method::PUT, RULES),
        (Method::GET, "/api/v1/alerts/rules/check"),
        (Method::PATCH, SILENCES),
        (Method::POST, "/api/v1/alerts/messages"),
    ] {
        refused(&rest, (method, path), &json!({}), 405, None).await;
    }
    server.shutdown().await;
}
