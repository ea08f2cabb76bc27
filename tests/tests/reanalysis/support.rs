//! Runs to compute on, and what is said of analyses.

use std::time::Duration;

use gradwatch_client::Encoding;
use gradwatch_tests::{Job, JobOptions, Offline, PATIENCE, Rest, TENSOR, exact_sketches, random_walk, rows};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Steps of a made job: the change is behind the middle.
pub(crate) const STEPS: usize = 220;

/// A made training job.
pub(crate) struct Made {
    pub(crate) options: JobOptions,
    pub(crate) parameters: Vec<Vec<f32>>,
}

impl Made {
    pub(crate) fn new(groups: &[(&'static str, u64)]) -> Self {
        let options =
            JobOptions { dim: 64, windows: vec![10, 5], len: 500, groups: groups.to_vec(), ..JobOptions::default() };
        let parameters = random_walk(11, STEPS, options.len);
        Self { options, parameters }
    }

    /// Streams all of it; answers the run.
    pub(crate) async fn stream(&self, url: &str, encoding: Encoding) -> Uuid {
        let mut job = Job::open_with(url, &self.options, |builder| builder.encoding(encoding));
        let run_id = job.run_id();
        for (step, parameters) in (0..).zip(&self.parameters) {
            job.submit(step, parameters);
        }
        job.close().await;
        run_id
    }

    /// What windows read off a group that is submitted every `every` steps.
    pub(crate) fn offline(&self, every: u64, windows: &[u32]) -> Offline {
        Offline::compute(&self.rows(every), windows, self.options.len)
    }

    pub(crate) fn rows(&self, every: u64) -> Vec<gradwatch_tests::Row> {
        let parameters: Vec<_> = self.parameters.iter().step_by(every as usize).cloned().collect();
        rows(exact_sketches(&parameters, TENSOR, self.options.dim, self.options.seed), every)
    }
}

/// The path of an analysis.
pub(crate) fn path(run_id: impl std::fmt::Display, name: &str) -> String {
    format!("/api/v1/runs/{run_id}/analyses/{name}")
}

/// A call that is made again while the store cannot answer: connections of a crashed server's runtime fail once each.
async fn call(rest: &Rest, method: Method, path: &str, body: &str) -> (StatusCode, String) {
    let calling = async {
        loop {
            let (status, answer) = rest.call(method.clone(), path, body).await;
            if status != StatusCode::SERVICE_UNAVAILABLE {
                return (status, answer);
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, calling).await.expect("a store that answers")
}

async fn get(rest: &Rest, path: &str) -> Value {
    let (status, answer) = call(rest, Method::GET, path, "").await;
    assert_eq!(status, StatusCode::OK, "GET {path}: {answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// Waits until an analysis is so.
pub(crate) async fn until(rest: &Rest, path: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let analysis = get(rest, path).await;
            if condition(&analysis) {
                return analysis;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{path} never showed {what}"))
}

/// Begins an analysis; answers it as it was said to be.
pub(crate) async fn begin(rest: &Rest, run_id: impl std::fmt::Display, body: &Value) -> Value {
    let (status, answer) =
        call(rest, Method::POST, &format!("/api/v1/runs/{run_id}/reanalyze"), &body.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    serde_json::from_str(&answer).expect("JSON")
}

/// Waits until an analysis is done; answers it.
pub(crate) async fn done(rest: &Rest, run_id: impl std::fmt::Display, name: &str) -> Value {
    let analysis = until(rest, &path(run_id, name), "an end", |analysis| analysis["state"] != "running").await;
    assert_eq!((&analysis["state"], &analysis["message"]), (&json!("done"), &Value::Null), "{analysis}");
    assert_eq!(analysis["rows_done"], analysis["rows_total"], "{analysis}");
    analysis
}

/// Begins an analysis and waits until it is done.
pub(crate) async fn analyse(rest: &Rest, run_id: impl std::fmt::Display, body: Value) -> Value {
    let name = body["name"].as_str().expect("a name").to_owned();
    begin(rest, &run_id, &body).await;
    done(rest, &run_id, &name).await
}

/// All readings of a stream in an analysis, of all segments.
pub(crate) async fn readings(rest: &Rest, run_id: impl std::fmt::Display, analysis: &str, stream: &str) -> Vec<Value> {
    let path = format!("/api/v1/runs/{run_id}/readings/edge?segment=all&limit=1000&analysis={analysis}&{stream}");
    let mut page = get(rest, &path).await;
    assert!(page["next_cursor"].is_null(), "{path}: more than a page");
    std::mem::take(page["items"].as_array_mut().expect("items"))
}
