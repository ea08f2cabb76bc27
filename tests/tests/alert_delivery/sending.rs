//! What becomes of a message, by what the receiver does.

use std::time::Duration;

use gradwatch_store::{AlertStore, Delivery, Message, MessageState};
use gradwatch_tests::{Backend, on_both_backends};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    mock::{Mock, Received, Reply},
    world::{World, firing, now_us, resolved},
};

on_both_backends!(
    what_fails_is_sent_again_until_it_is_taken,
    a_redirect_is_never_followed,
    gone_disables_the_receiver_and_what_waits_is_sent_when_it_is_enabled,
    a_receiver_that_says_when_to_come_back_is_left_in_peace,
    an_endless_answer_is_an_answer,
    requests_are_limited_at_a_time,
    requests_are_limited_by_the_minute,
    a_message_says_everything,
    slack_gets_its_format,
    what_is_not_taken_in_its_time_is_given_up_and_can_be_sent_again,
);

fn webhook(mock: &Mock) -> Value {
    json!({"webhook": {"url": format!("{}/hook", mock.url())}, "timeout_s": 1})
}

fn outcomes(deliveries: &[Delivery]) -> Vec<(u32, String, Option<u16>)> {
    deliveries.iter().map(|it| (it.attempt, it.outcome.clone(), it.status)).collect()
}

/// Duplicates are the same to the byte, but for the time of the attempt.
fn assert_same(received: &[Received]) {
    for again in received {
        assert_eq!((again.message_id(), &again.body), (received[0].message_id(), &received[0].body));
    }
}

/// A name, what the receiver does at first, and what is recorded of that.
type Failure = (&'static str, fn() -> Reply, &'static str, Option<u16>);

/// Each kind of failure, then success: recorded each, and the same message both times. All at once, as the wait between
/// them is the same.
async fn what_fails_is_sent_again_until_it_is_taken(backend: Backend) {
    let failures: [Failure; 6] = [
        ("500", || Reply::Answer(500, vec![], "no\0 room\u{1b}".to_owned()), "status", Some(500)),
        ("404", || Reply::Status(404), "status", Some(404)),
        ("hangs", || Reply::Hang, "timeout", None),
        ("closes", || Reply::Close, "protocol", None),
        ("breaks", || Reply::Break, "protocol", None),
        ("204", || Reply::Status(204), "delivered", Some(204)),
    ];
    let mut mocks = Vec::new();
    for (_, fail, _, _) in &failures {
        let fail = *fail;
        mocks.push(Mock::start(move |count, _| if count == 0 { fail() } else { Reply::Status(200) }).await);
    }
    let named = failures.iter().zip(&mocks).map(|((name, ..), mock)| (*name, webhook(mock)));
    let world = World::start(backend, &named.collect::<Vec<_>>()).await;
    world.record(failures.iter().map(|(name, ..)| firing(name, "gap", 1)).collect()).await;
    world.delivered(failures.len()).await;
    let deliveries = world.deliveries().await;
    for ((name, _, outcome, status), mock) in failures.iter().zip(&mocks) {
        let of: Vec<Delivery> = deliveries.iter().filter(|it| it.receiver == *name).cloned().collect();
        assert_eq!(outcomes(&of)[0], (1, (*outcome).to_owned(), *status), "{name}");
        assert_same(&mock.received());
        if *outcome == "delivered" {
            assert_eq!(mock.received().len(), 1);
        } else {
            assert_eq!(outcomes(&of)[1..], [(2, "delivered".to_owned(), Some(200))], "{name}");
            assert_eq!(mock.received().len(), 2);
        }
    }
    let said = deliveries.iter().find(|it| it.status == Some(500)).expect("an attempt");
    assert_eq!(said.detail, "no  room ", "what cannot be shown is left out");
    let metrics = world.metrics().await;
    for line in [
        r#"gradwatch_alert_delivery_attempts_total{receiver_kind="webhook",outcome="delivered"} 6"#,
        r#"gradwatch_alert_delivery_attempts_total{receiver_kind="webhook",outcome="timeout"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    world.stop().await;
}

async fn a_redirect_is_never_followed(backend: Backend) {
    let target = Mock::taking().await;
    let location = format!("{}/elsewhere?secret", target.url());
    let mock = Mock::start(move |count, _| {
        let statuses = [301, 302, 303, 307, 308];
        Reply::Answer(statuses[count % statuses.len()], vec![("location", location.clone())], String::new())
    })
    .await;
    let receivers = ["a", "b", "c", "d", "e"].map(|name| (name, webhook(&mock)));
    let world = World::start(backend, &receivers).await;
    world.record(receivers.iter().map(|(name, _)| firing(name, "gap", 1)).collect()).await;
    world.until("an attempt of each", |deliveries, _| deliveries.len() >= 5).await;
    for delivery in world.deliveries().await {
        assert_eq!(delivery.outcome, "redirect");
        assert!(matches!(delivery.status, Some(301..=308)) && !delivery.detail.contains("secret"), "{delivery:?}");
    }
    assert!(world.messages().await.iter().all(|message| message.state == MessageState::Waiting));
    assert_eq!(target.connections(), 0);
    world.stop().await;
    assert_eq!(target.connections(), 0);
}

async fn gone_disables_the_receiver_and_what_waits_is_sent_when_it_is_enabled(backend: Backend) {
    let mock = Mock::start(|count, _| Reply::Status(if count == 0 { 410 } else { 200 })).await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.until("an attempt", |deliveries, _| deliveries.len() == 1).await;
    let disabled = world.store.alert_receivers().await.expect("receivers").remove(0).disabled;
    assert!(disabled.is_some_and(|(_, why)| why.contains("410")));
    assert_eq!(outcomes(&world.deliveries().await), [(1, "gone".to_owned(), Some(410))]);
    world.record(vec![firing("r", "spike", 2)]).await;
    world.until("a second message", |_, messages| messages.len() == 2).await;
    // Long enough for the second to be sent, were it to be.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(mock.received().len(), 1);
    world.store.set_receiver_disabled("r", None).await.expect("stored");
    let world = world.restart().await;
    world.delivered(2).await;
    let received = mock.received();
    assert_eq!(received.len(), 3);
    assert!(received[1..].iter().any(|again| again.message_id() == received[0].message_id()));
    world.stop().await;
}

async fn a_receiver_that_says_when_to_come_back_is_left_in_peace(backend: Backend) {
    const WAIT_S: u64 = 8;
    let mock = Mock::start(|count, _| match count {
        0 => Reply::Answer(429, vec![("retry-after", WAIT_S.to_string())], String::new()),
        _ => Reply::Status(200),
    })
    .await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.until("a refusal", |deliveries, _| deliveries.len() == 1).await;
    // Of another group, which has nothing to wait for but the receiver.
    world.record(vec![firing("r", "spike", 2)]).await;
    world.delivered(2).await;
    let received = mock.received();
    assert_eq!(received.len(), 3);
    for later in &received[1..] {
        assert!(later.at - received[0].at >= Duration::from_secs(WAIT_S), "{:?}", later.at - received[0].at);
    }
    world.stop().await;
}

async fn an_endless_answer_is_an_answer(backend: Backend) {
    let mock = Mock::start(|count, _| Reply::Endless(if count == 0 { 503 } else { 200 })).await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.delivered(1).await;
    let deliveries = world.deliveries().await;
    assert_eq!(outcomes(&deliveries), [(1, "status".to_owned(), Some(503)), (2, "delivered".to_owned(), Some(200))]);
    assert!(deliveries.iter().all(|delivery| delivery.detail == "x".repeat(1_024)), "{deliveries:?}");
    world.stop().await;
}

async fn requests_are_limited_at_a_time(backend: Backend) {
    let (tell, told) = watch::channel(false);
    let mock = Mock::start(move |_, _| Reply::When(told.clone(), 200)).await;
    let mut definition = webhook(&mock);
    (definition["max_concurrency"], definition["timeout_s"]) = (json!(2), json!(60));
    let world = World::start(backend, &[("r", definition)]).await;
    world.record((1..=5).map(|alert| firing("r", &format!("rule {alert}"), alert)).collect()).await;
    mock.requests(2).await;
    // Time for more to come, were there no limit.
    tokio::time::sleep(Duration::from_millis(500)).await;
    tell.send_replace(true);
    world.delivered(5).await;
    assert_eq!((mock.received().len(), mock.most_at_once()), (5, 2));
    world.stop().await;
}

async fn requests_are_limited_by_the_minute(backend: Backend) {
    let mock = Mock::taking().await;
    let mut definition = webhook(&mock);
    definition["max_per_minute"] = json!(30);
    let world = World::start(backend, &[("r", definition)]).await;
    world.record((1..=32).map(|alert| firing("r", &format!("rule {alert}"), alert)).collect()).await;
    world.delivered(32).await;
    let received = mock.received();
    assert_eq!(received.len(), 32);
    // Thirty at once, and then one every two seconds. They are counted when they are sent, not when they arrive.
    let took = received[31].at - received[0].at;
    assert!(took >= Duration::from_millis(3_500), "32 requests in {took:?}");
    world.stop().await;
}

async fn a_message_says_everything(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1), firing("r", "gap", 2), resolved("r", "gap", 2)]).await;
    let received = mock.requests(1).await.remove(0);
    world.delivered(1).await;
    let message = world.messages().await.remove(0);
    assert_eq!(received.target, "/hook");
    assert_eq!(received.headers["content-type"], "application/json");
    assert!(received.headers["user-agent"].starts_with("gradwatch/"), "{received:?}");
    assert_eq!(received.headers["host"], mock.address.to_string());
    assert_eq!(received.headers.get("webhook-signature"), None, "there is no secret");
    let body = received.json();
    assert_eq!(body["message_id"], json!(message.message_id));
    assert_eq!(received.message_id(), message.message_id.to_string());
    assert_eq!((&body["type"], &body["status"]), (&json!("alert.firing"), &json!("firing")));
    assert_eq!((&body["receiver"], &body["group"]), (&json!("r"), &json!({"rule": "gap"})));
    assert_eq!(received.alerts(), [(1, "firing".to_owned()), (2, "resolved".to_owned())]);
    assert_eq!(body["alerts"][0], firing("r", "gap", 1).content);
    assert_eq!(body["alerts"][1], resolved("r", "gap", 2).content);
    world.stop().await;
}

async fn slack_gets_its_format(backend: Backend) {
    let mock = Mock::taking().await;
    let world =
        World::start(backend, &[("r", json!({"slack": {"url": format!("{}/services/T/B/X", mock.url())}}))]).await;
    world.record(vec![firing("r", "gap", 1), resolved("r", "gap", 2)]).await;
    let received = mock.requests(1).await.remove(0);
    world.delivered(1).await;
    assert_eq!((received.target.as_str(), received.headers.get("webhook-id")), ("/services/T/B/X", None));
    let body = received.json();
    assert_eq!(body["text"], "[FIRING 1, RESOLVED 1] gap");
    let blocks = body["blocks"].as_array().expect("blocks");
    assert_eq!(blocks.len(), 3);
    let text = blocks[1]["text"]["text"].as_str().expect("a text");
    assert!(text.contains("run 1") && text.contains("the gap &lt;is&gt; gone"), "{text}");
    world.stop().await;
}

async fn what_is_not_taken_in_its_time_is_given_up_and_can_be_sent_again(backend: Backend) {
    let mock = Mock::start(|count, _| Reply::Status(if count == 0 { 500 } else { 200 })).await;
    let world = World::start(backend, &[("r", webhook(&mock)), ("disabled", webhook(&mock))]).await;
    world.store.set_receiver_disabled("disabled", Some((1, "it said so".to_owned()))).await.expect("stored");
    let world = world.restart().await;
    // Messages that were made a day ago.
    for (receiver, number) in [("r", 1), ("disabled", 2)] {
        let message = Message {
            message_id: Uuid::from_u64_pair(5, number),
            sequence: 0,
            receiver: receiver.to_owned(),
            group_key: "gap".to_owned(),
            content: json!({"test": false, "group": {}, "status": "firing", "alerts": [firing(receiver, "gap", 1).content]}),
            state: MessageState::Waiting,
            attempts: 7,
            created_at_us: now_us() - 86_400_000_000,
            next_attempt_at_us: now_us() - 1,
            give_up_at_us: now_us() - 1,
            ended_at_us: None,
        };
        assert!(world.store.seal_message(Some(&message), &[]).await.expect("stored"));
    }
    let world = world.restart().await;
    let is_over = |message: &Message| message.state == MessageState::Failed && message.ended_at_us.is_some();
    world.until("both are given up", |_, messages| messages.iter().all(is_over)).await;
    let attempts = world.deliveries().await;
    let of =
        |receiver: &str| outcomes(&attempts.iter().filter(|it| it.receiver == receiver).cloned().collect::<Vec<_>>());
    assert_eq!(of("r"), [(8, "status".to_owned(), Some(500))]);
    assert_eq!(of("disabled"), [(8, "disabled".to_owned(), None)]);
    assert_eq!(mock.received().len(), 1);
    let again = Uuid::from_u64_pair(5, 1);
    assert!(world.store.redeliver(again, now_us(), now_us() + 1_000_000_000).await.expect("stored"));
    let world = world.restart().await;
    world
        .until("it is delivered", |_, messages| {
            messages.iter().any(|message| message.message_id == again && message.state == MessageState::Delivered)
        })
        .await;
    assert_same(&mock.received());
    world.stop().await;
}
