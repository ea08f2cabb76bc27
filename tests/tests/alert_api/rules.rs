//! Rules are made, replaced and removed.

use gradwatch_tests::{Backend, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, ok, refused, rule, webhook};

on_both_backends!(
    a_rule_comes_back_as_it_was_made,
    a_revision_grows_with_what_is_looked_for,
    names_are_for_one,
    lists_come_in_pages
);

async fn a_rule_comes_back_as_it_was_made(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    ok(&rest, Method::POST, RECEIVERS, &webhook("oncall")).await;
    let definition = json!({
        "name": "gap-collapse",
        "select": { "project": "vision", "labels": { "team": "optim" }, "group": "block*", "kind": "gradient", "window": 10 },
        "when": "mean(edge.ratio, 50) < 1.2 and scalar.loss > 2",
        "for": "10m",
        "keep_firing_for": 5,
        "max_age": 100,
        "severity": "critical",
        "summary": "the gap closes",
        "labels": { "page": "yes" },
        "annotations": { "runbook": "https://example.org" },
        "receivers": ["oncall"],
    });
    let made = ok(&rest, Method::POST, RULES, &definition).await;
    assert_eq!(made["definition"], definition);
    for (member, value) in [
        ("name", json!("gap-collapse")),
        ("source", json!("api")),
        ("project", json!("vision")),
        ("revision", json!(1)),
        ("pending", json!(0)),
        ("firing", json!(0)),
    ] {
        assert_eq!(made[member], value, "{member}: {made}");
    }
    assert_eq!(made["active_from"], made["updated_at"]);
    assert_eq!(
        made["condition"],
        json!({
            "kind": "expression",
            "evaluated_for": "group",
            "instrument": null,
            "terms": ["edge.ratio", "scalar.loss"],
        })
    );
    let path = format!("{RULES}/gap-collapse");
    assert_eq!(rest.get(&path).await, made);
    let event = json!({ "name": "crash", "when": "run.crashed" });
    let event = ok(&rest, Method::POST, RULES, &event).await;
    assert_eq!((&event["project"], &event["condition"]["kind"]), (&Value::Null, &json!("event")));
    let both = rest.get(RULES).await;
    assert_eq!(both, json!({ "items": [event, made], "next_cursor": null }));
    assert_eq!(rest.get(&format!("{RULES}?project=vision")).await["items"], json!([made]));

    // What is stored is what is in force.
    let server = server.restart().await;
    let rest = server.rest();
    assert_eq!(rest.get(RULES).await, both);
    assert_eq!(ok(&rest, Method::DELETE, &path, &json!({})).await, made);
    refused(&rest, (Method::GET, &path), &json!({}), 404, Some("name")).await;
    refused(&rest, (Method::DELETE, &path), &json!({}), 404, Some("name")).await;
    let server = server.restart().await;
    assert_eq!(server.rest().get(RULES).await["items"], json!([event]));
    server.shutdown().await;
}

async fn a_revision_grows_with_what_is_looked_for(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let path = format!("{RULES}/r");
    let mut definition = rule("r", None);
    definition["select"] = json!({});
    let mut last = ok(&rest, Method::POST, RULES, &definition).await;
    for (member, value, grows) in [
        ("summary", json!("other words"), false),
        ("labels", json!({ "a": "b" }), false),
        ("severity", json!("info"), false),
        ("when", json!("scalar.loss > 1"), true),
        ("for", json!(3), true),
        ("keep_firing_for", json!("1m"), true),
        ("max_age", json!(7), true),
        ("select", json!({ "labels": { "team": "optim" } }), true),
        ("annotations", json!({ "a": "b" }), false),
    ] {
        definition[member] = value;
        let now = ok(&rest, Method::PUT, &path, &definition).await;
        let grown = now["revision"].as_u64() > last["revision"].as_u64();
        assert_eq!(grown, grows, "{member}: {last} {now}");
        assert_eq!(now["active_from"] != last["active_from"], grows, "{member}: {last} {now}");
        assert_eq!((&now["rule_id"], &now["definition"]), (&last["rule_id"], &definition));
        last = now;
    }
    server.shutdown().await;
}

async fn names_are_for_one(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let made = ok(&rest, Method::POST, RULES, &rule("r", None)).await;
    refused(&rest, (Method::POST, RULES), &rule("r", Some("other")), 409, Some("name")).await;
    refused(&rest, (Method::PUT, &format!("{RULES}/s")), &rule("s", None), 404, Some("name")).await;
    refused(&rest, (Method::PUT, &format!("{RULES}/r")), &rule("s", None), 400, Some("name")).await;
    for reserved in ["check", "reload"] {
        refused(&rest, (Method::POST, RULES), &rule(reserved, None), 400, Some("name")).await;
    }
    assert_eq!(rest.get(RULES).await["items"], json!([made]));
    // The path names it.
    let nameless = json!({ "when": "run.crashed" });
    let replaced = ok(&rest, Method::PUT, &format!("{RULES}/r"), &nameless).await;
    assert_eq!((&replaced["name"], &replaced["definition"]["when"]), (&json!("r"), &json!("run.crashed")));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_wrong_with_a_rule_is_said_at_once() {
    let server = TestServer::start_on(Backend::Sqlite).await;
    let rest = server.rest();
    ok(&rest, Method::POST, RECEIVERS, &webhook("oncall")).await;
    let mut wrong = rule("r", None);
    wrong["when"] = json!("scalar.loss >\n and");
    wrong["receivers"] = json!(["nobody", "oncall", "noone"]);
    let made = refused(&rest, (Method::POST, RULES), &wrong, 400, Some("when")).await;
    let fields: Vec<&Value> = made["problems"].as_array().expect("a list").iter().map(|it| &it["field"]).collect();
    assert_eq!(fields, ["when", "receivers[0]", "receivers[2]"], "{made}");
    assert_eq!((&made["problems"][0]["line"], &made["problems"][0]["column"]), (&json!(2), &json!(2)));
    // A check says the same.
    assert_eq!(ok(&rest, Method::POST, &format!("{RULES}/check"), &wrong).await["problems"], made["problems"]);
    server.shutdown().await;
}

async fn lists_come_in_pages(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let names: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
    for name in names.iter().rev() {
        ok(&rest, Method::POST, RULES, &rule(name, Some("vision"))).await;
        ok(&rest, Method::POST, RECEIVERS, &webhook(name)).await;
    }
    for list in [RULES, RECEIVERS] {
        for limit in [1, 3, 7, 10_000] {
            let items = rest.all(&format!("{list}?limit={limit}")).await;
            let listed: Vec<&str> = items.iter().filter_map(|item| item["name"].as_str()).collect();
            assert_eq!(listed, names, "{list} {limit}");
        }
        let page = rest.get(&format!("{list}?limit=2")).await;
        let cursor = page["next_cursor"].as_str().expect("there is more");
        let other = if list == RULES { RECEIVERS } else { RULES };
        refused(&rest, (Method::GET, &format!("{other}?cursor={cursor}")), &json!({}), 400, Some("cursor")).await;
    }
    server.shutdown().await;
}
