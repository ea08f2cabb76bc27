//! Rules are checked without being made.

use gradwatch_tests::TestServer;
use http::Method;
use serde_json::{Value, json};

use crate::made::{RECEIVERS, RULES, everything, ok, rule, webhook};

async fn yaml(server: &TestServer, text: &str) -> Value {
    let path = format!("{RULES}/check");
    let (head, body) = server.rest().exchange_as("application/yaml", Method::POST, &path, text).await;
    assert_eq!(head.status, 200, "{text}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_what_is_wrong_and_changes_nothing() {
    let server = TestServer::start().await;
    let rest = server.rest();
    ok(&rest, Method::POST, RECEIVERS, &webhook("oncall")).await;
    let before = everything(&rest).await;
    let check = format!("{RULES}/check");

    let mut right = rule("r", None);
    right["receivers"] = json!(["oncall"]);
    let condition =
        json!({ "kind": "expression", "evaluated_for": "run", "instrument": null, "terms": ["scalar.loss"] });
    let rules = json!([{ "name": "r", "condition": condition }]);
    let valid = json!({ "valid": true, "problems": [], "rules": rules, "receivers": [] });
    assert_eq!(ok(&rest, Method::POST, &check, &right).await, valid);

    for (member, value, field) in [
        ("when", json!("scalar.loss >"), "when"),
        ("when", json!(7), "when"),
        ("receivers", json!(["oncall", "nobody"]), "receivers[1]"),
        ("for", json!("soon"), "for"),
        ("severity", json!("fatal"), "severity"),
        ("sumary", json!("x"), "sumary"),
        ("select", json!({ "projekt": "x" }), "select.projekt"),
        ("summary", json!("a\u{0}"), "summary"),
    ] {
        let mut wrong = right.clone();
        wrong[member] = value;
        let checked = ok(&rest, Method::POST, &check, &wrong).await;
        assert_eq!((&checked["valid"], &checked["rules"]), (&json!(false), &json!([])), "{checked}");
        assert_eq!(checked["problems"][0]["field"], field, "{wrong}: {checked}");
    }
    let checked = ok(&rest, Method::POST, &check, &json!({})).await;
    assert_eq!(checked["problems"][0]["field"], "name", "{checked}");

    // A file may name receivers of its own, and those that were made.
    let file = "receivers:\n  - name: chat\n    slack:\n      url: https://hooks.slack.com/services/x\nrules:\n  - name: a\n    \
                when: run.crashed\n    receivers: [chat, oncall]\n";
    let checked = yaml(&server, file).await;
    assert_eq!((&checked["valid"], &checked["receivers"]), (&json!(true), &json!(["chat"])), "{checked}");
    let checked = yaml(&server, &file.replace("run.crashed", "run.chrashed")).await;
    let problem = &checked["problems"][0];
    assert_eq!(
        (&problem["field"], &problem["line"], &problem["column"]),
        (&json!("rules[0].when"), &json!(7), &json!(11)),
        "{checked}"
    );
    assert_eq!(everything(&rest).await, before);

    // A body of another type is not read.
    let (head, body) = rest.exchange_as("text/plain", Method::POST, &check, file).await;
    assert_eq!(head.status, 400, "{body}");
    // One that is longer than any file may be is not read to its end.
    let (head, body) =
        rest.exchange_as("application/yaml", Method::POST, &check, &"#".repeat(4 * 1024 * 1024 + 1)).await;
    assert_eq!(head.status, 413, "{body}");
    server.shutdown().await;
}
