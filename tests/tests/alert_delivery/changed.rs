//! Receivers that are changed while something is told to them, and clocks that are.

use std::time::Duration;

use gradwatch_store::{AlertStore, Message, MessageState};
use gradwatch_tests::{AlertCall, Backend, Rest, on_both_backends};
use http::Method;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use crate::{
    mock::{Mock, Reply},
    world::{World, firing, now_us},
};

on_both_backends!(
    a_receiver_that_is_made_again_is_told,
    who_asked_to_be_told_no_more_is_not_who_it_is_now,
    a_pause_is_of_who_asked_for_it,
    what_waits_for_its_turn_goes_where_the_receiver_is_then,
    what_a_clock_has_put_off_is_sent_when_it_is_set_back,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhook(mock: &Mock) -> Value {
    json!({"webhook": {"url": format!("{}/hook", mock.url()), "secrets": [SECRET]}, "group_wait_s": 0})
}

async fn call(world: &World, method: Method, path: &str, body: &str) {
    let (status, text) = Rest::new(&world.url()).call(method, path, body).await;
    assert!(status.is_success(), "{status} {text}");
}

async fn point_to(world: &World, mock: &Mock) {
    call(world, Method::PUT, "/api/v1/alerts/receivers/r", &webhook(mock).to_string()).await;
}

/// The receiver goes and comes back while whoever keeps its task waits for the store.
async fn a_receiver_that_is_made_again_is_told(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", webhook(&mock)), ("other", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.delivered(1).await;
    world.store.hold_alerts(AlertCall::Seal);
    world.record(vec![firing("other", "gap", 2)]).await;
    sleep(Duration::from_millis(1_500)).await;
    call(&world, Method::DELETE, "/api/v1/alerts/receivers/r", "").await;
    // Time for its task to see that.
    sleep(Duration::from_millis(500)).await;
    let mut again = webhook(&mock);
    again["name"] = json!("r");
    call(&world, Method::POST, "/api/v1/alerts/receivers", &again.to_string()).await;
    world.store.allow_alerts(AlertCall::Seal, 1_000);
    world.record(vec![firing("r", "gap", 3)]).await;
    world.delivered(3).await;
    world.stop().await;
}

async fn who_asked_to_be_told_no_more_is_not_who_it_is_now(backend: Backend) {
    let (tell, told) = watch::channel(false);
    let before = Mock::start(move |_, _| Reply::When(told.clone(), 410)).await;
    let after = Mock::taking().await;
    let world = World::start(backend, &[("r", webhook(&before))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    before.requests(1).await;
    point_to(&world, &after).await;
    tell.send_replace(true);
    world.until("it is gone", |deliveries, _| deliveries.iter().any(|it| it.outcome == "gone")).await;
    world.record(vec![firing("r", "spike", 2)]).await;
    world.delivered(2).await;
    assert_eq!((before.received().len(), after.received().len()), (1, 2));
    world.stop().await;
}

async fn a_pause_is_of_who_asked_for_it(backend: Backend) {
    let before = Mock::start(|_, _| Reply::Answer(429, vec![("retry-after", "80000".to_owned())], String::new())).await;
    let after = Mock::taking().await;
    let world = World::start(backend, &[("r", webhook(&before))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.until("it asks for a pause", |deliveries, _| deliveries.len() == 1).await;
    point_to(&world, &after).await;
    world.record(vec![firing("r", "spike", 2)]).await;
    after.requests(1).await;
    world.stop().await;
}

async fn what_waits_for_its_turn_goes_where_the_receiver_is_then(backend: Backend) {
    let (before, after) = (Mock::taking().await, Mock::taking().await);
    let mut definition = webhook(&before);
    // Five at once, and then one every twelve seconds.
    definition["max_per_minute"] = json!(5);
    let world = World::start(backend, &[("r", definition.clone())]).await;
    world.record((1..=6).map(|alert| firing("r", &format!("rule {alert}"), alert)).collect()).await;
    before.requests(5).await;
    definition["webhook"]["url"] = json!(format!("{}/hook", after.url()));
    call(&world, Method::PUT, "/api/v1/alerts/receivers/r", &definition.to_string()).await;
    world.delivered(6).await;
    assert_eq!((before.received().len(), after.received().len()), (5, 1));
    world.stop().await;
}

async fn what_a_clock_has_put_off_is_sent_when_it_is_set_back(backend: Backend) {
    let mock = Mock::start(|count, _| Reply::Status(if count == 0 { 500 } else { 200 })).await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    let later_us = now_us() + 30 * 86_400_000_000;
    let message = Message {
        message_id: Uuid::from_u64_pair(5, 1),
        sequence: 0,
        receiver: "r".to_owned(),
        group_key: "gap".to_owned(),
        content: json!({"test": false, "group": {}, "status": "firing", "alerts": [firing("r", "gap", 1).content]}),
        state: MessageState::Waiting,
        attempts: 0,
        created_at_us: later_us,
        next_attempt_at_us: later_us,
        give_up_at_us: later_us + 86_400_000_000,
        ended_at_us: None,
    };
    assert!(world.store.seal_message(Some(&message), &[]).await.expect("stored"));
    world.record(vec![firing("r", "gap", 2)]).await;
    let world = world.restart().await;
    world.delivered(2).await;
    let received = mock.received();
    assert_eq!(received.iter().map(|it| it.alerts()[0].0).collect::<Vec<_>>(), [1, 1, 2]);
    let first = world.messages().await.remove(0);
    assert!(first.give_up_at_us < now_us() + 86_400_000_000, "it is tried for a day");
    world.stop().await;
}
