//! What receivers are told: messages, attempts, tests and sending again.

use gradwatch_tests::{Backend, Place, TestServer, on_both_backends};
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uuid::Uuid;

use crate::made::{RECEIVERS, SIGNING, ok, refused};

on_both_backends!(messages_are_listed_with_their_attempts);

const MESSAGES: &str = "/api/v1/alerts/messages";
const DELIVERIES: &str = "/api/v1/alerts/deliveries";

/// Answers every request with a status; its address.
async fn answering(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                let is_whole = |request: &[u8]| {
                    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
                    let (head, body) = text.split_once("\r\n\r\n")?;
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
                    Some(body.len() >= length.trim().parse().ok()?)
                };
                while is_whole(&request) != Some(true) {
                    if stream.read_buf(&mut request).await.is_ok_and(|read| read == 0) {
                        return;
                    }
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/hook")
}

fn receiver(name: &str, url: &str) -> Value {
    json!({ "name": name, "webhook": { "url": url, "secrets": [SIGNING] } })
}

async fn messages_are_listed_with_their_attempts(backend: Backend) {
    let server = TestServer::start_in(Place::new(backend), |config| {
        config.alerts.allow_addresses = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let rest = server.rest();
    let (good, bad, gone) =
        (answering("200 OK").await, answering("500 Internal Server Error").await, answering("410 Gone").await);
    for (name, url) in [("good", &good), ("bad", &bad), ("gone", &gone)] {
        ok(&rest, Method::POST, RECEIVERS, &receiver(name, url)).await;
    }
    let mut ids = Vec::new();
    for name in ["good", "bad", "gone"] {
        let message = ok(&rest, Method::POST, &format!("{RECEIVERS}/{name}/test"), &json!({})).await;
        assert_eq!(message["receiver"], name);
        ids.push(message["message_id"].as_str().expect("an id").to_owned());
    }
    let [good_id, bad_id, gone_id] = ids.as_slice() else { panic!("three") };

    // Delivered at the first attempt.
    let good_path = format!("{MESSAGES}/{good_id}");
    let message = rest.until(&good_path, "its delivery", |message| message["state"] == "delivered").await;
    assert_eq!(
        (&message["attempts"], &message["next_attempt_at"], &message["give_up_at"]),
        (&json!(1), &Value::Null, &Value::Null)
    );
    assert_eq!(message["content"]["test"], true, "{message}");
    let deliveries = rest.get(&format!("{DELIVERIES}?message={good_id}")).await;
    let delivery = &deliveries["items"][0];
    for (member, value) in [
        ("message_id", json!(good_id)),
        ("receiver", json!("good")),
        ("attempt", json!(1)),
        ("outcome", json!("delivered")),
        ("status", json!(200)),
    ] {
        assert_eq!(delivery[member], value, "{member}: {deliveries}");
    }
    // And again by hand.
    let again = ok(&rest, Method::POST, &format!("{good_path}/redeliver"), &json!({})).await;
    assert_eq!(again["message_id"], json!(good_id));
    let twice = |list: &Value| list["items"].as_array().is_some_and(|items| items.len() == 2);
    rest.until(&format!("{DELIVERIES}?message={good_id}"), "a second attempt", twice).await;

    // Refused, and tried again later.
    let bad_path = format!("{MESSAGES}/{bad_id}");
    let message = rest.until(&bad_path, "an attempt", |message| message["attempts"] == 1).await;
    assert!(message["state"] == "waiting" && message["next_attempt_at"].is_string(), "{message}");
    let deliveries = rest.get(&format!("{DELIVERIES}?receiver=bad")).await;
    assert_eq!(deliveries["items"][0]["status"], 500, "{deliveries}");
    refused(&rest, (Method::POST, &format!("{bad_path}/redeliver")), &json!({}), 409, Some("message_id")).await;

    // Gone for good, until somebody says otherwise.
    let gone_receiver = format!("{RECEIVERS}/gone");
    let disabled = rest.until(&gone_receiver, "that it is disabled", |receiver| !receiver["disabled"].is_null()).await;
    assert!(disabled["disabled"]["reason"].as_str().is_some_and(|reason| reason.contains("410")), "{disabled}");
    refused(&rest, (Method::POST, &format!("{gone_receiver}/test")), &json!({}), 409, Some("name")).await;
    let enabled = ok(&rest, Method::POST, &format!("{gone_receiver}/enable"), &json!({})).await;
    assert_eq!(enabled["disabled"], Value::Null);

    // Lists, page by page.
    let whole = rest.all(&format!("{MESSAGES}?limit=500")).await;
    let listed: Vec<&Value> = whole.iter().map(|message| &message["message_id"]).collect();
    assert_eq!(listed, [gone_id, bad_id, good_id], "newest first");
    let paged = rest.all(&format!("{MESSAGES}?limit=1")).await;
    assert_eq!(paged.iter().map(|message| &message["message_id"]).collect::<Vec<_>>(), listed);
    assert!(rest.all(&format!("{DELIVERIES}?limit=1")).await.len() >= 4);
    for (query, found) in [("receiver=bad", &[bad_id][..]), ("state=delivered", &[good_id]), ("receiver=nobody", &[])] {
        let items = rest.all(&format!("{MESSAGES}?{query}")).await;
        let items: Vec<&Value> = items.iter().map(|message| &message["message_id"]).collect();
        assert_eq!(items, found, "{query}");
    }

    for path in [format!("{MESSAGES}/{}", Uuid::new_v4()), format!("{MESSAGES}/{}/redeliver", Uuid::new_v4())] {
        let method = if path.ends_with("redeliver") { Method::POST } else { Method::GET };
        refused(&rest, (method, &path), &json!({}), 404, Some("message_id")).await;
    }
    refused(&rest, (Method::POST, &format!("{RECEIVERS}/nobody/test")), &json!({}), 404, Some("name")).await;

    // To nobody nothing is sent again, and that is what is said.
    ok(&rest, Method::DELETE, &format!("{RECEIVERS}/bad"), &json!({})).await;
    assert_eq!(rest.get(&bad_path).await["state"], "failed");
    let redeliver = format!("{bad_path}/redeliver");
    let problem = refused(&rest, (Method::POST, &redeliver), &json!({}), 409, Some("message_id")).await;
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("no receiver \"bad\" any more")), "{problem}");
    server.shutdown().await;
}
