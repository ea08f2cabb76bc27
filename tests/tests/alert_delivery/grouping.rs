//! One message for many alerts, in order, and none for those that are silenced.

use std::{collections::BTreeSet, time::Duration};

use gradwatch_store::{AlertStore, MessageState, NewNotification, Silence};
use gradwatch_tests::{Backend, on_both_backends};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    mock::{Mock, Reply},
    world::{World, firing, now_us, resolved},
};

on_both_backends!(
    alerts_of_many_runs_are_one_message,
    what_is_said_of_a_rule_stays_in_order_while_the_first_message_fails,
    what_is_silenced_stays_back_until_the_silence_ends,
    what_waits_is_sent_after_a_restart_with_the_same_id,
);

fn webhook(mock: &Mock) -> Value {
    json!({"webhook": {"url": mock.url()}})
}

async fn alerts_of_many_runs_are_one_message(backend: Backend) {
    let mock = Mock::taking().await;
    let mut definition = webhook(&mock);
    definition["group_wait_s"] = json!(2);
    let world = World::start(backend, &[("r", definition)]).await;
    // In commits of their own, one behind the other, of more than fit into one.
    for runs in [1..=60, 61..=90, 91..=130] {
        world.record(runs.map(|run| firing("r", "gap", run)).collect()).await;
    }
    world.record(vec![resolved("r", "gap", 7)]).await;
    world.delivered(2).await;
    let received = mock.received();
    let counts: Vec<usize> = received.iter().map(|request| request.alerts().len()).collect();
    assert_eq!(counts, [100, 30]);
    let all: BTreeSet<_> = received.iter().flat_map(|request| request.alerts()).collect();
    let status = |run| if run == 7 { "resolved" } else { "firing" };
    assert_eq!(all, (1..=130).map(|run| (run, status(run).to_owned())).collect(), "each once, with its latest word");
    world.stop().await;
}

async fn what_is_said_of_a_rule_stays_in_order_while_the_first_message_fails(backend: Backend) {
    let failing = |all: &crate::mock::Received| all.json()["group"]["rule"] == "gap";
    let mock = Mock::start(move |count, request| match failing(request) && count < 1 {
        true => Reply::Status(503),
        false => Reply::Status(200),
    })
    .await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.until("a failure", |deliveries, _| deliveries.len() == 1).await;
    world.record(vec![firing("r", "gap", 2), resolved("r", "gap", 1), firing("r", "spike", 3)]).await;
    world
        .until("the other rule is not kept waiting", |_, messages| {
            let delivered = |message: &&gradwatch_store::Message| message.state == MessageState::Delivered;
            messages.iter().filter(delivered).count() == 1
        })
        .await;
    assert_eq!(world.messages().await.len(), 2, "what comes later of a rule waits for what came first");
    world.delivered(3).await;
    let of_gap: Vec<_> = mock.received().into_iter().filter(failing).map(|request| request.alerts()).collect();
    let word = |alert: u64, word: &str| (alert, word.to_owned());
    let (first, last) = (vec![word(1, "firing")], vec![word(2, "firing"), word(1, "resolved")]);
    assert_eq!(of_gap.first(), Some(&first));
    assert_eq!(of_gap.last(), Some(&last));
    let turn = of_gap.iter().position(|alerts| *alerts == last).expect("the last");
    assert!(of_gap[..turn].iter().all(|alerts| *alerts == first) && turn == of_gap.len() - 1, "{of_gap:?}");
    world.stop().await;
}

fn silence(rule: &str, ends_at_us: i64) -> Silence {
    Silence {
        silence_id: Uuid::from_u64_pair(9, 9),
        project: None,
        matchers: json!([{"name": "rule", "value": rule}, {"name": "severity", "value": "critical", "negate": true}]),
        starts_at_us: 0,
        ends_at_us,
        comment: "maintenance".to_owned(),
        created_by: String::new(),
        created_at_us: now_us(),
    }
}

async fn what_is_silenced_stays_back_until_the_silence_ends(backend: Backend) {
    let mock = Mock::taking().await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    let before = firing("r", "gap", 1);
    world.record(vec![before.clone()]).await;
    world.delivered(1).await;
    world.store.put_silence(&silence("ga*", i64::MAX)).await.expect("stored");
    // The end of what was told, something that comes and goes, something that is critical, and another rule.
    let mut critical: NewNotification = firing("r", "gap", 3);
    critical.content["severity"] = json!("critical");
    let short = [firing("r", "gap", 2), resolved("r", "gap", 2)];
    world.record([vec![resolved("r", "gap", 1), critical, firing("r", "spike", 4)], short.to_vec()].concat()).await;
    world.delivered(3).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let told = || mock.received().iter().flat_map(crate::mock::Received::alerts).collect::<Vec<_>>();
    let word = |alert: u64, word: &str| (alert, word.to_owned());
    let so_far: BTreeSet<_> = told().into_iter().collect();
    assert_eq!(so_far, [1, 3, 4].map(|alert| word(alert, "firing")).into());
    assert_eq!(told().len(), 3);
    world.store.put_silence(&silence("ga*", now_us())).await.expect("stored");
    world.delivered(4).await;
    assert_eq!(told()[3..], [word(1, "resolved")], "its firing was told, and of the short one nothing was");
    world.stop().await;
}

async fn what_waits_is_sent_after_a_restart_with_the_same_id(backend: Backend) {
    let mock = Mock::start(|count, _| Reply::Status(if count == 0 { 500 } else { 200 })).await;
    let world = World::start(backend, &[("r", webhook(&mock))]).await;
    world.record(vec![firing("r", "gap", 1)]).await;
    world.until("a failure", |deliveries, _| deliveries.len() == 1).await;
    let world = world.restart().await;
    world.delivered(1).await;
    // Sent again by hand, as what is new is.
    let message_id = world.messages().await[0].message_id;
    let day_us = now_us() + 86_400_000_000;
    assert!(world.store.redeliver(message_id, now_us(), day_us).await.expect("stored"));
    world.record(vec![firing("r", "spike", 2)]).await;
    world.delivered(2).await;
    let received = mock.received();
    let same = received.iter().filter(|request| request.message_id() == message_id.to_string());
    let bodies: BTreeSet<_> = same.clone().map(|request| &request.body).collect();
    assert_eq!((same.count(), bodies.len()), (3, 1));
    world.stop().await;
}
