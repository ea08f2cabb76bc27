//! A backtest says what live evaluation said, step for step.

use gradwatch_tests::{Backend, Job, JobOptions, TestServer, on_both_backends, random_walk};
use http::Method;
use serde_json::{Value, json};

use crate::made::{backtest, said_by_backtest, said_live};

on_both_backends!(a_rewound_run_and_a_restarted_server_change_nothing);

fn rules() -> Vec<Value> {
    vec![
        // Until the run is over.
        json!({ "name": "always", "when": "scalar.loss >= 0" }),
        json!({ "name": "ratio", "when": "edge.ratio > 1.15" }),
        json!({ "name": "ratio-held", "when": "edge.ratio > 1.08", "for": 3 }),
        json!({ "name": "ratio-kept", "when": "edge.ratio < 1.1", "keep_firing_for": 5 }),
        json!({ "name": "norm", "when": "zscore(edge.update_norm, 20) > 1.5" }),
        json!({ "name": "trend", "when": "slope(edge.gap, 30) > 0 and delta(edge.gap) > 0", "for": 2 }),
        json!({ "name": "quantile", "when": "edge.ratio > quantile(edge.ratio, 0.9, 50)" }),
        json!({ "name": "started", "when": "segment.started", "keep_firing_for": 3 }),
        json!({ "name": "settled", "when": "transition to plateau" }),
        json!({ "name": "spike", "when": "update.spike", "keep_firing_for": 10 }),
        json!({ "name": "stalled", "when": "run.stalled", "for": "20m" }),
    ]
}

async fn a_rewound_run_and_a_restarted_server_change_nothing(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    for rule in rules() {
        let (status, answer) = server.rest().call(Method::POST, "/api/v1/alerts/rules", &rule.to_string()).await;
        assert!(status.is_success(), "{answer}");
    }
    let options = JobOptions::default();
    let (mut first, mut second) = (random_walk(1, 300, options.len), random_walk(2, 400, options.len));
    // One update of each line is a spike.
    for (line, at) in [(&mut first, 190), (&mut second, 330)] {
        line[at..].iter_mut().flatten().for_each(|parameter| *parameter += 10.0);
    }
    let mut job = Job::open(&server.url(), &options);
    let run_id = job.run_id().to_string();
    (1..=150).for_each(|step| job.submit(step, &first[step as usize]));
    job.settled(150).await;
    let server = server.restart().await;
    (151..=300).for_each(|step| job.submit(step, &first[step as usize]));
    job.settled(300).await;
    // What is behind step 200 is left.
    (201..=260).for_each(|step| job.submit(step, &second[step as usize]));
    job.settled(360).await;
    let server = server.restart().await;
    (261..=400).for_each(|step| job.submit(step, &second[step as usize]));
    job.close().await;

    let is_live = |segment: u64, step: u64| segment == 2 || step <= 200;
    let live = said_live(&server.rest(), &run_id, &["always"], is_live).await;
    let report = backtest(&server.rest(), &json!({ "rules": rules() })).await;
    let tested = said_by_backtest(&report);
    assert_eq!(live, tested);
    let fired: Vec<&str> = live.keys().map(|(rule, _)| rule.as_str()).collect();
    for rule in ["ratio", "ratio-held", "ratio-kept", "norm", "trend", "quantile", "started", "spike"] {
        assert!(fired.contains(&rule), "{rule} never fired, which compares nothing: {live:?}");
    }
    assert_eq!(report["steps"], 400, "the steps that were left count for nothing");
}
