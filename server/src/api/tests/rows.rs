//! Readings and steps.

use axum::http::{Method, StatusCode, header};
use gradwatch_spectral::catalogue::EDGE_METRICS;
use serde_json::Value;

use super::fixture::{Api, FIRST, RESUMED_AT, SECOND, of_run, readings};

/// (segment, step) of the live line.
fn live_line() -> Vec<(u64, u64)> {
    let first = (*FIRST.start()..=RESUMED_AT).map(|step| (1, step));
    first.chain(SECOND.map(|step| (2, step))).collect()
}

fn places(items: &[Value]) -> Vec<(u64, u64)> {
    items.iter().map(|item| (item["segment"].as_u64().unwrap(), item["step"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn pages_join_to_the_live_line_without_hole_or_repetition() {
    let api = Api::with_run().await;
    for path in ["/readings/edge", "/steps"] {
        for limit in [499, 1_500, 10_000] {
            assert_eq!(places(&api.pages(&of_run(path), limit).await), live_line(), "{path} {limit}");
        }
        let cut = api.pages(&of_run(&format!("{path}?from_step=1400&to_step=1600")), 7).await;
        let expected: Vec<(u64, u64)> =
            live_line().into_iter().filter(|(_, step)| (1_400..=1_600).contains(step)).collect();
        assert_eq!(places(&cut), expected, "{path}");
        let one = api.pages(&of_run(&format!("{path}?segment=1&from_step=1490")), 100).await;
        assert_eq!(places(&one), (1_490..=2_000).map(|step| (1, step)).collect::<Vec<_>>(), "{path}");
        let all = api.pages(&of_run(&format!("{path}?segment=all")), 1_000).await;
        assert_eq!(all.len(), FIRST.count() + SECOND.count(), "{path}");
    }
}

#[tokio::test]
async fn a_reading_holds_every_metric_or_null() {
    let api = Api::with_run().await;
    let page = api.ok(&of_run("/readings/edge?from_step=2&to_step=9")).await;
    assert_eq!(
        (page["group"].as_str(), page["kind"].as_str(), page["window"].as_u64()),
        (Some("all"), Some("update"), Some(3))
    );
    assert_eq!(page["analysis"], "live");
    let rows = page["items"].as_array().unwrap();
    let stored = readings(1, FIRST);
    for (row, stored) in rows.iter().zip(&stored[1..]) {
        for metric in EDGE_METRICS {
            let found = match metric.short.rsplit_once('_') {
                Some((name @ ("alpha" | "alpha_spectral" | "overlap" | "loss_terms" | "sigma"), j)) => {
                    let array = row.get(name).unwrap_or_else(|| panic!("no {name}"));
                    array.get(j.parse::<usize>().unwrap() - 1).cloned().unwrap_or(Value::Null)
                }
                _ => row.get(metric.short).unwrap_or_else(|| panic!("no {}", metric.short)).clone(),
            };
            assert_eq!(found.as_f64(), stored.edge.value(metric.short), "{} at {}", metric.short, row["step"]);
        }
    }
    assert_eq!(rows[0]["warming"], true);
    assert_eq!(rows[0]["ratio"], Value::Null);
    assert_eq!(rows[0]["wall_time"], "2023-11-14T22:13:20.000002Z");
    assert_eq!(rows[5]["warming"], false);
    assert_eq!(rows[5]["unresolved"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn tables_hold_the_same_rows() {
    let api = Api::with_run().await;
    let path = of_run("/readings/edge?limit=1700");
    let json = api.ok(&path).await;
    let items = json["items"].as_array().unwrap();

    let reply = api.send(Method::GET, &path, &[("accept", "application/x-ndjson")], "").await;
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/x-ndjson");
    let lines: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&lines, items);

    let reply = api.send(Method::GET, &path, &[("accept", "text/csv")], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    let mut lines = reply.text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    for name in ["sigma_1", "sigma_3", "alpha_2", "unresolved_3", "norm_z"] {
        assert!(header.contains(&name), "{name}");
    }
    assert!(!header.contains(&"sigma_4"));
    let rows: Vec<Vec<&str>> = lines.collect();
    assert_eq!(rows.len(), items.len());
    for (row, item) in rows.iter().zip(items) {
        assert_eq!(row.len(), header.len());
        for (name, cell) in header.iter().zip(row) {
            let expected = match item.get(name) {
                Some(value) => value.clone(),
                None => {
                    let (name, j) = name.rsplit_once('_').unwrap();
                    item[name].get(j.parse::<usize>().unwrap() - 1).cloned().unwrap_or(Value::Null)
                }
            };
            match expected {
                Value::Null => assert_eq!(*cell, "", "{name}"),
                Value::Number(number) => assert_eq!(cell.parse::<f64>().ok(), number.as_f64(), "{name}"),
                Value::Bool(value) => assert_eq!(*cell, value.to_string(), "{name}"),
                Value::String(text) => assert_eq!(*cell, text, "{name}"),
                other => panic!("{name}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn steps_say_what_was_not_finite() {
    let api = Api::with_run().await;
    let page = api.ok(&of_run("/steps?from_step=699&to_step=700")).await;
    let [before, at] = page["items"].as_array().unwrap().as_slice() else { panic!("{page}") };
    assert!(before["scalars"]["loss"].is_f64());
    assert_eq!(before["nonfinite"], serde_json::json!({}));
    assert_eq!(at["scalars"], serde_json::json!({"loss": null}));
    assert_eq!(at["nonfinite"], serde_json::json!({"loss": "NaN"}));
    assert_eq!(at["nonfinite_payloads"][0]["nan"], 2);
    assert_eq!(at["seqs"], serde_json::json!(["700"]));
    assert_eq!((at["lr"].as_f64(), at["weight_decay"].as_f64()), (Some(1e-3), None));
    assert_eq!(at["complete"], true);
}
