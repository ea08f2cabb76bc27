//! From its beginning to its deletion, and what is refused.

use std::sync::Arc;

use gradwatch_client::Encoding;
use gradwatch_store::{Store, sqlite::SqliteStore};
use gradwatch_tests::{Backend, CrashingServer, FaultyStore, Rest, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Made, analyse, begin, done, path, readings};

on_both_backends!(a_name_is_taken_once_and_free_again,);

async fn refused(rest: &Rest, run_id: Uuid, body: &Value) -> (u64, String, String) {
    let problem = rest.problem(Method::POST, &format!("/api/v1/runs/{run_id}/reanalyze"), &body.to_string()).await;
    let word = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    (problem["status"].as_u64().expect("a status"), word("field"), word("detail"))
}

async fn a_name_is_taken_once_and_free_again(backend: Backend) {
    let server = TestServer::start_on(backend).await;
    let rest = server.rest();
    let run_id = Made::new(&[("all", 1)]).stream(&server.url(), Encoding::F32).await;
    let wide = json!({ "name": "wide", "windows": [20] });
    analyse(&rest, run_id, wide.clone()).await;
    analyse(&rest, run_id, json!({ "name": "other", "windows": [20] })).await;
    for body in [&wide, &json!({ "name": "wide", "windows": [7] })] {
        let (status, field, detail) = refused(&rest, run_id, body).await;
        assert_eq!((status, field.as_str()), (409, "name"), "{detail}");
    }
    let listed = rest.get(&format!("/api/v1/runs/{run_id}/analyses")).await;
    let names: Vec<_> = listed["items"].as_array().expect("items").iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["other", "wide"]);
    let before = readings(&rest, run_id, "wide", "").await;

    let (status, body) = rest.call(Method::DELETE, &path(run_id, "wide"), "").await;
    assert_eq!(status, 202, "{body}");
    let (status, problem) = rest.refused(&path(run_id, "wide")).await;
    assert_eq!((status, &problem["field"]), (404, &json!("name")));
    let (status, problem) = rest.refused(&format!("/api/v1/runs/{run_id}/readings/edge?analysis=wide")).await;
    assert_eq!((status, &problem["field"]), (400, &json!("analysis")));
    assert_eq!(rest.call(Method::DELETE, &path(run_id, "wide"), "").await.0, 404);
    // Free once its readings are gone.
    let begun = loop {
        let (status, answer) =
            rest.call(Method::POST, &format!("/api/v1/runs/{run_id}/reanalyze"), &wide.to_string()).await;
        if status == 201 {
            break answer;
        }
        assert_eq!(status, 409, "{answer}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(begun.contains("running"), "{begun}");
    done(&rest, run_id, "wide").await;
    assert_eq!(readings(&rest, run_id, "wide", "").await, before);
    assert_eq!(readings(&rest, run_id, "other", "").await, before);

    let (status, _) = rest.call(Method::DELETE, &format!("/api/v1/runs/{run_id}"), "").await;
    assert_eq!(status, 202);
    assert_eq!(rest.refused(&path(run_id, "wide")).await.0, 404);
    assert_eq!(rest.refused(&format!("/api/v1/runs/{run_id}/analyses")).await.0, 404);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_streamed_until_the_end() {
    let data_dir = tempfile::tempdir().expect("a temporary directory");
    let inner: Arc<dyn Store> = Arc::new(SqliteStore::open(data_dir.path()).await.expect("a store"));
    let store = Arc::new(FaultyStore::new(inner));
    let server = CrashingServer::start(Arc::clone(&store) as Arc<dyn Store>, data_dir.path(), |_| {}).await;
    let rest = Rest::new(&server.url());
    let run_id = Made::new(&[("all", 1)]).stream(&server.url(), Encoding::F32).await;
    store.hold_analyses();
    begin(&rest, run_id, &json!({ "name": "wide", "windows": [20] })).await;
    begin(&rest, run_id, &json!({ "name": "gone", "windows": [20] })).await;
    let mut events = rest.events(&format!("{}/progress", path(run_id, "wide")), None).await;
    let first = events.next().await.expect("how it stands");
    assert_eq!((first.event.as_str(), &first.data["rows_done"]), ("progress", &json!(0)), "{first:?}");
    let mut of_gone = rest.events(&format!("{}/progress", path(run_id, "gone")), None).await;
    assert_eq!(of_gone.next().await.expect("how it stands").data["state"], "running");

    // One that is running is stopped by its deletion.
    let (status, body) = rest.call(Method::DELETE, &path(run_id, "gone"), "").await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(of_gone.next().await.expect("an end").event, "deleted");
    assert_eq!(of_gone.next().await, None);

    store.allow_analysis_commits(1_000);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        assert_eq!(event.event, "progress", "{event:?}");
        told.push(event.data);
    }
    let rows: Vec<u64> = told.iter().filter_map(|it| it["rows_done"].as_u64()).collect();
    assert!(rows.is_sorted(), "{rows:?}");
    let last = told.last().expect("an end");
    assert_eq!((&last["state"], &last["rows_done"]), (&json!("done"), &last["rows_total"]));
    assert_eq!(rest.refused(&format!("/api/v1/runs/{run_id}/readings/edge?analysis=gone")).await.0, 400);
    // One that is over says so, and no more.
    let mut events = rest.events(&format!("{}/progress", path(run_id, "wide")), None).await;
    assert_eq!(events.next().await.expect("how it stands").data, *last);
    assert_eq!(events.next().await, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_computed_is_refused_by_name() {
    let server = TestServer::start().await;
    let rest = server.rest();
    let run_id = Made::new(&[("often", 1), ("seldom", 3)]).stream(&server.url(), Encoding::F32).await;
    let of = |change: Value| {
        let mut body = json!({ "name": "wide", "windows": [10] });
        change.as_object().expect("an object").iter().for_each(|(member, value)| body[member] = value.clone());
        body
    };
    for (change, status, field) in [
        (json!({ "name": "live" }), 400, "name"),
        (json!({ "windows": [2] }), 400, "windows"),
        (json!({ "position": "best" }), 400, "position"),
        (json!({ "bands": "none" }), 400, "bands"),
        (json!({ "group": "oftne" }), 400, "group"),
        (json!({ "kind": "gradient" }), 400, "kind"),
        (json!({ "from_step": 9, "to_step": 8 }), 400, "to_step"),
        (json!({ "width": 3 }), 400, "width"),
    ] {
        let (found_status, found_field, detail) = refused(&rest, run_id, &of(change)).await;
        assert_eq!((found_status, found_field.as_str()), (status, field), "{detail}");
    }
    let (_, _, detail) = refused(&rest, run_id, &of(json!({ "group": "oftne" }))).await;
    assert!(detail.contains("did you mean often"), "{detail}");
    let unknown = Uuid::new_v4();
    assert_eq!(refused(&rest, unknown, &of(json!({}))).await.0, 404);
    analyse(&rest, run_id, json!({ "name": "wide", "windows": [20], "group": "seldom" })).await;
    for (query, field) in [
        ("analysis=wied", "analysis"),
        ("analysis=wide&window=10", "window"),
        ("analysis=wide&group=often", "group"),
        ("analysis=wide&kind=gradient", "kind"),
        ("window=20", "window"),
    ] {
        let (status, problem) = rest.refused(&format!("/api/v1/runs/{run_id}/readings/edge?{query}")).await;
        assert_eq!((status, &problem["field"]), (400, &json!(field)), "{query}: {problem}");
        let path = format!("/api/v1/runs/{run_id}/series?metric=edge.ratio&{query}");
        assert_eq!(rest.refused(&path).await.0, 400, "{path}");
    }
    let (_, problem) = rest.refused(&format!("/api/v1/runs/{run_id}/readings/edge?analysis=wied")).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("did you mean wide")), "{problem}");
    let page = rest.get(&format!("/api/v1/runs/{run_id}/readings/edge?analysis=wide&limit=1")).await;
    assert_eq!((&page["group"], &page["window"]), (&json!("seldom"), &json!(20)));
    server.shutdown().await;
}
