//! Alerts that fire are listed, counted, and are the project's own.

use gradwatch_tests::{Backend, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{BOOTSTRAP, RULES, ok, refused, rule, run_of, start_with_tokens, with_token};

on_both_backends!(what_fires_is_listed, alerts_of_one_commit_are_listed_as_they_began);

const ALERTS: &str = "/api/v1/alerts";

fn has(count: usize) -> impl Fn(&Value) -> bool {
    move |list| list["items"].as_array().is_some_and(|items| items.len() == count)
}

async fn what_fires_is_listed(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    for (name, severity) in [("a", "critical"), ("b", "warning"), ("c", "info")] {
        let mut rule = rule(name, None);
        (rule["severity"], rule["summary"]) = (json!(severity), json!("it fires"));
        ok(&rest, Method::POST, RULES, &rule).await;
    }
    let (_vision, vision) = run_of(&server, "vision", 3).await;
    let (_text, text) = run_of(&server, "text", 3).await;
    rest.until(ALERTS, "six alerts", has(6)).await;

    // Newest first, page by page.
    let whole = rest.all(&format!("{ALERTS}?limit=500")).await;
    for limit in [1, 4, 6] {
        assert_eq!(rest.all(&format!("{ALERTS}?limit={limit}")).await, whole);
    }
    for (query, count) in [
        ("state=firing", 6),
        ("state=firing,pending,resolved", 6),
        ("state=resolved", 0),
        ("rule=a", 2),
        ("rule=nobody", 0),
        ("project=vision", 3),
        ("project=nobody", 0),
        (&*format!("run={text}"), 3),
        ("severity=critical", 2),
        (&*format!("run={vision}&severity=info&rule=c&state=firing&project=vision"), 1),
        (&*format!("run={vision}&project=text"), 0),
    ] {
        let items = rest.all(&format!("{ALERTS}?{query}")).await;
        assert_eq!(items.len(), count, "{query}: {items:?}");
    }
    let alert = &rest.all(&format!("{ALERTS}?run={vision}&rule=a")).await[0];
    for (member, value) in [
        ("rule", json!("a")),
        ("project", json!("vision")),
        ("run_id", json!(vision)),
        ("group", json!("")),
        ("state", json!("firing")),
        ("severity", json!("critical")),
        ("summary", json!("it fires")),
        ("values", json!({ "scalar.loss": 1.0 })),
        ("receivers", json!([])),
        ("resolved", Value::Null),
        ("resolved_reason", Value::Null),
    ] {
        assert_eq!(alert[member], value, "{member}: {alert}");
    }
    assert_eq!((&alert["fired"]["step"], &alert["fired"]["segment"]), (&json!(1), &json!(1)));
    let path = format!("{ALERTS}/{}", alert["alert_id"].as_str().expect("an id"));
    assert_eq!(rest.get(&path).await, *alert);

    // Counted by rule and severity.
    let rules = rest.get(RULES).await;
    let firing: Vec<&Value> = rules["items"].as_array().expect("items").iter().map(|rule| &rule["firing"]).collect();
    assert_eq!(firing, [2, 2, 2]);
    let overview = rest.get("/api/v1/overview").await;
    assert_eq!(overview["alerts_firing"], json!({ "critical": 2, "info": 2, "warning": 2 }));
    let overview = rest.get("/api/v1/overview?project=vision").await;
    assert_eq!(overview["alerts_firing"], json!({ "critical": 1, "info": 1, "warning": 1 }));

    // A rule that is gone takes its alerts' fire, not the alerts.
    ok(&rest, Method::DELETE, &format!("{RULES}/a"), &json!({})).await;
    rest.until(&format!("{ALERTS}?state=resolved"), "their end", has(2)).await;
    let ended = rest.get(&path).await;
    assert_eq!((&ended["state"], &ended["resolved_reason"]), (&json!("resolved"), &json!("rule_removed")));
    server.shutdown().await;
}

async fn alerts_of_one_commit_are_listed_as_they_began(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    for readings in 2..10 {
        let mut rule = rule(&format!("r{readings}"), None);
        rule["when"] = json!(format!("mean(scalar.loss, {readings}) > 0"));
        ok(&rest, Method::POST, RULES, &rule).await;
    }
    let (_stream, _) = run_of(&server, "vision", 10).await;
    let listed = rest.until(ALERTS, "eight alerts", has(8)).await;
    let steps: Vec<&Value> = listed["items"].as_array().expect("items").iter().map(|it| &it["fired"]["step"]).collect();
    assert_eq!(steps, [9, 8, 7, 6, 5, 4, 3, 2], "newest first");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_project_sees_its_alerts() {
    let server = start_with_tokens(|_| {}).await;
    let all = server.rest().with_token(BOOTSTRAP);
    ok(&all, Method::POST, RULES, &rule("everywhere", None)).await;
    // Frames go by tokens, too.
    for project in ["alpha", "beta"] {
        crate::made::send_with_token(&server, project, BOOTSTRAP).await;
    }
    all.until(ALERTS, "two alerts", has(2)).await;
    for (own, other) in [("alpha", "beta"), ("beta", "alpha")] {
        let rest = with_token(&server, Some(own), "read").await;
        let listed = rest.get(ALERTS).await;
        assert!(has(1)(&listed) && listed["items"][0]["project"] == own, "{listed}");
        let foreign = &all.get(&format!("{ALERTS}?project={other}")).await["items"][0];
        let run = foreign["run_id"].as_str().expect("an id");
        assert!(has(0)(&rest.get(&format!("{ALERTS}?run={run}")).await));
        refused(&rest, (Method::GET, &format!("{ALERTS}?project={other}")), &json!({}), 403, Some("project")).await;
        let path = format!("{ALERTS}/{}", foreign["alert_id"].as_str().expect("an id"));
        refused(&rest, (Method::GET, &path), &json!({}), 404, Some("alert_id")).await;
        let firing = rest.get("/api/v1/overview").await["alerts_firing"].clone();
        assert_eq!(firing, json!({ "critical": 1, "info": 0, "warning": 0 }));
    }
    server.shutdown().await;
}
