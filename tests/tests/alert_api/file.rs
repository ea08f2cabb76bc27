//! The file of rules: read as a whole or not at all, and changed nowhere else.

use gradwatch_tests::{Backend, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, SIGNING, everything, ok, refused, rule, start_with_file, webhook};

on_both_backends!(what_the_file_holds_is_changed_there, a_broken_file_changes_nothing);

/// Two rules and a receiver.
fn good() -> String {
    format!(
        "receivers:\n  - name: oncall\n    webhook:\n      url: http://127.0.0.1:9/hook\n      secrets: [{SIGNING}]\nrules:\n  \
         - name: a\n    when: edge.ratio < 1.2\n    receivers: [oncall]\n  - name: b\n    select:\n      project: vision\n    \
         when: run.crashed\n"
    )
}

async fn what_the_file_holds_is_changed_there(backend: Backend) {
    let (server, dir) = start_with_file(backend, &good()).await;
    let rest = server.rest();
    let rules = rest.get(RULES).await;
    let sources: Vec<&Value> = rules["items"].as_array().expect("items").iter().map(|rule| &rule["source"]).collect();
    assert_eq!(sources, ["file", "file"], "{rules}");
    assert_eq!((&rules["items"][1]["name"], &rules["items"][1]["project"]), (&json!("b"), &json!("vision")));
    let receiver = rest.get(&format!("{RECEIVERS}/oncall")).await;
    assert_eq!(receiver["source"], "file");
    assert_eq!(receiver["definition"]["webhook"]["secrets"], json!(["***"]));

    let before = everything(&rest).await;
    let (a, oncall) = (format!("{RULES}/a"), format!("{RECEIVERS}/oncall"));
    for (method, path, body) in [
        (Method::POST, RULES, rule("a", None)),
        (Method::PUT, &a, rule("a", None)),
        (Method::DELETE, &a, json!({})),
        (Method::POST, RECEIVERS, webhook("oncall")),
        (Method::PUT, &oncall, webhook("oncall")),
        (Method::DELETE, &oncall, json!({})),
    ] {
        refused(&rest, (method, path), &body, 409, Some("name")).await;
    }
    assert_eq!(everything(&rest).await, before);

    // What is made over REST stands beside it, and stays when the file is read again.
    let mut made = rule("c", None);
    made["receivers"] = json!(["oncall"]);
    ok(&rest, Method::POST, RULES, &made).await;
    ok(&rest, Method::POST, RECEIVERS, &webhook("other")).await;
    let changed = good().replace("1.2", "1.3").replace("name: b", "name: d");
    std::fs::write(dir.path().join("rules.yaml"), changed).expect("written");
    let reload = format!("{RULES}/reload");
    assert_eq!(ok(&rest, Method::POST, &reload, &json!({})).await, json!({ "rules": 2, "receivers": 1 }));
    let rules = rest.get(RULES).await;
    let names: Vec<&Value> = rules["items"].as_array().expect("items").iter().map(|rule| &rule["name"]).collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert_eq!(rules["items"][0]["definition"]["when"], "edge.ratio < 1.3");
    assert_eq!(rules["items"][0]["revision"], 2);
    assert_eq!(rules["items"][0]["rule_id"], before[0]["items"][0]["rule_id"]);
    server.shutdown().await;
}

async fn a_broken_file_changes_nothing(backend: Backend) {
    let (server, dir) = start_with_file(backend, &good()).await;
    let rest = server.rest();
    ok(&rest, Method::POST, RULES, &rule("made", None)).await;
    let before = everything(&rest).await;
    let condition = |condition: &str| good().replace("run.crashed", condition);
    let parentheses = format!("{}1 < 2{}", "(".repeat(10_000), ")".repeat(10_000));
    let place = Some((13, 11));
    for (text, field, place) in [
        // What a text of conditions can be wrong in.
        (condition("edge.ratio < "), "rules[1].when", None),
        (condition("edge.ratio <= 1 1"), "rules[1].when", None),
        (condition("edge.ration < 1"), "rules[1].when", place),
        (condition("edge.ratio and 1"), "rules[1].when", None),
        (condition("scalar.loss / 0 > 1"), "rules[1].when", None),
        (condition(&parentheses), "rules[1].when", None),
        // And a file.
        (good().replace("name: b", "name: a"), "rules[1].name", None),
        (good().replace("[oncall]", "[nobody]"), "rules[0].receivers[0]", None),
        (good().replace("name: b", "name: made"), "rules[1].name", None),
    ] {
        std::fs::write(dir.path().join("rules.yaml"), &text).expect("written");
        let path = format!("{RULES}/reload");
        let problem = refused(&rest, (Method::POST, &path), &json!({}), 400, Some(field)).await;
        let first = &problem["problems"][0];
        assert_eq!(first["field"], field, "{problem}");
        assert!(first["message"].as_str().is_some_and(|message| (10..500).contains(&message.len())), "{problem}");
        if field.ends_with(".when") {
            assert_eq!(first["line"], 13, "{problem}");
            assert!(first["column"].as_u64().is_some_and(|column| column >= 11), "{problem}");
        }
        if let Some(place) = place {
            assert_eq!((&first["line"], &first["column"]), (&json!(place.0), &json!(place.1)), "{problem}");
        }
        assert_eq!(everything(&rest).await, before, "{text}");
    }
    // No YAML at all, and no file at all.
    for text in [Some("rules: [\n"), Some("\u{0}"), None] {
        match text {
            Some(text) => std::fs::write(dir.path().join("rules.yaml"), text).expect("written"),
            None => std::fs::remove_file(dir.path().join("rules.yaml")).expect("removed"),
        }
        let problem = rest.problem(Method::POST, &format!("{RULES}/reload"), "").await;
        assert_eq!(problem["status"], 400, "{text:?}: {problem}");
        assert_eq!(everything(&rest).await, before, "{text:?}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_there_is_nothing_to_read() {
    let server = TestServer::start().await;
    let problem = refused(&server.rest(), (Method::POST, &format!("{RULES}/reload")), &json!({}), 409, None).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("alerts.rules_file")), "{problem}");
    server.shutdown().await;
}
