//! The report of runs whose firings are known.

use gradwatch_client::{Frame, Run};
use gradwatch_tests::{Backend, Job, JobOptions, TestServer, on_both_backends};
use serde_json::{Value, json};

use crate::made::{MADE, Made, STEPS, TRUTH, backtest, said_by_backtest};

on_both_backends!(every_run_is_counted_as_what_it_is, long_runs_are_read_in_pieces_that_nobody_notices);

const RULES: &str = "
rules:
  - name: high
    when: scalar.x > 0.5
  - name: high-in-b
    select: {labels: {kind: b}}
    when: scalar.x > 0.5
  - name: marked
    when: job.marked
  - name: never
    when: scalar.x > 5
  - name: unsent
    when: scalar.nobody_sends_this > 5
";

const RUNS: [Made; 7] = [
    Made { name: "warned", truth: Some(40), high: &[10, 20], ..MADE },
    Made { name: "at-once", kind: "b", truth: Some(30), high: &[30], ..MADE },
    Made { name: "late", truth: Some(20), high: &[25], ..MADE },
    Made { name: "missed", truth: Some(20), ..MADE },
    Made { name: "false-alarm", kind: "b", high: &[5, 7, 9], ..MADE },
    Made { name: "quiet", ..MADE },
    Made { name: "unknown", sends_acc: false, high: &[3], ..MADE },
];

/// Of this share nothing is known.
fn none() -> Value {
    json!({ "count": 0, "of": 0, "value": null, "low": null, "high": null })
}

/// Compares to six digits: the last bits are the machine's.
fn assert_close(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-6, "{place}: {found} instead of {expected}");
        }
        (Value::Object(found), Value::Object(expected)) => {
            assert!(found.keys().eq(expected.keys()), "{place}: {found:?} instead of {expected:?}");
            expected.iter().for_each(|(name, value)| assert_close(&found[name], value, &format!("{place}.{name}")));
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{place}: {found:?} instead of {expected:?}");
            for (at, value) in expected.iter().enumerate() {
                assert_close(&found[at], value, &format!("{place}[{at}]"));
            }
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

async fn every_run_is_counted_as_what_it_is(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let mut ids = Vec::new();
    for run in &RUNS {
        ids.push(run.stream(&server.url()).await);
    }
    // Runs that nobody asks for.
    Made { project: "other", high: &[1], ..MADE }.stream(&server.url()).await;

    let body = json!({ "rules": RULES, "runs": "project=tests,state=finished", "truth": TRUTH });
    let report = backtest(&server.rest(), &body).await;
    let firing = |run: usize, first_step: u64, alerts: u64, lead: Option<u64>| json!({ "run_id": ids[run], "first_step": first_step, "alerts": alerts, "lead": lead });
    let zero_of = |of: u64, high: f64| json!({ "count": 0, "of": of, "value": 0.0, "low": 0.0, "high": high });
    let no_lead = json!({ "runs": 0, "median": null, "low": null, "high": null });
    let quiet = json!({
        "true_positives": 0, "late": 0, "missed": 4, "false_alarm_runs": 0, "false_alarms": 0, "true_negatives": 2,
        "precision": none(),
        "recall": zero_of(4, 0.489_890_8),
        "false_alarm_rate": zero_of(2, 0.657_619_8),
        "lead": no_lead,
    });
    let run = |at: usize, truth: &str, truth_step: Option<u64>| json!({ "run_id": ids[at], "name": RUNS[at].name, "truth": truth, "truth_step": truth_step });
    let expected = json!({
        "truth": TRUTH,
        "runs_total": 7, "positive_runs": 4, "negative_runs": 2, "unknown_runs": 1,
        "base_rate": { "count": 4, "of": 6, "value": 2.0 / 3.0, "low": 0.299_993_3, "high": 0.903_228_6 },
        "steps": 7 * STEPS,
        "rules": [
            {
                "rule": "high", "when": "scalar.x > 0.5", "severity": "warning",
                "runs": 6, "fired": 4, "quiet": 2, "alerts": 7,
                "judgement": {
                    "true_positives": 2, "late": 1, "missed": 1,
                    "false_alarm_runs": 1, "false_alarms": 3, "true_negatives": 1,
                    "precision": { "count": 2, "of": 3, "value": 2.0 / 3.0, "low": 0.207_659_6, "high": 0.938_508_1 },
                    "recall": { "count": 2, "of": 4, "value": 0.5, "low": 0.150_039_0, "high": 0.849_961_0 },
                    "false_alarm_rate": { "count": 1, "of": 2, "value": 0.5, "low": 0.094_531_2, "high": 0.905_468_8 },
                    // Of 30 and 0: a resample is one of them twice, or both.
                    "lead": { "runs": 2, "median": 15.0, "low": 0.0, "high": 30.0 },
                },
                "firings": [
                    firing(0, 10, 2, Some(30)), firing(1, 30, 1, Some(0)), firing(2, 25, 1, None), firing(4, 5, 3, None),
                ],
            },
            {
                "rule": "high-in-b", "when": "scalar.x > 0.5", "severity": "warning",
                "runs": 2, "fired": 2, "quiet": 0, "alerts": 4,
                "judgement": {
                    "true_positives": 1, "late": 0, "missed": 0,
                    "false_alarm_runs": 1, "false_alarms": 3, "true_negatives": 0,
                    "precision": { "count": 1, "of": 2, "value": 0.5, "low": 0.094_531_2, "high": 0.905_468_8 },
                    "recall": { "count": 1, "of": 1, "value": 1.0, "low": 0.206_549_3, "high": 1.0 },
                    "false_alarm_rate": { "count": 1, "of": 1, "value": 1.0, "low": 0.206_549_3, "high": 1.0 },
                    "lead": { "runs": 1, "median": 0.0, "low": null, "high": null },
                },
                "firings": [firing(1, 30, 1, Some(0)), firing(4, 5, 3, None)],
            },
            {
                "rule": "marked", "when": "job.marked", "severity": "warning",
                "runs": 6, "fired": 1, "quiet": 5, "alerts": 1,
                "judgement": {
                    "true_positives": 1, "late": 0, "missed": 3,
                    "false_alarm_runs": 0, "false_alarms": 0, "true_negatives": 2,
                    "precision": { "count": 1, "of": 1, "value": 1.0, "low": 0.206_549_3, "high": 1.0 },
                    "recall": { "count": 1, "of": 4, "value": 0.25, "low": 0.045_587_3, "high": 0.699_358_2 },
                    "false_alarm_rate": zero_of(2, 0.657_619_8),
                    "lead": { "runs": 1, "median": 28.0, "low": null, "high": null },
                },
                "firings": [firing(0, 12, 1, Some(28))],
            },
            {
                "rule": "never", "when": "scalar.x > 5", "severity": "warning",
                "runs": 6, "fired": 0, "quiet": 6, "alerts": 0, "judgement": quiet, "firings": [],
            },
            {
                "rule": "unsent", "when": "scalar.nobody_sends_this > 5", "severity": "warning",
                "runs": 6, "fired": 0, "quiet": 6, "alerts": 0, "judgement": quiet, "firings": [],
            },
        ],
        "runs": [
            run(0, "positive", Some(40)), run(1, "positive", Some(30)), run(2, "positive", Some(20)),
            run(3, "positive", Some(20)), run(4, "negative", None), run(5, "negative", None), run(6, "unknown", None),
        ],
    });
    assert_close(&report, &expected, "report");

    // Without a truth runs are only counted, also those of which the truth would be unknown.
    let counted = backtest(&server.rest(), &json!({ "rules": RULES, "runs": "label.kind=a&project=tests" })).await;
    for member in ["truth", "positive_runs", "negative_runs", "unknown_runs", "base_rate"] {
        assert!(counted[member].is_null(), "{member}: {counted}");
    }
    let high = &counted["rules"][0];
    assert_eq!((&high["runs"], &high["fired"], &high["judgement"]), (&json!(5), &json!(3), &Value::Null), "{high}");

    // An event is a truth as well. It can be looked for in every run.
    let body = json!({ "rules": RULES, "runs": "project=tests", "truth": "job.marked" });
    let marked = backtest(&server.rest(), &body).await;
    assert_eq!((&marked["positive_runs"], &marked["negative_runs"]), (&json!(1), &json!(6)), "{marked}");
    assert_eq!(marked["rules"][2]["judgement"]["lead"]["median"], 0.0, "{marked}");
}

/// More steps than are read at once.
const LONG: u64 = 9_000;

async fn long_runs_are_read_in_pieces_that_nobody_notices(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let mut job = Job::open(&server.url(), &JobOptions { len: 16, ..JobOptions::default() });
    // `x` is a saw of 97 steps: pieces of a power of two of steps begin everywhere in it.
    let submit = |run: &mut Run, step: u64| {
        run.submit(step, Frame::new().scalar("x", (step % 97) as f64)).expect("a valid frame");
    };
    for step in 1..=LONG {
        submit(&mut job.run, step);
        if step % 1_000 == 0 {
            job.settled(step).await;
        }
    }
    let run_id = job.run_id().to_string();
    job.close().await;
    let rules = json!([
        // Over the last 50 values: above 70.5 at the saw's last two teeth.
        { "name": "mean", "when": "mean(scalar.x, 50) > 70.4" },
        { "name": "drop", "when": "delta(scalar.x) < 0" },
        { "name": "held", "when": "scalar.x >= 10", "for": 87 },
        { "name": "late", "when": "scalar.x == 0 and delta(scalar.x) == -96" },
    ]);
    let report = backtest(&server.rest(), &json!({ "rules": rules, "truth": "scalar.x < 0" })).await;
    assert_eq!((&report["steps"], &report["negative_runs"]), (&json!(LONG), &json!(1)), "{report}");
    let teeth = LONG / 97;
    let said = said_by_backtest(&report);
    let of = |rule: &str| said[&(rule.to_owned(), run_id.clone())];
    // Mean of 47..=96 is 71.5, of 46..=95 is 70.5.
    assert_eq!(of("mean"), (teeth, 95));
    assert_eq!(of("drop"), (teeth, 97));
    assert_eq!(of("held"), (teeth, 96));
    assert_eq!(of("late"), (teeth, 97));
}
