//! What becomes of notifications.

use std::collections::{BTreeMap, HashSet};

use gradwatch_rules::ReceiverDefinition;
use gradwatch_store::{AlertState, NewNotification, Notification, Silence};
use serde_json::json;
use uuid::Uuid;

use super::{
    content::Content,
    sample,
    sealing::{Known, MAX_ALERTS, Plan, plan, released},
    silence::Silences,
};
use crate::alerts::notice::Notice;

const SECOND: i64 = 1_000_000;

/// A made world: receivers, silences, and what is recorded.
struct World {
    receivers: BTreeMap<String, ReceiverDefinition>,
    silenced_rules: Vec<&'static str>,
    over: HashSet<Uuid>,
    recorded: Vec<Notification>,
    /// Group keys of messages that wait.
    waiting: Vec<&'static str>,
    last_id: u64,
}

impl World {
    fn new() -> Self {
        let webhook = json!({"webhook": {"url": "http://a"}, "group_wait_s": 5});
        let receivers = BTreeMap::from([("r".to_owned(), sample::receiver(webhook))]);
        Self {
            receivers,
            silenced_rules: Vec::new(),
            over: HashSet::new(),
            recorded: Vec::new(),
            waiting: Vec::new(),
            last_id: 0,
        }
    }

    fn change(&mut self, definition: serde_json::Value) {
        self.receivers.insert("r".to_owned(), sample::receiver(definition));
    }

    fn record(&mut self, group_key: &str, notice: &Notice, at_us: i64) {
        let state = if notice.status == "firing" { AlertState::Firing } else { AlertState::Resolved };
        let new = NewNotification {
            receiver: "r".to_owned(),
            group_key: group_key.to_owned(),
            alert_id: notice.alert_id,
            state,
            content: serde_json::to_value(notice).unwrap(),
            created_at_us: at_us,
        };
        self.last_id += 1;
        self.recorded.push(Notification { notification_id: self.last_id, silenced: false, new });
    }

    fn silences(&self) -> Silences {
        let silence = |rule: &&str| Silence {
            silence_id: Uuid::nil(),
            project: None,
            matchers: json!([{"name": "rule", "value": rule}]),
            starts_at_us: 0,
            ends_at_us: i64::MAX,
            comment: String::new(),
            created_by: String::new(),
            created_at_us: 0,
        };
        Silences::at(&self.silenced_rules.iter().map(silence).collect::<Vec<_>>(), 1)
    }

    fn plan_at(&self, now_us: i64) -> Plan {
        let receiver = |name: &str| self.receivers.get(name);
        let waiting: Vec<_> = self.waiting.iter().map(|key| ("r".to_owned(), (*key).to_owned())).collect();
        let (silences, over) = (&self.silences(), &self.over);
        plan(&self.recorded, &Known { now_us, receiver: &receiver, silences, over, waiting: &waiting })
    }

    /// Looks once, and does to the notifications what the store would.
    fn look(&mut self, now_us: i64) -> Plan {
        let plan = self.plan_at(now_us);
        for notification in &mut self.recorded {
            notification.silenced |= plan.silence.contains(&notification.notification_id);
        }
        let gone: HashSet<u64> = plan.seal.iter().flat_map(|(_, ids)| ids).chain(&plan.drop).copied().collect();
        self.recorded.retain(|notification| !gone.contains(&notification.notification_id));
        plan
    }
}

/// (alert, status) of each alert of each message.
fn told(plan: &Plan) -> Vec<Vec<(u128, String)>> {
    let of = |content: Content| content.alerts.iter().map(|it| (it.alert_id.as_u128(), it.status.clone())).collect();
    plan.seal.iter().map(|(message, _)| of(serde_json::from_value(message.content.clone()).unwrap())).collect()
}

fn firing(alert: u128) -> (u128, String) {
    (alert, "firing".to_owned())
}

fn resolved(alert: u128) -> (u128, String) {
    (alert, "resolved".to_owned())
}

#[test]
fn a_group_waits_for_its_oldest_and_is_one_message() {
    let mut world = World::new();
    for alert in 1..=3 {
        world.record("a", &sample::notice("gap", alert), 10 * SECOND + alert as i64);
    }
    world.record("b", &sample::notice("spike", 4), 12 * SECOND);
    let early = world.look(15 * SECOND);
    assert_eq!((early.seal.len(), early.next_us), (0, Some(15 * SECOND + 1)));
    let plan = world.look(15 * SECOND + 1);
    assert_eq!(told(&plan), [vec![firing(1), firing(2), firing(3)]]);
    let (message, ids) = &plan.seal[0];
    assert_eq!((ids, message.group_key.as_str(), message.receiver.as_str()), (&vec![1, 2, 3], "a", "r"));
    assert_eq!(message.content["group"], json!({"rule": "gap"}));
    assert_eq!(message.give_up_at_us - message.created_at_us, 86_400 * SECOND);
    assert_eq!(plan.next_us, Some(17 * SECOND));
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_waiting() {
    let mut world = World::new();
    world.record("a", &sample::notice("gap", 1), 3_600 * SECOND);
    assert_eq!(told(&world.look(SECOND)), [vec![firing(1)]]);
}

#[test]
fn of_an_alert_that_fired_and_ended_the_latest_word_is_told_once() {
    let mut world = World::new();
    let (one, two) = (sample::notice("gap", 1), sample::notice("gap", 2));
    world.record("a", &one, 0);
    world.record("a", &two, 0);
    world.record("a", &sample::resolved(&one), SECOND);
    let plan = world.look(9 * SECOND);
    assert_eq!(told(&plan), [vec![resolved(1), firing(2)]]);
    assert_eq!(plan.seal[0].1, [1, 3, 2]);
    assert_eq!(plan.seal[0].0.content["status"], "firing");
    world.record("a", &sample::resolved(&two), 10 * SECOND);
    let plan = world.look(19 * SECOND);
    assert_eq!((told(&plan), &plan.seal[0].0.content["status"]), (vec![vec![resolved(2)]], &json!("resolved")));
    assert_eq!(world.recorded.len(), 0);
}

#[test]
fn a_receiver_that_wants_no_ends_is_told_of_none() {
    let mut world = World::new();
    world.change(json!({"webhook": {"url": "http://a"}, "send_resolved": false}));
    let (one, two) = (sample::notice("gap", 1), sample::notice("gap", 2));
    world.record("a", &one, 0);
    world.record("a", &sample::resolved(&one), 0);
    world.record("a", &sample::resolved(&two), 0);
    let plan = world.look(9 * SECOND);
    assert_eq!((told(&plan), plan.drop), (vec![vec![firing(1)]], vec![3]));
}

#[test]
fn a_hundred_alerts_make_a_message_and_the_rest_the_next() {
    let mut world = World::new();
    for alert in 0..MAX_ALERTS as u128 + 20 {
        world.record("a", &sample::notice("gap", alert), 0);
    }
    assert_eq!(told(&world.look(9 * SECOND)).iter().map(Vec::len).collect::<Vec<_>>(), [100]);
    assert_eq!(told(&world.look(9 * SECOND)).iter().map(Vec::len).collect::<Vec<_>>(), [20]);
}

#[test]
fn what_is_silenced_stays_back_and_is_told_afterwards_if_it_still_fires() {
    let mut world = World::new();
    let (still, over) = (sample::notice("gap", 1), sample::notice("gap", 2));
    let (other, short) = (sample::notice("spike", 3), sample::notice("gap", 4));
    for notice in [&still, &over, &other, &short] {
        world.record("a", notice, 0);
    }
    world.record("a", &sample::resolved(&short), 0);
    world.silenced_rules = vec!["gap"];
    let plan = world.look(9 * SECOND);
    // Of what began and ended in silence nobody hears.
    assert_eq!((told(&plan), &plan.silence, &plan.drop), (vec![vec![firing(3)]], &vec![1, 2], &vec![4, 5]));
    let again = world.look(10 * SECOND);
    assert_eq!(again, Plan::default(), "it stays as it is");
    world.silenced_rules.clear();
    assert_eq!(released(&world.recorded, &world.silences()), [still.alert_id, over.alert_id]);
    world.over.insert(over.alert_id);
    let plan = world.look(11 * SECOND);
    assert_eq!((told(&plan), plan.drop), (vec![vec![firing(1)]], vec![2]));
    assert_eq!(world.recorded.len(), 0);
}

#[test]
fn a_resolution_is_told_if_and_only_if_the_firing_was() {
    let mut world = World::new();
    let (before, within) = (sample::notice("gap", 1), sample::notice("gap", 2));
    world.record("a", &before, 0);
    assert_eq!(told(&world.look(9 * SECOND)), [vec![firing(1)]]);
    world.silenced_rules = vec!["gap"];
    world.record("a", &within, 10 * SECOND);
    assert_eq!(world.look(19 * SECOND).silence, [2]);
    world.record("a", &sample::resolved(&before), 20 * SECOND);
    world.record("a", &sample::resolved(&within), 20 * SECOND);
    let plan = world.look(29 * SECOND);
    assert_eq!((plan.seal.len(), plan.silence, plan.drop), (0, vec![3], vec![2, 4]));
    world.silenced_rules.clear();
    assert_eq!(told(&world.look(30 * SECOND)), [vec![resolved(1)]]);
    assert_eq!(world.recorded.len(), 0);
}

#[test]
fn a_firing_that_was_kept_back_until_it_was_over_is_not_told() {
    let mut world = World::new();
    let notice = sample::notice("gap", 1);
    world.record("a", &notice, 0);
    world.silenced_rules = vec!["gap"];
    world.look(9 * SECOND);
    world.silenced_rules.clear();
    world.record("a", &sample::resolved(&notice), 10 * SECOND);
    let plan = world.look(11 * SECOND);
    assert_eq!((plan.seal.len(), plan.drop), (0, vec![1, 2]));
}

#[test]
fn what_nobody_is_to_be_told_goes() {
    let mut world = World::new();
    world.record("a", &sample::notice("gap", 1), 0);
    world.receivers.clear();
    assert_eq!(world.look(9 * SECOND).drop, [1]);
}

#[test]
fn a_group_says_only_what_its_alerts_have_in_common() {
    let mut world = World::new();
    world.change(json!({"webhook": {"url": "http://a"}, "group_by": ["project", "run"]}));
    let mut other = sample::notice("spike", 2);
    other.project = "q".to_owned();
    world.record("a", &sample::notice("gap", 1), 0);
    world.record("a", &other, 0);
    let plan = world.look(9 * SECOND);
    assert_eq!(plan.seal[0].0.content["group"], json!({"run_id": other.run_id}));
}

#[test]
fn a_change_of_group_by_puts_nothing_out_of_order() {
    let mut world = World::new();
    let run = "run=00000000-0000-0000-0000-000000000001";
    let (told_before, unsaid, other) = (sample::notice("gap", 1), sample::notice("gap", 2), sample::notice("spike", 3));
    // The firing of the first is in a message that waits, by rule; now it is by run.
    world.waiting = vec!["rule=gap", "test 5f0c2f0e-7c0b-4f4e-9f0e-2a5b2f1d9c11"];
    world.change(json!({"webhook": {"url": "http://a"}, "group_by": ["run"]}));
    world.record("rule=gap", &unsaid, 0);
    world.record("rule=spike", &other, 0);
    world.record(run, &sample::resolved(&told_before), SECOND);
    world.record(run, &sample::resolved(&unsaid), SECOND);
    let plan = world.look(9 * SECOND);
    assert_eq!(told(&plan), [vec![firing(3)]], "only of another rule");
    assert_eq!(plan.seal[0].0.group_key, run);
    world.waiting = vec![run];
    assert_eq!(world.look(10 * SECOND), Plan::default(), "behind the message of the run");
    world.waiting.clear();
    let plan = world.look(11 * SECOND);
    assert_eq!(told(&plan), [vec![resolved(2), resolved(1)]]);
    assert_eq!(world.recorded.len(), 0);
}

#[test]
fn a_firing_that_was_kept_back_before_a_change_of_group_by_is_known() {
    let mut world = World::new();
    let notice = sample::notice("gap", 1);
    world.silenced_rules = vec!["gap"];
    world.record("rule=gap", &notice, 0);
    assert_eq!(world.look(9 * SECOND).silence, [1]);
    world.change(json!({"webhook": {"url": "http://a"}, "group_by": ["project"]}));
    world.silenced_rules.clear();
    world.record("project=p", &sample::resolved(&notice), 10 * SECOND);
    let plan = world.look(20 * SECOND);
    assert_eq!((plan.seal.len(), plan.drop), (0, vec![1, 2]));
}
