//! `gradwatch backtest`, as a person or a script calls it.

use std::path::Path;

use gradwatch_tests::{Ended, ReservedPort, TestServer, gradwatch};
use serde_json::json;

use crate::made::{MADE, Made, TRUTH, backtest};

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

const RULES: &str = "rules:\n  - name: high\n    when: scalar.x > 0.5\n  - name: never\n    when: scalar.x > 5\n";

/// Calls the command beside the test's own server, in a directory with this file.
async fn call(rules: &str, arguments: &[&str]) -> Ended {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("rules.yaml"), rules).expect("a file");
    let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
    let call = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let dir: &Path = dir.path();
        gradwatch(dir, &[], &[&["backtest"], &arguments[..]].concat())
    };
    tokio::task::spawn_blocking(call).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_tested_from_the_shell() {
    let server = TestServer::start().await;
    let url = server.url();
    Made { truth: Some(40), high: &[10, 20], ..MADE }.stream(&url).await;
    Made { high: &[5], ..MADE }.stream(&url).await;
    Made { project: "other", ..MADE }.stream(&url).await;
    let asked = ["rules.yaml", "--runs", "project=tests", "--truth", TRUTH, "--server", &url];
    let ended = call(RULES, &asked).await.with(OK);
    ended.says("2 of 2 runs");
    for line in [
        "2 runs, 100 steps",
        "truth: scalar.acc >= 0.95: in 1 runs, not in 1",
        "a rule that always fires has precision 1/2 (9-91 %)",
        "RULE   FIRED  PRECISION     RECALL          FALSE ALARMS    LEAD  LATE  MISSED  ALERTS  FIRST STEP",
        "high   2/2    1/2 (9-91 %)  1/1 (21-100 %)  1/1 (21-100 %)  30    0     0       3       5..10",
        "never  0/2    -             0/1 (0-79 %)    0/1 (0-79 %)    -     0     1       0       -",
    ] {
        assert!(ended.stdout.lines().any(|it| it == line), "{line:?} is not in\n{}", ended.stdout);
    }

    let printed = call(RULES, &[&asked[..], &["--json"]].concat()).await.with(OK);
    assert_eq!(printed.stderr, "");
    let body = json!({ "rules": RULES, "runs": "project=tests", "truth": TRUTH });
    assert_eq!(printed.json(), backtest(&server.rest(), &body).await);

    let counted = call(RULES, &["rules.yaml", "--server", &url]).await.with(OK);
    assert!(counted.stdout.contains("3 runs, 150 steps"), "{}", counted.stdout);
    assert!(counted.stdout.lines().any(|it| it == "high   3     2      1      3       5..10"), "{}", counted.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_its_place_and_an_exit_code() {
    let server = TestServer::start().await;
    let url = server.url();
    let wrong = "rules:\n  - name: a\n    when: edge.rato > 1\n  - name: b\n    when: scalar.x and 1\n";
    let ended = call(wrong, &["rules.yaml", "--server", &url]).await.with(USAGE);
    ended.says("rules.yaml:3:11: rules[0].when: ");
    ended.says("rules.yaml:5:");
    ended.says("2 problems; nothing was tested");
    let ended = call(RULES, &["rules.yaml", "--truth", "scalar.acc", "--server", &url]).await.with(USAGE);
    ended.says("--truth:1:");
    let ended = call(RULES, &["rules.yaml", "--runs", "state=gone", "--server", &url]).await.with(USAGE);
    ended.says("runs.state");
    call(RULES, &["rules.yaml"]).await.with(USAGE).says("--server");
    call(RULES, &["missing.yaml", "--server", &url]).await.with(FAILED).says("missing.yaml");
    let closed = ReservedPort::new().url();
    call(RULES, &["rules.yaml", "--server", &closed]).await.with(UNREACHABLE);
}
