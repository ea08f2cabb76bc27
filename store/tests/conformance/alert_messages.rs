//! Notifications become messages, messages are delivered.

use std::collections::BTreeSet;

use gradwatch_store::{
    AlertCommit, AlertSource, AlertState, Delivery, DeliveryQuery, Message, MessageQuery, MessageState,
    NewNotification, Notification, Silence, StoreError,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    alert_fixture::{alert, commit, delivery, id, land, message, notification, of_group, receiver, seal},
    fixture::{AnyStore, owned, run_id},
};

async fn with_notifications(store: &AnyStore, keys: &[&str]) -> Vec<u64> {
    owned(store, 1).await;
    let new = keys.iter().zip(1..).map(|(key, number)| notification("pager", key, number));
    land(store, AlertCommit { notifications: new.collect(), ..commit(1, 0) }).await;
    store.notifications(100).await.unwrap().iter().map(|it| it.notification_id).collect()
}

fn ids(messages: &[Message]) -> Vec<Uuid> {
    messages.iter().map(|message| message.message_id).collect()
}

fn all_messages() -> MessageQuery {
    MessageQuery { limit: 100, ..MessageQuery::default() }
}

pub(crate) async fn a_message_is_sealed_once(store: AnyStore) {
    let all = with_notifications(&store, &["a", "a", "b"]).await;
    assert!(store.seal_message(Some(&message("pager", "a", 1)), &all[..1]).await.unwrap());
    let sealed = store.message(id(2_001)).await.unwrap().unwrap();
    assert_eq!(sealed, Message { sequence: sealed.sequence, ..message("pager", "a", 1) });
    // While it waits, nothing more of its key is shown.
    let shown = store.notifications(100).await.unwrap();
    assert_eq!(shown.iter().map(|it| it.notification_id).collect::<Vec<_>>(), all[2..]);
    // One of them is gone already: nothing changes.
    assert!(!store.seal_message(Some(&message("pager", "a", 2)), &all).await.unwrap());
    assert!(!store.seal_message(None, &all).await.unwrap());
    assert_eq!(store.message(id(2_002)).await.unwrap(), None);
    assert_eq!(store.notifications(100).await.unwrap(), shown);
    let again = store.seal_message(Some(&message("pager", "a", 1)), &all[1..2]).await;
    assert!(matches!(again, Err(StoreError::UniqueViolation(_))), "{again:?}");
    store.silence_notifications(&all[2..], true).await.unwrap();
    assert!(store.notifications(100).await.unwrap()[0].silenced);
    store.silence_notifications(&all[2..], false).await.unwrap();
    assert!(!store.notifications(100).await.unwrap()[0].silenced);
    store.silence_notifications(&[], true).await.unwrap();
    let delivered = Message { state: MessageState::Delivered, attempts: 1, ended_at_us: Some(9), ..sealed };
    store.record_delivery(&delivery(&delivered), &delivered).await.unwrap();
    assert_eq!(store.notifications(100).await.unwrap().len(), 2);
    assert!(store.seal_message(None, &all[1..]).await.unwrap(), "dropped");
    assert_eq!(store.notifications(100).await.unwrap(), []);
}

pub(crate) async fn waiting_messages_are_counted_with_the_age_of_the_oldest(store: AnyStore) {
    assert_eq!(store.waiting_messages().await.unwrap(), (0, None));
    let messages = [7, 5, 9].map(|number| message("pager", &format!("key {number}"), number));
    seal(&store, &messages).await;
    assert_eq!(store.waiting_messages().await.unwrap(), (3, Some(5)));
    let delivered = Message { state: MessageState::Delivered, ended_at_us: Some(9), ..messages[1].clone() };
    store.record_delivery(&delivery(&delivered), &delivered).await.unwrap();
    assert_eq!(store.waiting_messages().await.unwrap(), (2, Some(7)));
}

/// However much is kept back, or waits, of one key, the rest is told.
pub(crate) async fn what_is_silenced_hides_nothing(store: AnyStore) {
    let keys: Vec<_> = (0..40).map(|number| if number < 37 { "a" } else { ["b", "a", "c"][number - 37] }).collect();
    let all = with_notifications(&store, &keys).await;
    let mut end = NewNotification { state: AlertState::Resolved, ..notification("pager", "a", 1) };
    end.created_at_us = 41;
    land(&store, AlertCommit { notifications: vec![end], ..commit(1, 1) }).await;
    let numbers = |shown: &[Notification]| shown.iter().map(|it| it.new.created_at_us).collect::<Vec<_>>();
    // Of each key the first.
    let shown = store.notifications(3).await.unwrap();
    assert_eq!(numbers(&shown), [1, 38, 40]);
    let silenced: Vec<_> = store
        .notifications(100)
        .await
        .unwrap()
        .iter()
        .filter(|it| it.new.created_at_us < 38)
        .map(|it| it.notification_id)
        .collect();
    assert_eq!((all.len(), silenced.len()), (40, 37));
    store.silence_notifications(&silenced, true).await.unwrap();
    // What is silenced of an alert comes with what is not.
    let shown = store.notifications(5).await.unwrap();
    assert_eq!(numbers(&shown), [1, 39, 41, 38, 40]);
    assert_eq!(shown.iter().filter(|it| it.silenced).count(), 1);
    let shown = store.notifications(7).await.unwrap();
    assert_eq!(numbers(&shown), [1, 2, 3, 39, 41, 38, 40]);

    // Whatever waits in front of them.
    let mut untold = store.untold_alerts("pager").await.unwrap();
    seal(&store, &[message("pager", "a", 1), message("pager", "b", 2), message("log", "a", 3)]).await;
    untold.sort();
    assert_eq!(untold, (1..=40).map(id).collect::<Vec<_>>());
    assert_eq!(store.untold_alerts("pager").await.unwrap().len(), 40);
    assert_eq!(store.untold_alerts("log").await.unwrap().len(), 0);
    let mut waiting = store.waiting_keys().await.unwrap();
    waiting.sort();
    let key = |receiver: &str, key: &str| (receiver.to_owned(), key.to_owned());
    assert_eq!(waiting, [key("log", "a"), key("pager", "a"), key("pager", "b")]);
}

/// A clock that was ahead, and has been set back.
pub(crate) async fn what_would_be_due_in_more_than_a_day_is_due(store: AnyStore) {
    const DAY_US: i64 = 86_400_000_000;
    let at = |number: u64, at_us: i64| Message {
        next_attempt_at_us: at_us,
        ..message("pager", &number.to_string(), number)
    };
    let messages = [at(1, 10 + DAY_US), at(2, 11 + DAY_US)];
    seal(&store, &messages).await;
    let taken = store.claim_messages("pager", 10, 100, 9).await.unwrap();
    assert_eq!(ids(&taken), [id(2_002)]);
    let again = Message { attempts: 1, next_attempt_at_us: 50, give_up_at_us: 60, ..taken[0].clone() };
    store.record_delivery(&delivery(&again), &again).await.unwrap();
    assert_eq!(store.message(id(2_002)).await.unwrap(), Some(again));
}

pub(crate) async fn messages_of_a_key_are_taken_in_order(store: AnyStore) {
    let mut messages = [("a", 1), ("b", 5), ("a", 2), ("c", 3), ("c", 1)].map(|(key, due)| message("pager", key, due));
    for (message, number) in messages.iter_mut().zip(1..) {
        message.message_id = id(number);
    }
    seal(&store, &messages).await;
    seal(&store, &[Message { message_id: id(6), ..message("log", "a", 1) }]).await;
    assert_eq!(ids(&store.claim_messages("pager", 0, 100, 9).await.unwrap()), [] as [Uuid; 0], "none is due");
    // Due longest first, of each key the oldest; the second of c is due, but the first is not.
    let taken = store.claim_messages("pager", 2, 100, 9).await.unwrap();
    assert_eq!(ids(&taken), [id(1)]);
    assert_eq!(ids(&store.claim_messages("pager", 9, 100, 1).await.unwrap()), [id(4)]);
    assert_eq!(ids(&store.claim_messages("pager", 9, 100, 9).await.unwrap()), [id(2)]);
    assert_eq!(ids(&store.claim_messages("pager", 9, 100, 9).await.unwrap()), [] as [Uuid; 0], "all are taken");
    assert_eq!(ids(&store.claim_messages("log", 9, 100, 9).await.unwrap()), [id(6)]);

    // Not delivered yet: those behind it wait on.
    let again = Message { attempts: 1, next_attempt_at_us: 50, ..taken[0].clone() };
    store.record_delivery(&delivery(&again), &again).await.unwrap();
    assert_eq!(ids(&store.claim_messages("pager", 49, 100, 9).await.unwrap()), [] as [Uuid; 0]);
    let taken = store.claim_messages("pager", 50, 100, 9).await.unwrap();
    assert_eq!(taken, [again]);
    let failed = Message { state: MessageState::Failed, attempts: 2, ended_at_us: Some(60), ..taken[0].clone() };
    store.record_delivery(&delivery(&failed), &failed).await.unwrap();
    assert_eq!(store.message(id(1)).await.unwrap(), Some(failed));
    assert_eq!(ids(&store.claim_messages("pager", 60, 200, 9).await.unwrap()), [id(3)]);

    // Whoever had them has forgotten them, at last by time.
    store.release_messages().await.unwrap();
    assert_eq!(ids(&store.claim_messages("pager", 60, 70, 9).await.unwrap()), [id(3), id(4), id(2)]);
    assert_eq!(ids(&store.claim_messages("pager", 69, 80, 9).await.unwrap()), [] as [Uuid; 0]);
    assert_eq!(ids(&store.claim_messages("pager", 70, 80, 9).await.unwrap()), [id(3), id(4), id(2)]);
}

/// Nobody takes what another has.
pub(crate) async fn concurrent_claims_are_apart(store: AnyStore) {
    let messages: Vec<_> = (0..120).map(|number| message("pager", &format!("key {}", number % 40), number)).collect();
    seal(&store, &messages).await;
    let sender = |_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut sent = Vec::new();
            let mut now_us = 1_000;
            loop {
                let taken = store.claim_messages("pager", now_us, now_us + 1_000_000, 3).await.unwrap();
                for message in &taken {
                    sent.push((message.group_key.clone(), message.sequence));
                    let state = MessageState::Delivered;
                    let ended = Message { state, attempts: 1, ended_at_us: Some(now_us), ..message.clone() };
                    store.record_delivery(&delivery(&ended), &ended).await.unwrap();
                }
                let waiting = MessageQuery { state: Some(MessageState::Waiting), ..all_messages() };
                if taken.is_empty() && store.messages(&waiting).await.unwrap().items.is_empty() {
                    return sent;
                }
                now_us += 1;
            }
        })
    };
    let senders: Vec<_> = (0..3).map(sender).collect();
    let mut sent = Vec::new();
    for sender in senders {
        let by_one = sender.await.unwrap();
        // Of each key in order.
        for key in 0..40 {
            let key = format!("key {key}");
            assert!(by_one.iter().filter(|(of, _)| *of == key).is_sorted());
        }
        sent.extend(by_one);
    }
    assert_eq!(sent.len(), 120, "each once");
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), 120);
    let page = store.deliveries(&DeliveryQuery { limit: 500, ..DeliveryQuery::default() }).await.unwrap();
    assert_eq!(page.items.len(), 120);
}

pub(crate) async fn what_was_attempted_is_shown(store: AnyStore) {
    seal(&store, &[message("pager", "a", 1), message("log", "a", 2)]).await;
    let mut expected = Vec::new();
    for attempt in 1..=3 {
        for mut message in [message("pager", "a", 1), message("log", "a", 2)] {
            message.attempts = attempt;
            let status = (attempt > 1).then_some(503);
            let recorded = Delivery { status, outcome: format!("outcome {attempt}"), ..delivery(&message) };
            store.record_delivery(&recorded, &message).await.unwrap();
            expected.insert(0, recorded);
        }
    }
    // Of a message that is gone there is nothing to record.
    let gone = message("pager", "a", 9);
    store.record_delivery(&delivery(&gone), &gone).await.unwrap();
    let query = DeliveryQuery { limit: 100, ..DeliveryQuery::default() };
    let all = store.deliveries(&query).await.unwrap().items;
    assert!(all.is_sorted_by_key(|it| std::cmp::Reverse(it.delivery_id)));
    let without_id = |it: &Delivery| Delivery { delivery_id: 0, ..it.clone() };
    assert_eq!(all.iter().map(without_id).collect::<Vec<_>>(), expected);
    let of_message = DeliveryQuery { message_id: Some(id(2_002)), limit: 2, ..query.clone() };
    let page = store.deliveries(&of_message).await.unwrap();
    assert_eq!((page.items, page.more), (vec![all[0].clone(), all[2].clone()], true));
    let rest = DeliveryQuery { after: Some(all[2].delivery_id), ..of_message };
    assert_eq!(store.deliveries(&rest).await.unwrap().items, [all[4].clone()]);
    let of_receiver = DeliveryQuery { receiver: Some("pager".to_owned()), ..query };
    assert_eq!(store.deliveries(&of_receiver).await.unwrap().items.len(), 3);

    let messages = store.messages(&all_messages()).await.unwrap().items;
    assert_eq!(ids(&messages), [id(2_002), id(2_001)], "newest first");
    let page = store.messages(&MessageQuery { limit: 1, ..all_messages() }).await.unwrap();
    assert_eq!((ids(&page.items), page.more), (vec![id(2_002)], true));
    let behind = MessageQuery { after: Some(messages[0].sequence), ..all_messages() };
    assert_eq!(store.messages(&behind).await.unwrap().items, messages[1..]);
    let of_receiver = MessageQuery { receiver: Some("log".to_owned()), ..all_messages() };
    assert_eq!(ids(&store.messages(&of_receiver).await.unwrap().items), [id(2_002)]);
    let delivered = MessageQuery { state: Some(MessageState::Delivered), ..all_messages() };
    assert!(store.messages(&delivered).await.unwrap().items.is_empty());
}

pub(crate) async fn a_message_is_sent_again(store: AnyStore) {
    store.put_alert_receiver(&receiver("pager", AlertSource::Api)).await.unwrap();
    seal(&store, &[message("pager", "a", 1), message("pager", "a", 2)]).await;
    assert!(!store.redeliver(id(2_001), 5, 6).await.unwrap(), "it waits already");
    assert!(!store.redeliver(id(2_009), 5, 6).await.unwrap(), "unknown");
    let taken = store.claim_messages("pager", 5, 100, 9).await.unwrap().remove(0);
    let failed = Message { state: MessageState::Failed, attempts: 7, ended_at_us: Some(5), ..taken.clone() };
    store.record_delivery(&delivery(&failed), &failed).await.unwrap();
    // The next one is on its way: the one before is sent behind it, not beside it.
    assert_eq!(ids(&store.claim_messages("pager", 5, 100, 9).await.unwrap()), [id(2_002)]);
    assert!(store.redeliver(id(2_001), 50, 5_000).await.unwrap());
    let waiting = Message { next_attempt_at_us: 50, give_up_at_us: 5_000, ..taken };
    assert_eq!(store.message(id(2_001)).await.unwrap(), Some(waiting.clone()), "the same id and content");
    assert!(store.claim_messages("pager", 60, 100, 9).await.unwrap().is_empty());
    assert_eq!(store.claim_messages("pager", 100, 200, 9).await.unwrap(), std::slice::from_ref(&waiting));

    // Given up while it is being sent: it does not wait again, but what arrived has arrived.
    assert!(store.delete_alert_receiver("pager", 70).await.unwrap());
    let retried = Message { attempts: 1, ..waiting.clone() };
    store.record_delivery(&delivery(&retried), &retried).await.unwrap();
    assert_eq!(store.message(id(2_001)).await.unwrap().unwrap().state, MessageState::Failed);
    let arrived = Message { state: MessageState::Delivered, attempts: 2, ended_at_us: Some(80), ..waiting };
    store.record_delivery(&delivery(&arrived), &arrived).await.unwrap();
    assert_eq!(store.message(id(2_001)).await.unwrap(), Some(arrived));
}

pub(crate) async fn what_is_over_is_deleted(store: AnyStore) {
    owned(&store, 1).await;
    // Ended at 12, 22, …, 92; the tenth fires.
    let mut evaluation = commit(1, 0);
    evaluation.alerts = (1..=9).map(|number| alert(number, 1, AlertState::Resolved)).collect();
    evaluation.alerts.push(of_group("all", alert(10, 1, AlertState::Firing)));
    evaluation.notifications = vec![notification("pager", "z", 1)];
    land(&store, evaluation).await;
    for number in 1..=9 {
        let mut sealed = message("pager", "a", number);
        seal(&store, std::slice::from_ref(&sealed)).await;
        for attempt in 1..=3 {
            sealed.attempts = attempt;
            store.record_delivery(&delivery(&sealed), &sealed).await.unwrap();
        }
        if number < 9 {
            sealed.state = if number % 2 == 0 { MessageState::Delivered } else { MessageState::Failed };
            sealed.ended_at_us = Some(number as i64 * 10);
            store.record_delivery(&delivery(&sealed), &sealed).await.unwrap();
        }
        let silence = Silence {
            silence_id: id(number),
            project: None,
            matchers: json!([]),
            starts_at_us: 0,
            ends_at_us: number as i64 * 10,
            comment: String::new(),
            created_by: String::new(),
            created_at_us: 0,
        };
        store.put_silence(&silence).await.unwrap();
    }
    // 4 alerts, 5 messages of 4 attempts each and 5 silences ended before 52, at most 7 at a time.
    let mut calls = 1;
    while !store.purge_alerts(52, 7).await.unwrap() {
        calls += 1;
        assert!(calls < 20, "does not end");
    }
    assert_eq!(calls, 5);
    let messages = store.messages(&all_messages()).await.unwrap().items;
    assert_eq!(ids(&messages), [2_009, 2_008, 2_007, 2_006].map(id));
    let attempts = store.deliveries(&DeliveryQuery { limit: 100, ..DeliveryQuery::default() }).await.unwrap().items;
    assert_eq!(attempts.len(), 15);
    assert_eq!(store.silences(0).await.unwrap().len(), 4);
    let resolved = gradwatch_store::AlertQuery { limit: 100, ..Default::default() };
    let left = store.alerts(&resolved).await.unwrap().items;
    assert_eq!(left.iter().map(|alert| alert.alert_id).collect::<Vec<_>>(), [10, 9, 8, 7, 6, 5].map(|n| id(1_000 + n)));
    // What is open or waits stays for ever.
    assert!(store.purge_alerts(1_000_000, 1_000).await.unwrap());
    assert_eq!(store.open_alerts(run_id(1)).await.unwrap().len(), 1);
    assert_eq!(ids(&store.messages(&all_messages()).await.unwrap().items), [id(2_009)]);
    assert_eq!(store.notifications(9).await.unwrap().len(), 1);
    assert_eq!(store.deliveries(&DeliveryQuery { limit: 9, ..DeliveryQuery::default() }).await.unwrap().items.len(), 3);
}
