//! A token that is taken back, or has had its time, opens nothing more and ends what it opened.

use gradwatch_tests::{PATIENCE, frame};
use http::Method;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    projects::Stream,
    server::{admin, create, run_of, start, telemetry, token},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_streams() {
    let server = start(|_| {}).await;
    let made = create(&admin(&server), None, &["ingest", "read"]).await;
    let text = made["token"].as_str().expect("a token");
    let (mut peer, rest) = (telemetry(&server, Some(text)).await, server.rest().with_token(text));
    let kept = server.rest().with_token(&token(&admin(&server), None, &["read"]).await);
    let (mut listening, mut listening_on) =
        (rest.events("/api/v1/stream", None).await, kept.events("/api/v1/stream", None).await);
    let run = run_of("alpha");
    peer.open_run(run.clone()).await.expect("opened");
    let mut stream = Stream::open(&mut peer, &run).await.expect("opened");
    stream.frames(vec![frame(1, 1)]).await;
    stream.acknowledged(1).await.expect("settled");

    let path = format!("/api/v1/tokens/{}", made["token_id"].as_str().expect("an id"));
    let (status, revoked) = admin(&server).call(Method::DELETE, &path, "").await;
    assert_eq!(status, 200, "{revoked}");
    // At once for what is new.
    assert_eq!(rest.refused("/api/v1/runs").await.0, 401);
    assert_eq!(peer.open_run(run.clone()).await.unwrap_err().code(), Code::Unauthenticated);
    // Soon for what is open.
    let ended = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    while timeout(PATIENCE, listening.next()).await.expect("the end").is_some() {}
    // What was settled stays, and others notice nothing.
    assert_eq!(kept.get(&format!("/api/v1/runs/{}", run.run_id)).await["last_step"], 1);
    assert!(listening_on.next().await.is_some_and(|message| message.data["run_id"] == run.run_id.as_str()));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires() {
    let server = start(|_| {}).await;
    let body = json!({ "name": "short", "scopes": ["read"], "expires_in_s": 1 }).to_string();
    let (status, answer) = admin(&server).call(Method::POST, "/api/v1/tokens", &body).await;
    assert_eq!(status, 201, "{answer}");
    let made: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let rest = server.rest().with_token(made["token"].as_str().expect("a token"));
    let expiring = async {
        while rest.call(Method::GET, "/api/v1/runs", "").await.0 == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, expiring).await.expect("it expires");
    assert_eq!(rest.refused("/api/v1/runs").await.1["code"], "unauthenticated");
    server.shutdown().await;
}
