//! Runs of scalars whose firings can be said beforehand.

use std::collections::{BTreeMap, BTreeSet};

use gradwatch_client::{Frame, Run};
use gradwatch_rest::RestClient;
use gradwatch_tests::{Job, JobOptions, Rest};
use http::Method;
use serde_json::{Value, json};

pub(crate) const BACKTEST: &str = "/api/v1/alerts/backtest";
/// Steps of a made run.
pub(crate) const STEPS: u64 = 50;
/// `acc` reaches this where the truth is to come true.
pub(crate) const TRUTH: &str = "scalar.acc >= 0.95";

/// A made run.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) project: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// The step from which on `acc` is 1; it never is without.
    pub(crate) truth: Option<u64>,
    /// Whether `acc` is sent at all.
    pub(crate) sends_acc: bool,
    /// Steps at which `x` is 1; it is 0 elsewhere.
    pub(crate) high: &'static [u64],
}

pub(crate) const MADE: Made =
    Made { project: "tests", name: "made", kind: "a", truth: None, sends_acc: true, high: &[] };

impl Made {
    /// Streams it and ends it; answers its id.
    pub(crate) async fn stream(&self, url: &str) -> String {
        let options = JobOptions { len: 16, ..JobOptions::default() };
        let change = |builder: gradwatch_client::RunBuilder| {
            builder.project(self.project).name(self.name).label("kind", self.kind)
        };
        let mut job = Job::open_with(url, &options, change);
        for step in 1..=STEPS {
            self.submit(&mut job.run, step);
        }
        let run_id = job.run_id().to_string();
        job.close().await;
        run_id
    }

    pub(crate) fn submit(&self, run: &mut Run, step: u64) {
        let is = |yes: bool| f64::from(u8::from(yes));
        let mut frame = Frame::new().scalar("x", is(self.high.contains(&step))).scalar("t", step as f64);
        if self.sends_acc {
            frame = frame.scalar("acc", is(self.truth.is_some_and(|truth| step >= truth)));
        }
        if step == 12 && self.name == "warned" {
            frame = frame.happened("marked");
        }
        run.submit(step, frame).expect("a valid frame");
    }
}

/// A backtest that has to succeed.
pub(crate) async fn backtest(rest: &Rest, body: &Value) -> Value {
    let (status, answer) = rest.call(Method::POST, BACKTEST, &body.to_string()).await;
    assert_eq!(status, 200, "{body}: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// The same, line by line.
pub(crate) async fn lines(url: &str, token: Option<&str>, body: &Value) -> Vec<Value> {
    let client = RestClient::new(url, token, None).expect("valid arguments");
    let mut lines = Vec::new();
    client.lines(Method::POST, BACKTEST, Some(body), |line: Value| lines.push(line)).await.expect("an answer");
    lines
}

/// Of each rule and run: how often it fired, and first at which step.
pub(crate) type Firings = BTreeMap<(String, String), (u64, u64)>;

/// What a backtest says of runs.
pub(crate) fn said_by_backtest(report: &Value) -> Firings {
    let mut said = Firings::new();
    for rule in report["rules"].as_array().expect("rules") {
        for firing in rule["firings"].as_array().expect("firings") {
            let number = |name: &str| firing[name].as_u64().expect("a number");
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            said.insert((text(&rule["rule"]), text(&firing["run_id"])), (number("alerts"), number("first_step")));
        }
    }
    said
}

/// What live evaluation said of the live line of a run that is over; `sentinels` are rules that fire until the end of each
/// run. An alert that ended on steps that were left afterwards begins anew with the same place; it is one.
pub(crate) async fn said_live(
    rest: &Rest,
    run_id: &str,
    sentinels: &[&str],
    is_live: impl Fn(u64, u64) -> bool,
) -> Firings {
    let path = format!("/api/v1/alerts?run={run_id}&limit=10000");
    let is_over = |alert: &Value| alert["resolved_reason"] == "run_over";
    let all = |page: &Value| page["items"].as_array().expect("items").clone();
    let ended = |page: &Value| {
        let items = all(page);
        sentinels.iter().all(|sentinel| items.iter().any(|alert| alert["rule"] == *sentinel && is_over(alert)))
    };
    let page = rest.until(&path, "the end of all rules", ended).await;
    let mut places: BTreeMap<String, BTreeSet<(u64, String)>> = BTreeMap::new();
    for alert in all(&page) {
        let number = |name: &str| alert["fired"][name].as_u64();
        let (Some(segment), Some(step)) = (number("segment"), number("step")) else { continue };
        if is_live(segment, step) {
            let text = |name: &str| alert[name].as_str().expect("a text").to_owned();
            places.entry(text("rule")).or_default().insert((step, text("group")));
        }
    }
    let firings = |(rule, places): (String, BTreeSet<(u64, String)>)| {
        let (first_step, _) = places.first().expect("it fired");
        ((rule, run_id.to_owned()), (places.len() as u64, *first_step))
    };
    places.into_iter().map(firings).collect()
}

/// A rule as JSON.
pub(crate) fn rule(name: &str, when: &str) -> Value {
    json!({ "name": name, "when": when })
}
