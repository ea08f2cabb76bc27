//! A token of one project tests rules on runs of that project, and sees no others.

use gradwatch_client::RunBuilder;
use gradwatch_server::access::Secret;
use gradwatch_tests::{Job, JobOptions, Rest, TestServer};
use http::Method;
use serde_json::{Value, json};

use crate::made::{BACKTEST, MADE, Made, STEPS, backtest, lines, rule};

const BOOTSTRAP: &str = "gw_bootstrap_token_of_the_backtest_tests_0123456789";

async fn token(all: &Rest, project: Option<&str>, scope: &str) -> String {
    let body = json!({ "name": "a test", "project": project, "scopes": [scope] }).to_string();
    let (status, answer) = all.call(Method::POST, "/api/v1/tokens", &body).await;
    assert_eq!(status, 201, "{answer}");
    let made: Value = serde_json::from_str(&answer).expect("JSON");
    made["token"].as_str().expect("a token").to_owned()
}

async fn stream(url: &str, project: &'static str) {
    let made = Made { project, high: &[5], ..MADE };
    let change = |builder: RunBuilder| builder.project(project).token(BOOTSTRAP);
    let mut job = Job::open_with(url, &JobOptions { len: 16, ..JobOptions::default() }, change);
    (1..=STEPS).for_each(|step| made.submit(&mut job.run, step));
    job.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_project_sees_no_other_runs_and_rules() {
    let server = TestServer::start_with(|config| {
        config.access.require_tokens = true;
        config.bootstrap_token = Some(Secret::chosen(BOOTSTRAP.to_owned()).expect("long enough"));
    })
    .await;
    for project in ["alpha", "beta", "beta"] {
        stream(&server.url(), project).await;
    }
    let all = server.rest().with_token(BOOTSTRAP);
    let mut own = rule("own", "scalar.x > 0.5");
    own["select"] = json!({ "project": "alpha" });
    for definition in [own, rule("everywhere", "scalar.x > 0.5")] {
        let (status, answer) = all.call(Method::POST, "/api/v1/alerts/rules", &definition.to_string()).await;
        assert!(status.is_success(), "{answer}");
    }
    let reader = token(&all, Some("alpha"), "read").await;
    let alpha = server.rest().with_token(&reader);

    let given = json!({ "rules": [rule("given", "scalar.x > 0.5")] });
    assert_eq!(backtest(&all, &given).await["rules"][0]["fired"], 3);
    assert_eq!(backtest(&alpha, &given).await["rules"][0]["fired"], 1);
    let told = lines(&server.url(), Some(&reader), &given).await;
    assert_eq!(told.last().expect("a line")["report"]["runs_total"], 1, "{told:?}");

    let names = |report: &Value| -> Vec<String> {
        report["rules"].as_array().expect("rules").iter().map(|rule| rule["rule"].to_string()).collect()
    };
    assert_eq!(names(&backtest(&all, &json!({})).await), ["\"everywhere\"", "\"own\""]);
    assert_eq!(names(&backtest(&alpha, &json!({})).await), ["\"own\""]);

    // Which receivers there are is not for it to know, as in `rules/check`.
    let receiver = json!({ "name": "oncall", "slack": { "url": "https://chat.example.org/hook" } }).to_string();
    let (status, answer) = all.call(Method::POST, "/api/v1/alerts/receivers", &receiver).await;
    assert!(status.is_success(), "{answer}");
    let misspelt = "rules: [{name: r, when: run.crashed, receivers: [oncal]}]";
    let misspelt = json!({ "rules": misspelt }).to_string();
    for (rest, tells) in [(&all, true), (&alpha, false)] {
        let problem = rest.problem(Method::POST, BACKTEST, &misspelt).await;
        assert_eq!(problem["problems"][0]["field"], "rules[0].receivers[0]", "{problem}");
        assert_eq!(problem.to_string().contains("`oncall`"), tells, "{problem}");
    }

    let beta = json!({ "rules": given["rules"], "runs": "project=beta" }).to_string();
    let problem = alpha.problem(Method::POST, BACKTEST, &beta).await;
    assert_eq!((&problem["status"], &problem["field"]), (&json!(403), &json!("runs.project")), "{problem}");
    let sender = server.rest().with_token(&token(&all, Some("alpha"), "ingest").await);
    assert_eq!(sender.problem(Method::POST, BACKTEST, &given.to_string()).await["status"], 403);
    assert_eq!(server.rest().problem(Method::POST, BACKTEST, &given.to_string()).await["status"], 401);
}
