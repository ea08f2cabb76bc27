//! Secrets of receivers: they come in and never go out again.
//!
//! Invariant: what is shown of a definition holds no secret, no query of an address, and of an address of Slack, which is a
//! secret as a whole, only who is called. No address holds a password: those are refused.

use gradwatch_rules::{Problem, ReceiverDefinition, ReceiverKind};

/// Stands for what is not shown. Sent back, it keeps what is there.
const HIDDEN: &str = "***";

/// A definition as it may be shown.
pub(crate) fn hide(mut definition: ReceiverDefinition) -> ReceiverDefinition {
    match &mut definition.kind {
        ReceiverKind::Webhook { url, secrets, .. } => {
            *url = without_query(url);
            secrets.fill(HIDDEN.to_owned());
        }
        ReceiverKind::Slack { url, .. } => *url = url.as_deref().map(only_host),
        ReceiverKind::Alertmanager { url, .. } => *url = without_query(url),
    }
    definition
}

/// Puts what is there in the place of what stands for it.
///
/// # Errors
/// Names what stands for nothing.
pub(super) fn keep(new: &mut ReceiverDefinition, old: Option<&ReceiverDefinition>) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    match &mut new.kind {
        ReceiverKind::Webhook { url, secrets, .. } => {
            let (old_url, old_secrets) = match old.map(|old| &old.kind) {
                Some(ReceiverKind::Webhook { url, secrets, .. }) => (Some(url), secrets.as_slice()),
                _ => (None, &[][..]),
            };
            keep_one("webhook.url", url, old_url, without_query, &mut problems);
            // The first that is kept is the first that is there, and so on.
            let mut kept = old_secrets.iter();
            for (index, secret) in secrets.iter_mut().enumerate() {
                if secret == HIDDEN {
                    let field = format!("webhook.secrets[{index}]");
                    keep_one(&field, secret, kept.next(), |_| HIDDEN.to_owned(), &mut problems);
                }
            }
        }
        ReceiverKind::Slack { url: Some(url), .. } => {
            let old_url = match old.map(|old| &old.kind) {
                Some(ReceiverKind::Slack { url, .. }) => url.as_ref(),
                _ => None,
            };
            keep_one("slack.url", url, old_url, |url| only_host(url), &mut problems);
        }
        ReceiverKind::Slack { url: None, .. } => {}
        ReceiverKind::Alertmanager { url, .. } => {
            let old_url = match old.map(|old| &old.kind) {
                Some(ReceiverKind::Alertmanager { url, .. }) => Some(url),
                _ => None,
            };
            keep_one("alertmanager.url", url, old_url, without_query, &mut problems);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn keep_one(
    field: &str,
    new: &mut String,
    old: Option<&String>,
    shown: fn(&str) -> String,
    problems: &mut Vec<Problem>,
) {
    match old {
        Some(old) if new == HIDDEN || *new == shown(old) => new.clone_from(old),
        _ if new.contains(HIDDEN) => problems.push(Problem {
            field: field.to_owned(),
            position: None,
            message: format!("{HIDDEN} keeps what is there, and there is nothing that it stands for"),
        }),
        _ => {}
    }
}

/// Refuses a definition that comes over REST and names a variable.
///
/// Invariant: what the server's environment holds is for whoever runs the server to give away: a receiver made over REST
/// could send it anywhere.
pub(crate) fn refuse_environment(definition: &ReceiverDefinition) -> Result<(), Vec<Problem>> {
    let field = match &definition.kind {
        ReceiverKind::Webhook { secrets_env: Some(_), .. } => "webhook.secrets_env",
        ReceiverKind::Slack { url_env: Some(_), .. } => "slack.url_env",
        ReceiverKind::Alertmanager { bearer_env: Some(_), .. } => "alertmanager.bearer_env",
        _ => return Ok(()),
    };
    let message = "only a receiver of the file of rules may read the server's environment".to_owned();
    Err(vec![Problem { field: field.to_owned(), position: None, message }])
}

/// An address, up to its host and from there on.
fn parts(url: &str) -> Option<(&str, &str)> {
    let host = url.find("://")? + "://".len();
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    Some(url.split_at(end))
}

fn without_query(url: &str) -> String {
    match (parts(url), url.find(['?', '#'])) {
        (None, _) => HIDDEN.to_owned(),
        (Some(_), None) => url.to_owned(),
        (Some(_), Some(query)) => format!("{}?{HIDDEN}", &url[..query]),
    }
}

fn only_host(url: &str) -> String {
    parts(url).map_or_else(|| HIDDEN.to_owned(), |(host, _)| format!("{host}/{HIDDEN}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(kind: ReceiverKind) -> ReceiverDefinition {
        ReceiverDefinition {
            name: "r".into(),
            kind,
            group_by: Vec::new(),
            group_wait_s: 5,
            send_resolved: true,
            max_concurrency: 4,
            max_per_minute: 60,
            timeout_s: 10,
        }
    }

    fn webhook(url: &str, secrets: &[&str]) -> ReceiverDefinition {
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        receiver(ReceiverKind::Webhook { url: url.into(), secrets, secrets_env: None })
    }

    fn slack(url: &str) -> ReceiverDefinition {
        receiver(ReceiverKind::Slack { url: Some(url.into()), url_env: None })
    }

    #[test]
    fn addresses_are_shown_without_what_is_secret_in_them() {
        for (url, shown) in [
            ("https://h.example/a/b", "https://h.example/a/b"),
            ("https://h.example", "https://h.example"),
            ("http://h.example:80/a?token=1#f", "http://h.example:80/a?***"),
            ("http://h.example?a=/b", "http://h.example?***"),
            ("https://h.example#secret", "https://h.example?***"),
            ("no address", "***"),
        ] {
            assert_eq!(without_query(url), shown);
        }
        for (url, shown) in [
            ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/***"),
            ("https://hooks.slack.com?secret", "https://hooks.slack.com/***"),
            ("secret", "***"),
        ] {
            assert_eq!(only_host(url), shown);
        }
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        for old in [
            webhook("https://h.example/a?b", &["whsec_a", "whsec_b"]),
            webhook("https://h.example/a", &[]),
            slack("https://hooks.slack.com/services/secret"),
            receiver(ReceiverKind::Alertmanager { url: "http://a.example?b".into(), bearer_env: None }),
        ] {
            let mut new = hide(old.clone());
            assert!(!format!("{new:?}").contains("whsec_") && !format!("{new:?}").contains("services"));
            keep(&mut new, Some(&old)).unwrap();
            assert_eq!(new, old);
        }
    }

    #[test]
    fn a_new_secret_can_be_put_before_those_that_are_kept() {
        let old = webhook("https://h.example/a", &["whsec_a", "whsec_b"]);
        let mut new = webhook("https://h.example/new", &["whsec_c", "***", "***"]);
        keep(&mut new, Some(&old)).unwrap();
        assert_eq!(new, webhook("https://h.example/new", &["whsec_c", "whsec_a", "whsec_b"]));
    }

    #[test]
    fn what_stands_for_nothing_is_named() {
        let fields = |mut new: ReceiverDefinition, old: Option<&ReceiverDefinition>| {
            let problems = keep(&mut new, old).unwrap_err();
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        let old = webhook("https://h.example/a", &["whsec_a"]);
        assert_eq!(fields(webhook("***", &["***"]), None), ["webhook.url", "webhook.secrets[0]"]);
        assert_eq!(
            fields(webhook("https://other.example/?***", &["***", "***"]), Some(&old)),
            ["webhook.url", "webhook.secrets[1]"]
        );
        assert_eq!(fields(slack("https://hooks.slack.com/***"), Some(&old)), ["slack.url"]);
    }
}
