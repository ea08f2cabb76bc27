//! What became of an attempt.

use std::time::Duration;

/// The most of what a receiver says that is kept.
const MAX_DETAIL_BYTES: usize = 1_024;

/// The kinds of endings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer of 2xx.
    Delivered,
    /// Another answer.
    Status,
    /// 3xx: nothing is ever sent where it points to.
    Redirect,
    /// 410: it wants to be told no more.
    Gone,
    /// No answer in time.
    Timeout,
    /// The name has no address.
    Resolve,
    /// None of the addresses may be reached.
    RefusedAddress,
    /// No connection.
    Connect,
    /// It cannot prove to be who the URL names.
    Tls,
    /// The connection broke, or the answer is no HTTP.
    Protocol,
    /// The receiver's definition cannot be used; nothing was sent.
    Definition,
    /// The receiver is disabled, and the message's time is up; nothing was sent.
    Disabled,
}

impl Outcome {
    /// The word in the API and in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Resolve => "resolve",
            Self::RefusedAddress => "refused_address",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Definition => "definition",
            Self::Disabled => "disabled",
        }
    }

    /// What an answer's status means.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirect,
            410 => Self::Gone,
            _ => Self::Status,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    /// Of the answer.
    pub(super) status: Option<u16>,
    /// How long the receiver asks to be left in peace.
    pub(super) retry_after: Option<Duration>,
    /// What the receiver or the network said.
    pub(super) detail: String,
}

impl Attempted {
    /// It ended without an answer.
    pub(super) fn failed(outcome: Outcome, detail: &str) -> Self {
        Self { outcome, status: None, retry_after: None, detail: text(detail) }
    }
}

/// What can be stored and shown of a text from outside: short, and without control characters, which databases and
/// terminals take amiss.
pub(super) fn text(raw: &str) -> String {
    let mut text: String =
        raw.chars().map(|it| if it.is_control() { ' ' } else { it }).take(MAX_DETAIL_BYTES).collect();
    text.truncate(text.floor_char_boundary(MAX_DETAIL_BYTES));
    text
}

/// The fewest characters of a secret that are taken for a part of it.
const MIN_PART_CHARS: usize = 7;

/// A text without secrets, also without one that it breaks off in.
///
/// Invariant: this comes before anything is shortened: a part of a secret would be left.
pub(super) fn without(raw: &str, secrets: &[String]) -> String {
    let mut longest_first: Vec<&str> = secrets.iter().map(String::as_str).filter(|secret| !secret.is_empty()).collect();
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = raw.to_owned();
    for secret in &longest_first {
        text = text.replace(secret, "***");
    }
    let broken_off = longest_first.iter().filter_map(|secret| {
        let parts = secret.char_indices().skip(MIN_PART_CHARS).map(|(end, _)| &secret[..end]);
        parts.filter(|part| text.ends_with(part)).map(str::len).max()
    });
    if let Some(length) = broken_off.max() {
        text.truncate(text.len() - length);
        text.push_str("***");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_secret_is_left() {
        let secrets = ["whsec_c2VjcmV0LXNlY3JldA==".to_owned(), "c2VjcmV0LXNlY3JldA==".to_owned(), String::new()];
        assert_eq!(without("say whsec_c2VjcmV0LXNlY3JldA== or c2VjcmV0LXNlY3JldA==!", &secrets), "say *** or ***!");
        assert_eq!(without("it was whsec_c2VjcmV0", &secrets), "it was ***");
        assert_eq!(without("it was c2VjcmV0LX", &secrets), "it was ***");
        assert_eq!(without("whsec_", &secrets), "whsec_");
        for before in 900..1_024 {
            let shown = text(&without(&format!("{}{}", "x".repeat(before), secrets[0]), &secrets));
            assert!(!shown.contains("whsec_") && !shown.contains("c2V"), "{shown}");
        }
    }

    #[test]
    fn what_comes_from_outside_is_short_and_plain() {
        assert_eq!(text("a\0b\u{1b}[31m\nc"), "a b [31m c");
        let long = text(&"é".repeat(5_000));
        assert_eq!((long.len(), long.chars().all(|it| it == 'é')), (1_024, true));
        assert_eq!(text(&format!("a{}", "é".repeat(5_000))).len(), 1_023);
    }
}
