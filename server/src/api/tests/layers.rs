//! Readings of layers, charts of them, and the list of layers.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode, header};
use gradwatch_spectral::layers::{FieldType, FieldValue, LayerInstrument};
use gradwatch_store::LayerKey;
use serde_json::{Value, json};

use super::{
    fixture::{Api, RESUMED_AT, of_run, run_id},
    layer_fixture::{EARLY, LAYERS, QUOTED, keys, layer_reading, snapshot_steps},
    series::check,
};
use crate::api::openapi;

/// `readings/{instrument}?layer=`, with room for more.
fn path(instrument: LayerInstrument, layer: &str) -> String {
    let layer: String = form_urlencoded::byte_serialize(layer.as_bytes()).collect();
    of_run(&format!("/readings/{instrument}?layer={layer}"))
}

/// (segment, step) of the snapshots on the live line.
fn live_line() -> Vec<(u32, u64)> {
    let first = snapshot_steps(1).filter(|step| *step <= RESUMED_AT).map(|step| (1, step));
    first.chain(snapshot_steps(2).map(|step| (2, step))).collect()
}

fn places(items: &[Value]) -> Vec<(u32, u64)> {
    items.iter().map(|item| (item["segment"].as_u64().unwrap() as u32, item["step"].as_u64().unwrap())).collect()
}

fn json_of(value: Option<FieldValue>) -> Value {
    match value {
        None => Value::Null,
        Some(FieldValue::Number(number)) => number.into(),
        Some(FieldValue::Count(count)) => count.into(),
        Some(FieldValue::Flag(flag)) => flag.into(),
        Some(FieldValue::Word(word)) => word.into_owned().into(),
        Some(FieldValue::List(list)) => list.into(),
    }
}

#[tokio::test]
async fn pages_join_to_the_live_line_without_hole_or_repetition() {
    let api = Api::with_layers().await;
    for (instrument, layer) in LAYERS {
        let path = path(instrument, layer);
        for limit in [1, 7, 500] {
            assert_eq!(places(&api.pages(&path, limit).await), live_line(), "{path} {limit}");
        }
        let cut = api.pages(&format!("{path}&from_step=1400&to_step=1600"), 2).await;
        let expected: Vec<_> = live_line().into_iter().filter(|(_, step)| (1_400..=1_600).contains(step)).collect();
        assert_eq!(places(&cut), expected, "{path}");
        // What was rewound is there when it is asked for.
        let first = api.pages(&format!("{path}&segment=1&from_step=1490"), 3).await;
        let expected: Vec<_> = snapshot_steps(1).filter(|step| *step >= 1_490).map(|step| (1, step)).collect();
        assert_eq!(places(&first), expected, "{path}");
        let all = api.pages(&format!("{path}&segment=all"), 20).await;
        assert_eq!(all.len(), snapshot_steps(1).count() + snapshot_steps(2).count(), "{path}");
    }
}

#[tokio::test]
async fn a_row_holds_every_field_or_null() {
    let api = Api::with_layers().await;
    for (instrument, layer) in LAYERS {
        let key = LayerKey { instrument, layer: layer.into() };
        let page = api.ok(&path(instrument, layer)).await;
        assert_eq!((page["instrument"].as_str(), page["layer"].as_str()), (Some(instrument.as_str()), Some(layer)));
        assert_eq!((page["analysis"].as_str(), &page["next_cursor"]), (Some("live"), &Value::Null));
        let mut undefined = BTreeSet::new();
        for row in page["items"].as_array().unwrap() {
            let (segment, step) = (row["segment"].as_u64().unwrap() as u32, row["step"].as_u64().unwrap());
            assert_eq!(row["layer"], layer);
            assert!(row["wall_time"].as_str().unwrap().starts_with("2023-11-14T22:13:20.0"), "{row}");
            let reading = layer_reading(&key, segment, step);
            assert_eq!(row.as_object().unwrap().len(), 4 + instrument.fields().len());
            for (field, value) in instrument.fields().iter().zip(reading.values()) {
                if value.is_none() {
                    undefined.insert(field.name);
                }
                let found = row.get(field.name).unwrap_or_else(|| panic!("no {}", field.name));
                assert_eq!(*found, json_of(value), "{instrument}.{} at {step}", field.name);
            }
        }
        assert_eq!(undefined.len(), instrument.fields().len(), "every field is undefined somewhere");
    }
    let text = api.get(&path(LayerInstrument::Cascade, "all")).await.text;
    assert!(
        text.contains(r#"{"step":50,"segment":1,"wall_time":"2023-11-14T22:13:20.00005Z","layer":"all","reason":"#)
    );
}

#[tokio::test]
async fn the_first_layer_of_the_newest_attempt_is_the_default() {
    let api = Api::with_layers().await;
    for (instrument, layer) in [LAYERS[0], LAYERS[2], LAYERS[3], LAYERS[4]] {
        let page = api.ok(&of_run(&format!("/readings/{instrument}?limit=1"))).await;
        assert_eq!(page["layer"], layer);
    }
    // One that only the first attempt declares can be asked for still.
    let (instrument, layer) = EARLY;
    let rows = api.pages(&path(instrument, layer), 500).await;
    let expected: Vec<_> = live_line().into_iter().filter(|(segment, _)| *segment == 1).collect();
    assert_eq!(places(&rows), expected);
}

/// The fields of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut is_quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cells.last_mut().unwrap().push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            other => cells.last_mut().unwrap().push(other),
        }
    }
    cells
}

#[tokio::test]
async fn tables_hold_the_same_rows() {
    let api = Api::with_layers().await;
    for (instrument, layer) in LAYERS {
        let path = format!("{}&limit=40", path(instrument, layer));
        let page = api.ok(&path).await;
        let items = page["items"].as_array().unwrap();

        let reply = api.send(Method::GET, &path, &[("accept", "application/x-ndjson")], "").await;
        assert_eq!(reply.headers[header::CONTENT_TYPE], "application/x-ndjson");
        let lines: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(&lines, items);

        let reply = api.send(Method::GET, &path, &[("accept", "text/csv")], "").await;
        assert_eq!((reply.status, items.len()), (StatusCode::OK, 40));
        let mut lines = reply.text.lines().map(cells);
        let header = lines.next().unwrap();
        let fields = instrument.fields().iter().map(|field| field.name);
        let expected: Vec<&str> = ["step", "segment", "wall_time", "layer"].into_iter().chain(fields).collect();
        assert_eq!(header, expected);
        let rows: Vec<_> = lines.collect();
        assert_eq!(rows.len(), items.len());
        for (row, item) in rows.iter().zip(items) {
            assert_eq!(row.len(), header.len());
            for (name, cell) in header.iter().zip(row) {
                match &item[name] {
                    Value::Null => assert_eq!(cell, "", "{name}"),
                    Value::Number(number) => assert_eq!(cell.parse::<f64>().ok(), number.as_f64(), "{name}"),
                    Value::Bool(flag) => assert_eq!(*cell, flag.to_string(), "{name}"),
                    Value::String(text) => assert_eq!(cell, text, "{name}"),
                    Value::Array(list) => {
                        let numbers: Vec<f64> = cell.split(' ').map(|number| number.parse().unwrap()).collect();
                        assert_eq!(numbers, list.iter().filter_map(Value::as_f64).collect::<Vec<_>>(), "{name}");
                    }
                    Value::Object(_) => panic!("{name}"),
                }
            }
        }
    }
    let none = path(LayerInstrument::Cascade, QUOTED) + "&from_step=3001";
    let reply = api.send(Method::GET, &none, &[("accept", "text/csv")], "").await;
    assert_eq!(reply.text.lines().count(), 1, "the header alone");
}

/// (segment, step, value) of a field on the live line.
fn live(key: &LayerKey, field: &str) -> Vec<(u32, u64, f64)> {
    let value = |(segment, step)| Some((segment, step, layer_reading(key, segment, step).value(field)?));
    live_line().into_iter().filter_map(value).collect()
}

#[tokio::test]
async fn charts_equal_the_rows() {
    let api = Api::with_layers().await;
    for (instrument, layer) in [LAYERS[0], LAYERS[2], LAYERS[3], LAYERS[4]] {
        let key = LayerKey { instrument, layer: layer.into() };
        for field in instrument.fields().iter().filter(|field| field.is_chartable()) {
            let rows = live(&key, field.name);
            for (max_points, from_step, to_step) in [(1, 0, u64::MAX), (7, 100, 2_900), (10_000, 0, u64::MAX)] {
                let answer = api
                    .ok(&of_run(&format!(
                        "/series?metric={instrument}.{}&max_points={max_points}&from_step={from_step}&to_step={to_step}",
                        field.name
                    )))
                    .await;
                let series = &answer["items"][0];
                check(series, &rows, from_step, to_step);
                assert_eq!((series["layer"].as_str(), series["unit"].as_str()), (Some(layer), Some(field.unit)));
                assert_eq!((&series["group"], &series["window"]), (&Value::Null, &Value::Null));
                assert!(series["points"].as_array().unwrap().len() <= max_points.max(2));
            }
        }
    }
}

#[tokio::test]
async fn metrics_of_streams_layers_and_scalars_are_charted_together() {
    let api = Api::with_layers().await;
    api.open_run(2).await;
    let metrics = "metric=edge.ratio&metric=dead_directions.rank&metric=scalar.loss&metric=curvature.exponent";
    let path = format!("/api/v1/series?run={},{}&{metrics}&group=all&layer=fc1&max_points=5", run_id(1), run_id(2));
    let whole = api.ok(&path).await;
    let items = whole["items"].as_array().unwrap();
    let said = |item: &Value| {
        let text = |name: &str| item[name].as_str().map(str::to_owned);
        (text("group"), text("layer"), item["points"].as_array().unwrap().is_empty())
    };
    let (all, fc1) = (Some("all".to_owned()), Some("fc1".to_owned()));
    let expected = [
        (all.clone(), None, false),
        (None, fc1.clone(), false),
        (None, None, false),
        (None, fc1, false),
        // The second run recorded nothing, and declares no layer.
        (all, None, true),
        (None, None, true),
        (None, None, true),
        (None, None, true),
    ];
    assert_eq!(items.iter().map(said).collect::<Vec<_>>(), expected);
    for limit in [1, 3] {
        assert_eq!(&api.pages(&path, limit).await, items, "{limit}");
    }
    // A layer that none of the runs declares is no empty chart.
    let wrong = format!("/api/v1/series?run={},{}&metric=cascade.phi&layer=fc1", run_id(2), run_id(1));
    assert_eq!(api.get(&wrong).await.problem(), (400, "invalid_argument".into(), Some("layer".into())));
    let nowhere = format!("/api/v1/series?run={}&metric=cascade.phi", run_id(2));
    assert_eq!(api.get(&nowhere).await.problem().2.as_deref(), Some("layer"));
    let unknown = format!("/api/v1/series?run={},{}&metric=cascade.phi", run_id(1), run_id(9));
    assert_eq!(api.get(&unknown).await.problem(), (404, "not_found".into(), Some("run".into())));
}

#[tokio::test]
async fn a_run_lists_its_layers_and_how_they_stand() {
    let api = Api::with_layers().await;
    let list = api.ok(&of_run("/layers")).await;
    assert_eq!(list["next_cursor"], Value::Null);
    let items = list["items"].as_array().unwrap();
    let named =
        |item: &Value| (item["instrument"].as_str().unwrap().to_owned(), item["layer"].as_str().unwrap().to_owned());
    let expected =
        LAYERS.into_iter().chain([EARLY]).map(|(instrument, name)| (instrument.to_string(), name.to_owned()));
    assert_eq!(items.iter().map(named).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for item in items {
        let (segment, last) = if item["layer"] == EARLY.1 { (1, 2_000) } else { (2, 3_000) };
        assert_eq!((item["segment"].as_u64(), item["latest"]["step"].as_u64()), (Some(segment), Some(last)), "{item}");
        assert_eq!(item["latest"]["reason"], "skipped", "{item}");
    }
    let standing = |item: &Value| json!([item["width"], item["activation"], item["pending"]]);
    assert_eq!(standing(&items[0]), json!([null, null, 0]));
    assert_eq!(standing(&items[3]), json!([128, null, 3]));
    assert_eq!(standing(&items[4]), json!([32, "tanh", 0]));

    let segments = api.ok(&of_run("/segments")).await;
    let spec = &segments["items"][1]["spec"]["layers"];
    assert_eq!(spec.as_array().map(Vec::len), Some(LAYERS.len()));
    assert_eq!(spec[3], json!({"name": "fc1", "instrument": "dead_directions", "width": 128, "activation": null}));

    // Before the first reading, and without any layer.
    let api = Api::with_run().await;
    let list = api.ok(&of_run("/layers")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), LAYERS.len() + 1);
    assert_eq!((&list["items"][3]["latest"], &list["items"][3]["pending"]), (&Value::Null, &json!(0)));
    api.open_run(2).await;
    assert_eq!(api.ok(&format!("/api/v1/runs/{}/layers", run_id(2))).await, json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn events_of_a_layer_are_found_by_its_name() {
    let api = Api::with_layers().await;
    for base in [of_run("/events?"), "/api/v1/events?".to_owned()] {
        let found = api.pages(&format!("{base}group=fc1"), 1).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let event = &found[0];
        assert_eq!((&event["type"], &event["group"]), (&json!("curvature.shift"), &json!("fc1")));
        assert_eq!((&event["kind"], &event["window"]), (&Value::Null, &Value::Null));
        assert_eq!(event["evidence"]["instrument"], "curvature");
        assert_eq!(api.pages(&format!("{base}group=fc1&kind=update"), 1).await.len(), 0);
    }
}

/// The schema of a name, from the document that is served.
fn schema(name: &str) -> Value {
    let document = serde_json::to_value(openapi::document()).unwrap();
    document["components"]["schemas"][name].clone()
}

#[tokio::test]
async fn the_schemas_are_the_fields_and_the_rows_keep_them() {
    let api = Api::with_layers().await;
    let names = ["CascadeReading", "CurvatureReading", "DeadDirectionsReading", "LearningCellReading"];
    let refs = names.map(|name| json!({"$ref": format!("#/components/schemas/{name}")}));
    assert_eq!(schema("LayerReadingView")["oneOf"], json!(refs));
    for (instrument, name) in LayerInstrument::ALL.iter().zip(names) {
        let schema = schema(name);
        let properties = schema["properties"].as_object().unwrap();
        let known: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        let fields = instrument.fields().iter().map(|field| field.name);
        let expected: BTreeSet<&str> = ["step", "segment", "wall_time", "layer"].into_iter().chain(fields).collect();
        assert_eq!(known, expected, "{name}");
        let required: BTreeSet<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(required, expected, "{name}");
        for field in instrument.fields() {
            let property = &properties[field.name];
            let of = match field.field_type {
                FieldType::Number => "number",
                FieldType::Count => "integer",
                FieldType::Flag => "boolean",
                FieldType::Word => "string",
                FieldType::List => "array",
            };
            assert_eq!(property["type"], json!([of, "null"]), "{name} {}", field.name);
            assert!(property["description"].as_str().unwrap().starts_with(field.definition), "{name} {}", field.name);
            if field.field_type == FieldType::Word {
                let words: Vec<Value> = field.words.iter().map(|word| json!(word)).chain([Value::Null]).collect();
                assert!(words.len() > 2, "{name} {}", field.name);
                assert_eq!(property["enum"], json!(words), "{name} {}", field.name);
            }
        }
        let layer = keys(2).into_iter().find(|key| key.instrument == *instrument).unwrap();
        let rows = api.pages(&path(*instrument, &layer.layer), 500).await;
        for (row, (name, property)) in rows.iter().flat_map(|row| properties.iter().map(move |it| (row, it))) {
            let of = match &row[name] {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            let types = &property["type"];
            let is_time = property["$ref"] == "#/components/schemas/Time" && of == "string";
            let fits = is_time || types == of || types.as_array().is_some_and(|types| types.iter().any(|it| it == of));
            assert!(fits, "{name}: {} is no {property}", row[name]);
        }
    }
}
