//! Silences are made, listed, and end.

use gradwatch_tests::{Backend, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};

use crate::made::{SILENCES, ok, refused};

on_both_backends!(a_silence_begins_and_ends, silences_come_in_pages);

fn silence(rule: &str) -> Value {
    json!({ "matchers": [{ "name": "rule", "value": rule }], "duration_s": 3_600, "comment": "a test" })
}

async fn states(server: &TestServer, query: &str) -> Vec<(String, String)> {
    let items = server.rest().all(&format!("{SILENCES}?{query}")).await;
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    items.iter().map(|item| (text(&item["matchers"][0]["value"]), text(&item["state"]))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect()
}

async fn a_silence_begins_and_ends(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let active = ok(&rest, Method::POST, SILENCES, &silence("active")).await;
    assert_eq!(active["matchers"], json!([{ "name": "rule", "value": "active", "negate": false }]));
    for (member, value) in
        [("state", json!("active")), ("comment", json!("a test")), ("created_by", json!("")), ("project", Value::Null)]
    {
        assert_eq!(active[member], value, "{active}");
    }
    let path = format!("{SILENCES}/{}", active["silence_id"].as_str().expect("an id"));
    assert_eq!(rest.get(&path).await, active);

    let mut later = silence("later");
    later["starts_at"] = json!("2999-01-01T00:00:00Z");
    // More than a year ahead.
    refused(&rest, (Method::POST, SILENCES), &later, 400, Some("ends_at")).await;
    let tomorrow = in_two_months(&active);
    later["starts_at"] = json!(tomorrow);
    let later = ok(&rest, Method::POST, SILENCES, &later).await;
    assert_eq!((&later["state"], &later["starts_at"]), (&json!("pending"), &json!(tomorrow)));

    let mut short = silence("short");
    short["duration_s"] = json!(1);
    ok(&rest, Method::POST, SILENCES, &short).await;
    // By itself, when its time is over.
    rest.until(&format!("{SILENCES}?state=ended"), "the end", |list| list["items"].as_array().map(Vec::len) == Some(1))
        .await;
    assert_eq!(states(&server, "").await, owned(&[("active", "active"), ("later", "pending")]));

    // By hand, also before it has begun.
    let ended = ok(&rest, Method::DELETE, &path, &json!({})).await;
    assert_eq!(ended["state"], "ended");
    assert_eq!(rest.get(&path).await, ended);
    assert_eq!(ok(&rest, Method::DELETE, &path, &json!({})).await, ended, "once");
    let path = format!("{SILENCES}/{}", later["silence_id"].as_str().expect("an id"));
    assert_eq!(ok(&rest, Method::DELETE, &path, &json!({})).await["state"], "ended");
    assert_eq!(states(&server, "").await, []);
    let server = server.restart().await;
    assert_eq!(states(&server, "state=ended,active,pending").await.len(), 3);
    server.shutdown().await;
}

/// A time that is ahead, and less than a year away.
fn in_two_months(silence: &Value) -> String {
    let starts_at = silence["starts_at"].as_str().expect("a time");
    let number = |digits: std::ops::Range<usize>| starts_at[digits].parse::<u32>().expect("a date");
    let (year, month) = (number(0..4), number(5..7));
    let (year, month) = if month >= 11 { (year + 1, month - 10) } else { (year, month + 2) };
    format!("{year:04}-{month:02}-01T00:00:00Z")
}

async fn silences_come_in_pages(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    for number in 0..5 {
        ok(&rest, Method::POST, SILENCES, &silence(&format!("r{number}"))).await;
    }
    let whole = states(&server, "limit=500").await;
    assert_eq!(whole.len(), 5);
    for limit in [1, 2, 5] {
        assert_eq!(states(&server, &format!("limit={limit}")).await, whole);
    }
    server.shutdown().await;
}
