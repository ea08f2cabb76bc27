//! How a backtest is asked for, and how it answers.

use gradwatch_tests::{Backend, Peer, TestServer, on_both_backends, open_request, spec};
use http::Method;
use serde_json::{Value, json};

use crate::made::{BACKTEST, MADE, Made, TRUTH, backtest, lines, rule};

on_both_backends!(progress_is_told_line_by_line);

const HIGH: &str = "rules: [{name: high, when: scalar.x > 0.5}]";

async fn progress_is_told_line_by_line(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    for truth in [None, Some(20), Some(30)] {
        Made { truth, high: &[10], ..MADE }.stream(&server.url()).await;
    }
    let body = json!({ "rules": HIGH, "truth": TRUTH });
    let said = lines(&server.url(), None, &body).await;
    let [progress @ .., last] = said.as_slice() else { panic!("no line") };
    assert!(progress.iter().all(|line| line["type"] == "progress" && line["runs_total"] == 3), "{said:?}");
    let mut done: Vec<u64> = progress.iter().map(|line| line["runs_done"].as_u64().expect("a number")).collect();
    assert!(done.is_sorted(), "{said:?}");
    done.dedup();
    assert_eq!(done, [0, 1, 2, 3]);
    assert_eq!(last["type"], "report");
    assert_eq!(last["report"], backtest(&server.rest(), &body).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_come_as_a_file_as_a_list_or_as_those_in_force() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let run_id = Made { high: &[7], ..MADE }.stream(&server.url()).await;
    let definition = rule("high", "scalar.x > 0.5");
    let (status, answer) = rest.call(Method::POST, "/api/v1/alerts/rules", &definition.to_string()).await;
    assert!(status.is_success(), "{answer}");
    let of_file = backtest(&rest, &json!({ "rules": HIGH })).await;
    assert_eq!(of_file["rules"][0]["firings"][0]["run_id"], run_id);
    assert_eq!(of_file["rules"][0]["firings"][0]["first_step"], 7);
    assert_eq!(backtest(&rest, &json!({ "rules": [definition] })).await, of_file);
    // In force since now only; a backtest asks what they would have said.
    assert_eq!(backtest(&rest, &json!({})).await, of_file);
    // Receivers that the server knows may be named; nobody is told.
    let receiver = json!({
        "name": "oncall",
        "webhook": { "url": "https://example.org/", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] },
    });
    let (status, answer) = rest.call(Method::POST, "/api/v1/alerts/receivers", &receiver.to_string()).await;
    assert!(status.is_success(), "{answer}");
    let told = "rules: [{name: high, when: scalar.x > 0.5, receivers: [oncall]}]";
    assert_eq!(backtest(&rest, &json!({ "rules": told })).await, of_file);
    assert_eq!(rest.get("/api/v1/alerts/messages").await["items"], json!([]));
    assert_eq!(rest.get("/api/v1/alerts").await["items"], json!([]), "the run was over when the rule was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_tested_is_refused_with_its_place() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let deep = format!("{}1{} > 0", "(".repeat(10_000), ")".repeat(10_000));
    for (body, field, part) in [
        (json!({ "rules": "rules:\n  - name: a\n    when: scalar.x >\n" }), "rules[0].when", "line 3, column"),
        (json!({ "rules": "rules:\n  - name: a\n    when: edge.rato > 1\n" }), "rules[0].when", "line 3, column 11"),
        (json!({ "rules": "rules:\n  - name: a\n    when: scalar.x / 0 > 1\n" }), "rules[0].when", "line 3, column"),
        (
            json!({ "rules": [rule("a", "scalar.x > 1"), rule("b", "scalar.x and 1")] }),
            "rules[1].when",
            "line 1, column",
        ),
        (json!({ "rules": [rule("a", "scalar.x > 1"), rule("a", "scalar.x > 2")] }), "rules[1].name", "\"a\""),
        (json!({ "rules": [{ "name": "a" }] }), "rules[0].when", "missing"),
        (json!({ "rules": [7] }), "rules[0]", "object"),
        (json!({ "rules": [rule("a", &deep)] }), "rules[0].when", "line 1, column"),
        (json!({ "rules": 7 }), "rules", "YAML"),
        (
            json!({ "rules": "rules: [{name: a, when: scalar.x > 1, receivers: [nobody]}]" }),
            "rules[0].receivers[0]",
            "nobody",
        ),
        (json!({}), "rules", "none"),
        (json!({ "rules": HIGH, "truth": "scalar.acc > " }), "truth", "line 1, column"),
        (json!({ "rules": HIGH, "truth": "scalar.acc" }), "truth", "line 1, column"),
        (json!({ "rules": HIGH, "truth": 7 }), "truth", "text"),
        (json!({ "rules": HIGH, "runs": "state=gone" }), "runs.state", "gone"),
        (json!({ "rules": HIGH, "runs": "projct=a" }), "runs.projct", "did you mean project"),
        (json!({ "rules": HIGH, "runs": "sort=created" }), "runs.sort", "unknown"),
        (json!({ "rules": HIGH, "runs": "project=a,project=b" }), "runs.project", "more than once"),
        (json!({ "rules": HIGH, "run": "project=a" }), "run", "did you mean runs"),
    ] {
        let problem = rest.problem(Method::POST, BACKTEST, &body.to_string()).await;
        assert_eq!((&problem["status"], &problem["field"]), (&json!(400), &json!(field)), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{part}: {problem}");
    }
    for (body, field) in [("[]", "body"), ("{", "body"), ("", "body")] {
        let problem = rest.problem(Method::POST, BACKTEST, body).await;
        assert_eq!(problem["field"], field, "{problem}");
    }
    // Everything that is wrong is said at once.
    let two = "rules:\n  - name: a\n    when: scalar.x >\n  - name: b\n    when: scalar.x and 1\n";
    let problem = rest.problem(Method::POST, BACKTEST, &json!({ "rules": two }).to_string()).await;
    let places: Vec<&Value> = problem["problems"].as_array().expect("problems").iter().map(|it| &it["line"]).collect();
    assert_eq!(places, [&json!(3), &json!(5)], "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_rules_and_runs_and_no_more() {
    let server = TestServer::start().await;
    let mut peer = Peer::connect(&server.url()).await;
    for _ in 0..51 {
        peer.open(&open_request(spec())).await.expect("opened");
    }
    // 2,000 rules on 50 runs are as many results as 50 rules on 2,000.
    let rules: Vec<Value> = (0..2_000).map(|number| rule(&format!("rule-{number}"), "scalar.x > 1")).collect();
    let problem = server.rest().problem(Method::POST, BACKTEST, &json!({ "rules": rules }).to_string()).await;
    assert_eq!((&problem["status"], &problem["field"]), (&json!(400), &json!("runs")), "{problem}");
    let more = [&rules[..], &[rule("another", "scalar.x > 1")]].concat();
    let too_many = server.rest().problem(Method::POST, BACKTEST, &json!({ "rules": more }).to_string()).await;
    assert_eq!(too_many["detail"], "rules: are 2001; the limit is 2000");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("more than 50 runs") && detail.contains("2000 rules"), "{detail}");
    // Runs without any step are quiet.
    let report = backtest(&server.rest(), &json!({ "rules": HIGH, "truth": TRUTH })).await;
    assert_eq!((&report["runs_total"], &report["unknown_runs"], &report["steps"]), (&json!(51), &json!(51), &json!(0)));
}
