//! A token of one project sees and changes nothing of another.

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use gradwatch_tests::Rest;

use crate::made::{BOOTSTRAP, RECEIVERS, RULES, SILENCES, ok, refused, rule, start_with_tokens, webhook, with_token};

fn silence(project: Option<&str>) -> Value {
    json!({ "project": project, "matchers": [{ "name": "rule", "value": "*" }], "duration_s": 3_600 })
}

async fn names(rest: &Rest, path: &str, member: &str) -> Vec<String> {
    let items = rest.get(path).await;
    items["items"].as_array().expect("items").iter().map(|item| item[member].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_silences_are_the_projects_own() {
    let server = start_with_tokens(|_| {}).await;
    let all = server.rest().with_token(BOOTSTRAP);
    let alpha = with_token(&server, Some("alpha"), "admin").await;
    let beta = with_token(&server, Some("beta"), "admin").await;
    let reader = with_token(&server, Some("alpha"), "read").await;
    ok(&all, Method::POST, RECEIVERS, &webhook("oncall")).await;

    // Rules of all projects and of alpha.
    ok(&all, Method::POST, RULES, &rule("everywhere", None)).await;
    let mut own = rule("own", Some("alpha"));
    own["receivers"] = json!(["oncall"]);
    let made = ok(&alpha, Method::POST, RULES, &own).await;
    assert_eq!(made["project"], "alpha");
    for rest in [&alpha, &reader] {
        assert_eq!(names(rest, RULES, "name").await, ["\"own\""]);
        assert_eq!(rest.get(&format!("{RULES}/own")).await, made);
        refused(rest, (Method::GET, &format!("{RULES}?project=beta")), &json!({}), 403, Some("project")).await;
    }
    assert_eq!(names(&beta, RULES, "name").await, Vec::<String>::new());
    assert_eq!(names(&all, RULES, "name").await, ["\"everywhere\"", "\"own\""]);

    // Neither made for others, nor taken from others, nor given to others.
    for foreign in [rule("x", None), rule("x", Some("beta")), json!({ "name": "x", "when": "run.crashed" })] {
        refused(&alpha, (Method::POST, RULES), &foreign, 403, Some("select.project")).await;
    }
    let path = format!("{RULES}/own");
    for project in [None, Some("beta")] {
        refused(&alpha, (Method::PUT, &path), &rule("own", project), 403, Some("select.project")).await;
    }
    for (rest, name) in [(&beta, "own"), (&alpha, "everywhere"), (&beta, "everywhere"), (&beta, "nobody")] {
        let path = format!("{RULES}/{name}");
        let of_caller = if std::ptr::eq(rest, &alpha) { "alpha" } else { "beta" };
        for (method, body) in
            [(Method::GET, json!({})), (Method::PUT, rule(name, Some(of_caller))), (Method::DELETE, json!({}))]
        {
            let problem = refused(rest, (method, &path), &body, 404, Some("name")).await;
            assert!(!problem.to_string().contains("alpha"), "{problem}");
        }
    }
    // Who may read may check, and no more.
    assert_eq!(ok(&reader, Method::POST, &format!("{RULES}/check"), &own).await["valid"], true);
    for (method, path, body) in [
        (Method::POST, RULES, rule("x", Some("alpha"))),
        (Method::PUT, &*path, own.clone()),
        (Method::DELETE, &path, json!({})),
    ] {
        refused(&reader, (method, path), &body, 403, None).await;
    }
    assert_eq!(alpha.get(&path).await, made, "nothing of that has changed it");

    // Silences.
    let everywhere = ok(&all, Method::POST, SILENCES, &silence(None)).await;
    let own = ok(&alpha, Method::POST, SILENCES, &silence(None)).await;
    assert_eq!((&own["project"], &own["created_by"]), (&json!("alpha"), &json!("admin Some(\"alpha\")")));
    refused(&alpha, (Method::POST, SILENCES), &silence(Some("beta")), 403, Some("project")).await;
    let id = |silence: &Value| silence["silence_id"].as_str().expect("an id").to_owned();
    let ids = async |rest: &Rest| names(rest, SILENCES, "silence_id").await;
    assert_eq!(ids(&reader).await, [json!(id(&own)).to_string()]);
    assert_eq!(ids(&beta).await, Vec::<String>::new());
    assert_eq!(ids(&all).await.len(), 2);
    for (rest, silence_id) in
        [(&beta, id(&own)), (&alpha, id(&everywhere)), (&beta, id(&everywhere)), (&alpha, Uuid::new_v4().to_string())]
    {
        for method in [Method::GET, Method::DELETE] {
            let path = format!("{SILENCES}/{silence_id}");
            refused(rest, (method, &path), &json!({}), 404, Some("silence_id")).await;
        }
    }
    assert_eq!(ids(&all).await.len(), 2, "none has ended");
    ok(&alpha, Method::DELETE, &format!("{SILENCES}/{}", id(&own)), &json!({})).await;
    assert_eq!(ids(&all).await, [json!(id(&everywhere)).to_string()]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_and_what_they_are_told_are_for_tokens_of_all_projects() {
    let server = start_with_tokens(|_| {}).await;
    let all = server.rest().with_token(BOOTSTRAP);
    ok(&all, Method::POST, RECEIVERS, &webhook("oncall")).await;
    let reader = with_token(&server, None, "read").await;
    let one = [with_token(&server, Some("alpha"), "read").await, with_token(&server, Some("alpha"), "admin").await];
    let message = format!("/api/v1/alerts/messages/{}", Uuid::new_v4());
    let oncall = format!("{RECEIVERS}/oncall");
    for path in [RECEIVERS, "/api/v1/alerts/messages", "/api/v1/alerts/deliveries", &*oncall] {
        reader.get(path).await;
        for rest in &one {
            refused(rest, (Method::GET, path), &json!({}), 403, None).await;
        }
    }
    for (method, path, body) in [
        (Method::POST, RECEIVERS.to_owned(), webhook("other")),
        (Method::PUT, oncall.clone(), webhook("oncall")),
        (Method::DELETE, oncall.clone(), json!({})),
        (Method::POST, format!("{oncall}/test"), json!({})),
        (Method::POST, format!("{oncall}/enable"), json!({})),
        (Method::POST, format!("{RULES}/reload"), json!({})),
        (Method::POST, format!("{message}/redeliver"), json!({})),
    ] {
        for rest in one.iter().chain([&reader]) {
            refused(rest, (method.clone(), &path), &body, 403, None).await;
        }
    }
    assert_eq!(all.get("/api/v1/alerts/messages").await["items"], json!([]));
    assert_eq!(all.get(RECEIVERS).await["items"].as_array().map(Vec::len), Some(1));
    server.shutdown().await;
}
