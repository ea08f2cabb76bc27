//! Rules, receivers and silences.

use gradwatch_store::{AlertReceiver, AlertRule, AlertSource, MessageState, Silence, StoreError};
use serde_json::json;

use crate::{
    alert_fixture::{ANY_TEXT, commit, id, land, message, notification, receiver, rule, seal},
    fixture::{AnyStore, owned},
};

pub(crate) async fn rules_come_back_as_they_were(store: AnyStore) {
    assert_eq!(store.alert_rules().await.unwrap(), []);
    let (first, second) = (rule(1, "grüße \u{1f980}", AlertSource::Api), rule(2, "a", AlertSource::File));
    store.put_alert_rule(&first).await.unwrap();
    store.put_alert_rule(&second).await.unwrap();
    assert_eq!(store.alert_rules().await.unwrap(), [second.clone(), first.clone()]);
    let changed = AlertRule { name: "b".to_owned(), revision: 9, ..first };
    store.put_alert_rule(&changed).await.unwrap();
    assert_eq!(store.alert_rules().await.unwrap(), [second.clone(), changed.clone()]);
    let taken = store.put_alert_rule(&rule(3, "a", AlertSource::Api)).await;
    assert!(matches!(taken, Err(StoreError::Conflict { field: "name", .. })), "{taken:?}");
    assert!(store.delete_alert_rule(second.rule_id).await.unwrap());
    assert!(!store.delete_alert_rule(second.rule_id).await.unwrap());
    assert_eq!(store.alert_rules().await.unwrap(), [changed]);
}

pub(crate) async fn receivers_come_back_as_they_were(store: AnyStore) {
    let (pager, log) = (receiver("pager", AlertSource::Api), receiver("log", AlertSource::File));
    store.put_alert_receiver(&pager).await.unwrap();
    store.put_alert_receiver(&log).await.unwrap();
    assert_eq!(store.alert_receivers().await.unwrap(), [log.clone(), pager.clone()]);
    let disabled = Some((50, ANY_TEXT.to_owned()));
    assert!(store.set_receiver_disabled("pager", disabled.clone()).await.unwrap());
    let off = AlertReceiver { disabled, ..pager.clone() };
    assert_eq!(store.alert_receivers().await.unwrap(), [log.clone(), off.clone()]);
    store.put_alert_receiver(&off).await.unwrap();
    assert_eq!(store.alert_receivers().await.unwrap()[1], off);
    assert!(store.set_receiver_disabled("pager", None).await.unwrap());
    assert_eq!(store.alert_receivers().await.unwrap(), [log, pager]);
    assert!(!store.set_receiver_disabled("nobody", None).await.unwrap());
    assert!(!store.delete_alert_receiver("nobody", 1).await.unwrap());
}

pub(crate) async fn a_receiver_takes_with_it_what_it_was_to_be_told(store: AnyStore) {
    owned(&store, 1).await;
    for name in ["pager", "log"] {
        store.put_alert_receiver(&receiver(name, AlertSource::Api)).await.unwrap();
    }
    let mut evaluation = commit(1, 0);
    evaluation.notifications = vec![notification("pager", "new", 1), notification("log", "new", 2)];
    land(&store, evaluation).await;
    seal(&store, &[message("pager", "key", 1), message("log", "key", 2)]).await;
    assert_eq!(store.claim_messages("pager", 5, 100, 9).await.unwrap().len(), 1);
    assert!(store.delete_alert_receiver("pager", 90).await.unwrap());
    let given_up = store.message(id(2_001)).await.unwrap().unwrap();
    assert_eq!((given_up.state, given_up.ended_at_us), (MessageState::Failed, Some(90)));
    let left = store.notifications(None, 9).await.unwrap();
    assert_eq!(left.iter().map(|it| it.new.receiver.as_str()).collect::<Vec<_>>(), ["log"]);
    assert_eq!(store.message(id(2_002)).await.unwrap().unwrap().state, MessageState::Waiting);
    assert!(!store.redeliver(id(2_001), 100, 200).await.unwrap(), "there is nobody to tell");
    store.put_alert_receiver(&receiver("pager", AlertSource::Api)).await.unwrap();
    assert!(store.redeliver(id(2_001), 100, 200).await.unwrap());
}

pub(crate) async fn a_file_is_replaced_as_a_whole(store: AnyStore) {
    let (of_api, receiver_of_api) = (rule(1, "mine", AlertSource::Api), receiver("mine", AlertSource::Api));
    store.put_alert_rule(&of_api).await.unwrap();
    store.put_alert_receiver(&receiver_of_api).await.unwrap();
    let rules = [rule(2, "a", AlertSource::File), rule(3, "b", AlertSource::File)];
    let receivers = [receiver("log", AlertSource::File), receiver("pager", AlertSource::File)];
    store.replace_alert_file(&rules, &receivers, 5).await.unwrap();
    let all = (store.alert_rules().await.unwrap(), store.alert_receivers().await.unwrap());
    assert_eq!(all.0, [rules[0].clone(), rules[1].clone(), of_api.clone()]);
    assert_eq!(all.1, [receivers[0].clone(), receiver_of_api.clone(), receivers[1].clone()]);

    let is_conflict = |result| matches!(result, Err(StoreError::Conflict { field: "name", .. }));
    let taken = rule(4, "mine", AlertSource::File);
    assert!(is_conflict(store.replace_alert_file(&[taken], &[], 6).await));
    let taken = rule(1, "other", AlertSource::File);
    assert!(is_conflict(store.replace_alert_file(&[taken], &[], 6).await));
    let taken = receiver("mine", AlertSource::File);
    assert!(is_conflict(store.replace_alert_file(&[], &[taken], 6).await));
    assert_eq!((store.alert_rules().await.unwrap(), store.alert_receivers().await.unwrap()), all, "nothing changed");

    // Names change places; a receiver that is gone is told nothing more.
    seal(&store, &[message("pager", "key", 1)]).await;
    let swapped = [
        AlertRule { name: "b".to_owned(), ..rules[0].clone() },
        AlertRule { name: "a".to_owned(), ..rules[1].clone() },
    ];
    store.replace_alert_file(&swapped, &receivers[..1], 7).await.unwrap();
    assert_eq!(store.alert_rules().await.unwrap(), [swapped[1].clone(), swapped[0].clone(), of_api.clone()]);
    assert_eq!(store.message(id(2_001)).await.unwrap().unwrap().state, MessageState::Failed);
    store.replace_alert_file(&[], &[], 8).await.unwrap();
    assert_eq!(store.alert_rules().await.unwrap(), [of_api]);
    assert_eq!(store.alert_receivers().await.unwrap(), [receiver_of_api]);
}

pub(crate) async fn silences_come_back_as_they_were(store: AnyStore) {
    let silence = |number: u64, starts_at_us, ends_at_us| Silence {
        silence_id: id(number),
        project: (number == 1).then(|| "vision".to_owned()),
        matchers: json!([{"name": "rule", "value": ANY_TEXT}]),
        starts_at_us,
        ends_at_us,
        comment: ANY_TEXT.to_owned(),
        created_by: "ops".to_owned(),
        created_at_us: 3,
    };
    let (first, second) = (silence(1, 20, 100), silence(2, 10, 50));
    store.put_silence(&first).await.unwrap();
    store.put_silence(&second).await.unwrap();
    assert_eq!(store.silences(0).await.unwrap(), [second.clone(), first.clone()]);
    assert_eq!(store.silences(50).await.unwrap(), std::slice::from_ref(&first));
    let ended = Silence { ends_at_us: 30, ..first };
    store.put_silence(&ended).await.unwrap();
    assert_eq!(store.silences(29).await.unwrap(), [second, ended]);
    assert_eq!(store.silences(60).await.unwrap(), []);
}
