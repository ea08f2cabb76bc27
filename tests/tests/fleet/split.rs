//! `error_split` of made crosses.

use gradwatch_tests::{Backend, Rest, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{Made, assert_near, at, failed, members, predicted, result};

on_both_backends!(the_parts_of_a_made_cross_add_up, what_is_no_cross_is_refused_by_name);

const DATA_SEEDS: [&str; 2] = ["1", "2"];
const INIT_SEEDS: [&str; 3] = ["a", "b", "c"];
const TARGETS: [f32; 2] = [1.0, -1.0];

/// What run (row, column) predicts: binary fractions, so that float32 holds them exactly.
fn predictions(row: usize, column: usize) -> [f32; 2] {
    let (row, column) = (row as f32, column as f32);
    [1.5 + 0.5 * row + 0.25 * column, -0.5 + row * column]
}

async fn open(url: &str, data_seed: &str, init_seed: &str) -> Made {
    let labels = [("sweep", "x"), ("data_seed", data_seed), ("init_seed", init_seed)];
    Made::open(url, &format!("{data_seed}{init_seed}"), &labels).await
}

fn request(labels: Value) -> Value {
    json!({"project": "tests", "labels": labels, "probe": "held"})
}

/// The cross; all have step 100, all but the last one step 200 as well, with other values.
async fn cross(url: &str, rest: &Rest) -> Vec<Made> {
    let mut runs = Vec::new();
    for (row, data_seed) in DATA_SEEDS.into_iter().enumerate() {
        for (column, init_seed) in INIT_SEEDS.into_iter().enumerate() {
            let mut run = open(url, data_seed, init_seed).await;
            run.send([predicted(at(100), "held", &predictions(row, column), &TARGETS)]).await;
            if (row, column) != (1, 2) {
                run.send([predicted(at(200), "held", &[0.0, 0.0], &TARGETS)]).await;
            }
            run.finish(rest).await;
            runs.push(run);
        }
    }
    runs
}

/// (bias, statistical, width/seed, interaction, total) of the made predictions, straight from their definition.
fn expected() -> [f64; 5] {
    let mut parts = [0.0; 5];
    for (sample, target) in TARGETS.into_iter().map(f64::from).enumerate() {
        let value = |row: usize, column: usize| f64::from(predictions(row, column)[sample]);
        let mean = (0..6).map(|it| value(it / 3, it % 3)).sum::<f64>() / 6.0;
        let row_effect = |row: usize| (0..3).map(|column| value(row, column)).sum::<f64>() / 3.0 - mean;
        let column_effect = |column: usize| (0..2).map(|row| value(row, column)).sum::<f64>() / 2.0 - mean;
        parts[0] += (mean - target).powi(2) / 2.0;
        for (row, column) in (0..6).map(|it| (it / 3, it % 3)) {
            let value = value(row, column);
            let left = value - mean - row_effect(row) - column_effect(column);
            let squares =
                [row_effect(row).powi(2), column_effect(column).powi(2), left.powi(2), (value - target).powi(2)];
            for (part, square) in parts[1..].iter_mut().zip(squares) {
                *part += square / 12.0;
            }
        }
    }
    parts
}

async fn the_parts_of_a_made_cross_add_up(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    let runs = cross(&url, &rest).await;
    // Of the same sweep, but of no place in it; and a second run in a place, which never came to predictions.
    let mut unseeded = Made::open(&url, "unseeded", &[("sweep", "x"), ("data_seed", "1")]).await;
    unseeded.send([predicted(at(100), "held", &[9.0, 9.0], &TARGETS)]).await;
    let mut silent = open(&url, "1", "a").await;
    silent.send([predicted(at(100), "train", &[9.0, 9.0], &[])]).await;

    // The last step that all have.
    for step in [Value::Null, json!("last"), json!(100)] {
        let mut request = request(json!({"sweep": "x"}));
        request["step"] = step;
        let found = result(&rest, "error_split", request).await;
        assert_eq!((&found["step"], &found["n"]), (&json!(100), &json!(2)));
        assert_eq!((&found["data_seeds"], &found["init_seeds"]), (&json!(DATA_SEEDS), &json!(INIT_SEEDS)));
        let names = ["bias", "statistical", "width_seed", "interaction", "total"];
        for (name, expected) in names.into_iter().zip(expected()) {
            assert_near(&found[name], expected, name);
            assert!(expected > 0.01, "{name} is of no use");
        }
        let sum: f64 = names[..4].iter().map(|name| found[*name].as_f64().expect("a number")).sum();
        assert_near(&found["total"], sum, "the sum of the parts");
        let ids: Vec<&str> = runs.iter().map(Made::run_id).collect();
        assert_eq!(members(&found["runs"], "run_id"), ids);
        let mut reasons: Vec<String> =
            members(&found["left_out"], "reason").into_iter().map(ToString::to_string).collect();
        reasons.sort();
        assert_eq!(reasons, ["\"no_init_seed\"", "\"no_predictions\""]);
    }
    server.shutdown().await;
}

async fn what_is_no_cross_is_refused_by_name(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let (url, rest) = (server.url(), server.rest());
    let runs = cross(&url, &rest).await;
    let refused = async |change: Value, field: &str, parts: &[&str]| {
        let mut request = request(json!({}));
        for (name, value) in change.as_object().expect("members") {
            request[name] = value.clone();
        }
        let problem = failed(&rest, "error_split", request.clone()).await;
        assert_eq!((&problem["code"], &problem["field"]), (&json!("conflict"), &json!(field)), "{request}: {problem}");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(parts.iter().all(|part| detail.contains(part)), "{request}: {detail}");
    };
    // One lacks this step.
    refused(json!({"step": 200}), "labels", &["data_seed 2 with init_seed c"]).await;
    refused(json!({"step": 150}), "probe", &["\"held\""]).await;
    refused(json!({"probe": "other"}), "probe", &["\"other\"", "no_predictions"]).await;
    refused(json!({"labels": {"data_seed": "1"}}), "labels", &["1 distinct data_seed"]).await;
    // Two in one place.
    let mut second = open(&url, "1", "b").await;
    second.send([predicted(at(100), "held", &[0.0, 0.0], &TARGETS)]).await;
    let (first, other) = (runs[1].run_id(), second.run_id());
    refused(json!({}), "labels", &[first, other, "data_seed 1 and init_seed b"]).await;
    // Not about the same batch: other targets, another length.
    let delete = async |run_id: &str| {
        let (status, _) = rest.call(Method::DELETE, &format!("/api/v1/runs/{run_id}"), "").await;
        assert_eq!(status, 202);
    };
    delete(first).await;
    delete(other).await;
    let mut odd = open(&url, "1", "b").await;
    odd.send([predicted(at(100), "held", &[0.0, 0.0], &[1.0, 1.0])]).await;
    refused(json!({}), "probe", &["different targets", odd.run_id()]).await;
    delete(odd.run_id()).await;
    let mut long = open(&url, "1", "b").await;
    long.send([predicted(at(100), "held", &[0.0, 0.0, 0.0], &[])]).await;
    refused(json!({}), "probe", &["3 values"]).await;
    // Nothing in a place.
    delete(long.run_id()).await;
    delete(runs[5].run_id()).await;
    refused(json!({}), "labels", &["data_seed 1 with init_seed b; data_seed 2 with init_seed c"]).await;
    // No step in common.
    let mut late = open(&url, "1", "b").await;
    late.send([predicted(at(300), "held", &[0.0, 0.0], &TARGETS)]).await;
    let mut later = open(&url, "2", "c").await;
    later.send([predicted(at(400), "held", &[0.0, 0.0], &TARGETS)]).await;
    refused(json!({}), "step", &["in common"]).await;
    server.shutdown().await;
}
