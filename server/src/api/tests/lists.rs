//! Runs, groups, segments, events, overview.

use axum::http::{Method, StatusCode};
use serde_json::Value;

use super::fixture::{Api, JSON, of_run, run_id};

fn field<'a>(items: &'a [Value], name: &str) -> Vec<&'a str> {
    items.iter().map(|item| item[name].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn runs_are_listed_page_by_page_in_order() {
    let api = Api::empty(|_| {}).await;
    for number in 1..=7 {
        api.open_run(number).await;
    }
    let newest_first: Vec<String> = (1..=7).rev().map(|number| run_id(number).to_string()).collect();
    for limit in [1, 2, 3, 7, 500] {
        assert_eq!(field(&api.pages("/api/v1/runs", limit).await, "run_id"), newest_first, "{limit}");
    }
    let mut oldest_first = newest_first.clone();
    oldest_first.reverse();
    assert_eq!(field(&api.pages("/api/v1/runs?sort=created", 2).await, "run_id"), oldest_first);
    assert_eq!(api.pages("/api/v1/runs?project=even", 2).await.len(), 3);
    assert_eq!(api.pages("/api/v1/runs?name=run%204", 2).await.len(), 1);
    assert_eq!(api.pages("/api/v1/runs?state=running&regime=warming&label.team=optim", 2).await.len(), 7);
    assert_eq!(api.pages("/api/v1/runs?label.team=other", 2).await.len(), 0);
    let page = api.ok("/api/v1/runs?limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let reply = api.get(&format!("/api/v1/runs?project=even&cursor={cursor}")).await;
    assert_eq!(reply.problem(), (400, "invalid_argument".into(), Some("cursor".into())));
}

#[tokio::test]
async fn labels_are_set_and_removed() {
    let api = Api::empty(|_| {}).await;
    api.open_run(1).await;
    let path = of_run("");
    let patch = r#"{"labels": {"note": "läuft", "team": null}}"#;
    let reply = api.send(Method::PATCH, &path, &JSON, patch).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.json()["labels"], serde_json::json!({"note": "läuft"}));
    assert_eq!(api.ok(&path).await["labels"], serde_json::json!({"note": "läuft"}));
    for (body, status, field) in [
        (r#"{"labels": {"note": 1}}"#.to_owned(), 400, "labels.note"),
        (r#"{"labels": "#.to_owned(), 400, "body"),
        (r#"{"name": "x"}"#.to_owned(), 400, "labels"),
        (format!(r#"{{"labels": {{"note": "{}"}}}}"#, "x".repeat(300_000)), 413, "body"),
    ] {
        let (found, _, at) = api.send(Method::PATCH, &path, &JSON, &body).await.problem();
        assert_eq!((found, at.as_deref()), (status, Some(field)), "{}", &body[..20.min(body.len())]);
    }
    assert_eq!(api.ok(&path).await["labels"], serde_json::json!({"note": "läuft"}));
}

#[tokio::test]
async fn a_deleted_run_is_gone_at_once() {
    let api = Api::with_run().await;
    let reply = api.send(Method::DELETE, &of_run(""), &[], "").await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    assert_eq!(api.get(&of_run("")).await.problem().0, 404);
    assert_eq!(api.send(Method::PATCH, &of_run(""), &JSON, r#"{"labels": {}}"#).await.problem().0, 404);
    assert_eq!(api.get(&of_run("/segments")).await.problem().0, 404);
    assert_eq!(api.pages("/api/v1/runs", 10).await.len(), 0);
    assert_eq!(api.pages("/api/v1/events", 10).await.len(), 0);
}

#[tokio::test]
async fn a_run_says_what_it_sends() {
    let api = Api::with_run().await;
    let run = api.ok(&of_run("")).await;
    assert_eq!(run["run_id"], run_id(1).to_string());
    assert_eq!(run["scalars"], serde_json::json!(["loss"]));
    assert_eq!(run["last_step"], 3_000);
    assert_eq!(run["created_at"], "2023-11-14T22:13:21Z");

    let groups = api.ok(&of_run("/groups")).await;
    assert_eq!(groups["segment"], 2);
    assert_eq!(field(groups["items"].as_array().unwrap(), "group"), ["all", "mlp"]);
    let streams = groups["items"][0]["streams"].as_array().unwrap();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0]["latest"]["step"], 3_000);
    assert_eq!(streams[0]["latest"]["regime"], "plateau");
    assert_eq!(streams[1]["latest"], Value::Null);

    let segments = api.ok(&of_run("/segments")).await;
    let segments = segments["items"].as_array().unwrap();
    assert_eq!(segments[0]["live_to_step"], 1_500);
    assert_eq!(segments[0]["last_step"], 2_000);
    assert_eq!(segments[0]["spec"]["sketch_seed"], u64::MAX.to_string());
    assert_eq!(segments[1]["live_to_step"], Value::Null);
    assert_eq!(segments[1]["live"], true);
    assert_eq!(segments[1]["resumes"]["segment"], 1);
    assert_eq!(segments[1]["resumes"]["step"], 1_500);
}

#[tokio::test]
async fn events_follow_the_live_line() {
    let api = Api::with_run().await;
    api.open_run(2).await;
    let types = |items: Vec<Value>| -> Vec<String> { field(&items, "type").into_iter().map(str::to_owned).collect() };
    let live = ["edge.regime", "run.lossy", "edge.regime", "update.spike"];
    for base in [of_run("/events?"), "/api/v1/events?".to_owned(), "/api/v1/events?project=vision&".to_owned()] {
        for limit in [1, 2, 100] {
            assert_eq!(types(api.pages(&format!("{base}segment=live"), limit).await), live, "{base}");
            assert_eq!(types(api.pages(&format!("{base}segment=all"), limit).await).len(), 5, "{base}");
        }
        assert_eq!(types(api.pages(&format!("{base}segment=2"), 1).await), ["edge.regime", "update.spike"]);
        assert_eq!(
            types(api.pages(&format!("{base}types=update.spike,run.lossy"), 1).await),
            ["run.lossy", "update.spike"]
        );
        assert_eq!(types(api.pages(&format!("{base}group=mlp"), 1).await), ["update.spike"]);
        assert_eq!(
            types(api.pages(&format!("{base}kind=update&window=3&sort=-event_id"), 1).await),
            ["update.spike", "edge.regime", "edge.regime"]
        );
        assert_eq!(types(api.pages(&format!("{base}window=5"), 1).await).len(), 0);
        // The event without a step belongs to its segment whole.
        assert_eq!(
            types(api.pages(&format!("{base}from_step=1700&to_step=1799"), 1).await),
            ["update.spike"],
            "{base}"
        );
    }
    assert_eq!(api.pages("/api/v1/events?project=even", 10).await.len(), 0);
    let all = api.pages("/api/v1/events?segment=all", 100).await;
    let after = all[2]["event_id"].as_str().unwrap();
    assert_eq!(api.pages(&format!("/api/v1/events?segment=all&after={after}"), 1).await, all[3..]);
    assert_eq!(api.pages(&format!("/api/v1/events?after={}", u64::MAX), 10).await.len(), 0);
    assert_eq!(all[0]["evidence"]["reading"], "edge.dk");
    assert_eq!((all[0]["from"].as_str(), all[0]["to"].as_str()), (Some("plateau"), Some("transition")));
}

#[tokio::test]
async fn the_overview_names_every_state_and_regime() {
    let api = Api::with_run().await;
    let overview = api.ok("/api/v1/overview").await;
    assert_eq!(overview["by_state"].as_object().unwrap().len(), 6);
    assert_eq!(overview["by_state"]["running"], 1);
    assert_eq!(overview["by_state"]["crashed"], 0);
    assert_eq!(overview["by_regime"].as_object().unwrap().len(), 4);
    assert_eq!(field(overview["transitions"].as_array().unwrap(), "type"), ["edge.regime", "edge.regime"]);
    let other = api.ok("/api/v1/overview?project=even").await;
    assert_eq!(other["by_state"]["running"], 0);
}
