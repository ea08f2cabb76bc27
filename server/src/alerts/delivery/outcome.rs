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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_short_and_plain() {
        assert_eq!(text("a\0b\u{1b}[31m\nc"), "a b [31m c");
        let long = text(&"é".repeat(5_000));
        assert_eq!((long.len(), long.chars().all(|it| it == 'é')), (1_024, true));
        assert_eq!(text(&format!("a{}", "é".repeat(5_000))).len(), 1_023);
    }
}
