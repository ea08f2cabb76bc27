//! Charts, against the rows they are made of.

use serde_json::Value;

use super::fixture::{Api, FIRST, RESUMED_AT, SECOND, loss, of_run, readings, run_id};

/// (segment, step, value) of a metric on the live line; `None` undefined.
fn live(metric: &str) -> Vec<(u32, u64, f64)> {
    if metric == "scalar.loss" {
        let first = (*FIRST.start()..=RESUMED_AT).map(|step| (1, step, loss(1, step)));
        return first.chain(SECOND.map(|step| (2, step, loss(2, step)))).collect();
    }
    let short = metric.split_once('.').unwrap().1;
    let rows = readings(1, FIRST).into_iter().filter(|row| row.step <= RESUMED_AT).chain(readings(2, SECOND));
    rows.filter_map(|row| Some((row.segment, row.step, row.edge.value(short)?))).collect()
}

/// Checks a series against brute force over the rows, bucket by bucket.
pub(super) fn check(series: &Value, live: &[(u32, u64, f64)], from_step: u64, to_step: u64) {
    let metric = series["metric"].as_str().unwrap();
    let width = series["bucket_steps"].as_u64().unwrap();
    let rows: Vec<(u32, u64, f64)> =
        live.iter().filter(|(_, step, _)| (from_step..=to_step).contains(step)).copied().collect();
    let mut keys: Vec<(u32, u64)> = rows.iter().map(|(segment, step, _)| (*segment, step / width)).collect();
    keys.dedup();
    let points = series["points"].as_array().unwrap();
    assert_eq!(points.len(), keys.len(), "{metric}");
    for (point, key) in points.iter().zip(keys) {
        let inside: Vec<_> = rows.iter().filter(|(segment, step, _)| (*segment, step / width) == key).collect();
        let finite: Vec<_> = inside.iter().filter(|(_, _, value)| value.is_finite()).collect();
        let values = || finite.iter().map(|(_, _, value)| *value);
        assert_eq!(point["segment"], key.0);
        let (step, first) = (point["step"].as_u64().unwrap(), inside[0].1);
        assert!(step == first || (step < first && step >= from_step && first - step < 256), "{metric} {point} {first}");
        assert_eq!(point["count"], finite.len());
        assert_eq!(point["min"].as_f64(), values().reduce(f64::min), "{metric} {point}");
        assert_eq!(point["max"].as_f64(), values().reduce(f64::max), "{metric} {point}");
        assert_eq!(point["last"].as_f64(), values().next_back());
        assert_eq!(point["last_step"].as_u64(), finite.last().map(|(_, step, _)| *step));
        if let Some(nonfinite) = point["nonfinite"].as_u64() {
            assert_eq!(nonfinite, (inside.len() - finite.len()) as u64);
        }
    }
}

#[tokio::test]
async fn every_way_to_read_a_series_equals_brute_force() {
    let api = Api::with_run().await;
    for metric in ["edge.ratio", "edge.gram_change", "update.norm_z", "edge.k95", "edge.sigma_2", "scalar.loss"] {
        let live = live(metric);
        for max_points in [1, 2, 12, 24, 100, 10_000] {
            for (from_step, to_step) in [(0, u64::MAX), (100, 2_900), (256, 511), (1_499, 1_502)] {
                let path =
                    format!("/series?metric={metric}&max_points={max_points}&from_step={from_step}&to_step={to_step}");
                let answer = api.ok(&of_run(&path)).await;
                let series = &answer["items"][0];
                check(series, &live, from_step, to_step);
                assert!(series["points"].as_array().unwrap().len() <= max_points.max(2), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn a_spike_survives_and_a_rewound_one_does_not() {
    let api = Api::with_run().await;
    for max_points in [2, 6, 50] {
        let answer = api.ok(&of_run(&format!("/series?metric=scalar.loss&max_points={max_points}"))).await;
        let maxima = answer["items"][0]["points"].as_array().unwrap().iter().filter_map(|point| point["max"].as_f64());
        assert_eq!(maxima.reduce(f64::max), Some(1e6));
    }
    let first = api.ok(&of_run("/series?metric=scalar.loss&segment=1&max_points=6")).await;
    let maxima = first["items"][0]["points"].as_array().unwrap().iter().filter_map(|point| point["max"].as_f64());
    assert_eq!(maxima.reduce(f64::max), Some(1e9));
}

#[tokio::test]
async fn nonfinite_values_are_counted_where_rows_are_read() {
    let api = Api::with_run().await;
    let answer = api.ok(&of_run("/series?metric=scalar.loss&max_points=10000&from_step=699&to_step=701")).await;
    let points = answer["items"][0]["points"].as_array().unwrap();
    assert_eq!(points[1]["nonfinite"], 1);
    assert_eq!(
        (points[1]["count"].as_u64(), points[1]["min"].as_f64(), points[1]["last_step"].as_u64()),
        (Some(0), None, None)
    );
}

#[tokio::test]
async fn runs_are_compared_and_series_paged() {
    let api = Api::with_run().await;
    api.open_run(2).await;
    let path = format!(
        "/api/v1/series?run={},{}&metric=edge.ratio&metric=scalar.loss&metric=edge.gap&max_points=5",
        run_id(1),
        run_id(2)
    );
    let whole = api.ok(&path).await;
    let items = whole["items"].as_array().unwrap();
    assert_eq!(items.len(), 6);
    for limit in [1, 4] {
        assert_eq!(&api.pages(&path, limit).await, items);
    }
    assert_eq!(
        (items[0]["group"].as_str(), items[0]["window"].as_u64(), items[0]["unit"].as_str()),
        (Some("all"), Some(3), Some("1"))
    );
    assert_eq!((items[1]["metric"].as_str(), items[1]["group"].as_str()), (Some("scalar.loss"), None));
    assert_eq!(items[3]["run_id"], run_id(2).to_string());
    assert_eq!(items[3]["points"], serde_json::json!([]));
}
