//! Alerts as Prometheus Alertmanager takes them (API v2).

use std::collections::BTreeMap;

use gradwatch_store::Message;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::content::{Content, RESOLVED};
use crate::{alerts::notice::Notice, clock};

/// How long Alertmanager takes an alert for firing that it does not hear of again.
const FIRES_FOR_US: i64 = 4 * 60 * 1_000_000;
/// How long a test stays.
const TEST_FIRES_FOR_US: i64 = 60 * 1_000_000;
/// The path behind the URL of an Alertmanager.
pub(super) const PATH: &str = "/api/v2/alerts";

/// What a message says, at the time of an attempt.
pub(super) fn body(message: &Message, content: &Content, now_us: i64) -> Value {
    if content.test {
        return json!([{
            "labels": {"alertname": "gradwatch_test", "receiver": message.receiver},
            "annotations": {"summary": "Test message of gradwatch"},
            "startsAt": clock::text(message.created_at_us),
            "endsAt": clock::text(now_us + TEST_FIRES_FOR_US),
        }]);
    }
    content.alerts.iter().map(|notice| of_notice(notice, now_us)).collect()
}

/// One alert. Invariant: its labels, by which Alertmanager knows it, are the same each time.
pub(super) fn of_notice(notice: &Notice, now_us: i64) -> Value {
    // Alertmanager refuses what ends before it begins, and what is still to end is not over. Where clocks were set, times
    // may say so.
    let micros = |text: &str| text.parse::<Timestamp>().map_or(now_us, |at| at.as_microsecond());
    let over_us =
        notice.resolved_at.as_deref().filter(|_| notice.status == RESOLVED).map(|text| micros(text).min(now_us));
    let fired_us = micros(&notice.fired_at).min(over_us.unwrap_or(now_us));
    let (run_id, alert_id) = (notice.run_id.to_string(), notice.alert_id.to_string());
    let labels = [
        ("alertname", notice.rule.as_str()),
        ("severity", &notice.severity),
        ("project", &notice.project),
        ("run_id", &run_id),
        ("group", &notice.group),
    ];
    let annotations = [("summary", notice.summary.as_str()), ("run_name", &notice.run_name), ("alert_id", &alert_id)];
    let mut alert = json!({
        "labels": named(&labels, &notice.labels),
        "annotations": named(&annotations, &notice.annotations),
        "startsAt": clock::text(fired_us),
        "endsAt": clock::text(over_us.unwrap_or(now_us + FIRES_FOR_US)),
    });
    if let Some(url) = &notice.url {
        alert["generatorURL"] = json!(url);
    }
    alert
}

/// Adds a user's own under names that Prometheus allows; one that is taken gets a number. Empty ones are none.
fn named(ours: &[(&str, &str)], own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        ours.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in own {
        let valid = valid_name(name);
        let mut free = valid.clone();
        let mut number = 2;
        while all.contains_key(&free) {
            free = format!("{valid}_{number}");
            number += 1;
        }
        all.insert(free, value.clone());
    }
    all.retain(|_, value| !value.is_empty());
    all
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`.
fn valid_name(name: &str) -> String {
    let replaced = name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' });
    let replaced: String = replaced.collect();
    if replaced.starts_with(|first: char| first.is_ascii_digit()) || replaced.is_empty() {
        format!("_{replaced}")
    } else {
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::delivery::{content::new_message, sample};

    const NOW_US: i64 = 1_772_366_400_000_000;

    fn sent(notice: Notice) -> Value {
        sent_at(notice, NOW_US)
    }

    fn sent_at(notice: Notice, now_us: i64) -> Value {
        let receiver = sample::receiver(json!({"alertmanager": {"url": "http://a"}}));
        let content = Content::new(&receiver, vec![notice]);
        body(&new_message("r", "g", content.clone(), 0), &content, now_us)
    }

    #[test]
    fn a_firing_alert_ends_in_four_minutes_and_one_that_is_over_when_it_ended() {
        let mut notice = sample::notice("gap-collapse", 7);
        notice.url = Some("https://gradwatch.example.org/runs/1".to_owned());
        let run_id = "00000000-0000-0000-0000-000000000001";
        assert_eq!(
            sent(notice.clone()),
            json!([{
                "labels": {"alertname": "gap-collapse", "severity": "warning", "project": "p", "run_id": run_id, "group": "all"},
                "annotations": {
                    "summary": "the gap is gone",
                    "run_name": "first run",
                    "alert_id": "00000000-0000-0000-0000-000000000007",
                },
                "startsAt": "2026-03-01T12:00:00Z",
                "endsAt": "2026-03-01T12:04:00Z",
                "generatorURL": "https://gradwatch.example.org/runs/1",
            }])
        );
        let over = sent_at(sample::resolved(&notice), NOW_US + 3_600_000_000);
        assert_eq!(over[0]["endsAt"], "2026-03-01T12:05:00Z");
        assert_eq!(over[0]["labels"], sent(notice)[0]["labels"]);
    }

    #[test]
    fn nothing_ends_before_it_begins_and_what_is_over_is_over() {
        let mut notice = sample::notice("r", 1);
        notice.fired_at = "2026-03-01T12:00:00.5Z".to_owned();
        let firing = sent(notice.clone());
        assert_eq!(
            (&firing[0]["startsAt"], &firing[0]["endsAt"]),
            (&json!("2026-03-01T12:00:00Z"), &json!("2026-03-01T12:04:00Z"))
        );
        let mut over = sample::resolved(&notice);
        over.resolved_at = Some("2026-03-01T11:59:00Z".to_owned());
        let back = sent(over.clone());
        assert_eq!(
            (&back[0]["startsAt"], &back[0]["endsAt"]),
            (&json!("2026-03-01T11:59:00Z"), &json!("2026-03-01T11:59:00Z"))
        );
        over.resolved_at = Some("2027-03-01T12:00:00Z".to_owned());
        assert_eq!(sent(over)[0]["endsAt"], "2026-03-01T12:00:00Z", "a clock that was ahead keeps nothing firing");
    }

    #[test]
    fn labels_get_names_that_prometheus_allows_and_none_is_lost() {
        let mut notice = sample::notice("r", 1);
        notice.group = String::new();
        for (name, value) in [
            ("a.b", "1"),
            ("a-b", "2"),
            ("a_b", "3"),
            ("9", "4"),
            ("é", "5"),
            ("severity", "6"),
            ("", "7"),
            ("none", ""),
        ] {
            notice.labels.insert(name.to_owned(), value.to_owned());
        }
        let labels = sent(notice)[0]["labels"].clone();
        let named = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((named("a_b"), named("a_b_2"), named("a_b_3")), ("2".into(), "1".into(), "3".into()));
        assert_eq!((named("_9"), named("severity"), named("severity_2")), ("4".into(), "warning".into(), "6".into()));
        let mut others = [named("_"), named("__2")];
        others.sort();
        assert_eq!(others, ["5", "7"]);
        for absent in ["none", "group"] {
            assert_eq!(labels.get(absent), None);
        }
    }
}
