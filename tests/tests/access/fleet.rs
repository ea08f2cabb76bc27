//! What several runs tell together is told to who may see those runs.

use gradwatch_tests::Rest;
use http::Method;
use serde_json::{Value, json};

use crate::server::{BOOTSTRAP, admin, run_of, start, telemetry, token};

async fn ask(rest: &Rest, what: &str, request: &Value) -> (u16, Value) {
    let (status, body) = rest.call(Method::POST, &format!("/api/v1/fleet/{what}"), &request.to_string()).await;
    (status.as_u16(), serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computation_sees_one_project_and_is_seen_there() {
    let server = start(|_| {}).await;
    let mut peer = telemetry(&server, Some(BOOTSTRAP)).await;
    let mut runs = Vec::new();
    for project in ["alpha", "beta"] {
        let mut run = run_of(project);
        run.labels = [("width_family".to_owned(), "f".to_owned())].into();
        peer.open_run(run.clone()).await.expect("opened");
        runs.push(run.run_id);
    }
    let of = async |project| server.rest().with_token(&token(&admin(&server), project, &["read"]).await);
    let (alpha, beta, all) = (of(Some("alpha")).await, of(Some("beta")).await, of(None).await);

    // Their own project, named or not; the label is the same in both.
    let mut locations = Vec::new();
    for (rest, project, run_id) in [(&alpha, "alpha", &runs[0]), (&beta, "beta", &runs[1])] {
        for request in
            [json!({"family": "f", "align": "step"}), json!({"project": project, "family": "f", "align": "step"})]
        {
            let (status, found) = ask(rest, "dimension", &request).await;
            assert_eq!(status, 200, "{found}");
            assert_eq!(found["request"]["project"], project);
            let left_out = found["result"]["left_out"].as_array().expect("runs");
            assert_eq!(left_out.iter().map(|run| &run["run_id"]).collect::<Vec<_>>(), [run_id], "{found}");
            locations.push(format!("/api/v1/fleet/{}", found["id"].as_str().expect("an id")));
        }
        let families = rest.get("/api/v1/fleet/families").await;
        let projects: Vec<&Value> =
            families["items"].as_array().expect("items").iter().map(|family| &family["project"]).collect();
        assert_eq!(projects, [project]);
    }
    assert_eq!((&locations[0], &locations[2]), (&locations[1], &locations[3]));
    assert_ne!(locations[0], locations[2]);

    // Nothing of another.
    for (what, request) in [
        ("dimension", json!({"project": "alpha", "family": "f", "align": "step"})),
        ("error_split", json!({"project": "alpha", "probe": "held"})),
    ] {
        let (status, problem) = ask(&beta, what, &request).await;
        assert_eq!((status, &problem["field"]), (403, &json!("project")), "{problem}");
    }
    let (status, problem) = beta.refused(&locations[0]).await;
    assert_eq!((status, &problem["field"]), (404, &json!("computation_id")), "{problem}");
    assert_eq!(beta.refused("/api/v1/fleet/families?project=alpha").await.0, 403);

    // Who sees all has to say which.
    for location in &locations {
        all.get(location).await;
    }
    assert_eq!(ask(&all, "dimension", &json!({"family": "f", "align": "step"})).await.1["field"], "project");
    assert_eq!(all.all("/api/v1/fleet/families?limit=1").await.len(), 2);
    server.shutdown().await;
}
