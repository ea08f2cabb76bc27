//! The first token.

use gradwatch_server::access::Secret;
use http::Method;

use crate::server::{BOOTSTRAP, admin, start};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_is_made_once_and_stays_revoked() {
    let server = start(|_| {}).await.restart().await;
    let tokens = admin(&server).get("/api/v1/tokens").await;
    let [first] = tokens["items"].as_array().expect("items").as_slice() else { panic!("one token: {tokens}") };
    assert_eq!((first["name"].as_str(), first["project"].as_str()), (Some("bootstrap"), None));
    assert_eq!(first["scopes"], serde_json::json!(["admin"]));
    let path = format!("/api/v1/tokens/{}", first["token_id"].as_str().expect("an id"));
    assert_eq!(admin(&server).call(Method::DELETE, &path, "").await.0, 200);
    let server = server.restart().await;
    assert_eq!(admin(&server).refused("/api/v1/tokens").await.0, 401);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_token_is_asked_for_any_or_none_will_do() {
    let server = start(|config| config.access.require_tokens = false).await;
    for rest in [server.rest(), server.rest().with_token("gw_wrong"), server.rest().with_token(BOOTSTRAP)] {
        assert_eq!(rest.get("/api/v1/tokens").await["items"][0]["name"], "bootstrap");
    }
    server.shutdown().await;
}

#[test]
fn a_first_token_must_be_long() {
    assert!(Secret::chosen("short".into()).is_err());
    assert!(Secret::chosen(BOOTSTRAP.into()).is_ok());
}
