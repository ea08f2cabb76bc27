//! Why a stream ended, and what follows from it.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// No server may send us away for longer than this.
const MAX_SERVER_DELAY: Duration = Duration::from_secs(300);
/// A server's words are quoted up to this many characters.
const MAX_QUOTE_CHARS: usize = 512;

/// Why a stream ended.
#[derive(Debug, PartialEq)]
pub(super) enum Interruption {
    /// The connection or the server failed: try again, not before the server says if it says so.
    Disconnected { reason: String, retry_after: Option<Duration> },
    /// The server asks to come back after a delay.
    Drained { delay: Duration },
    /// Trying again cannot help: the server wants no more of this attempt.
    Refused { reason: String },
}

impl Interruption {
    pub(super) fn disconnected(reason: impl Into<String>) -> Self {
        Self::Disconnected { reason: reason.into(), retry_after: None }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// A stream of an attempt that the server once knew ended with this status.
    pub(super) fn of_stream(status: Status) -> Self {
        match status.code() {
            Code::NotFound => {
                Self::refused(format!("the run or attempt is gone from the server: {}", quote(status.message())))
            }
            _ => status.into(),
        }
    }

    /// The server broke the protocol.
    pub(super) fn protocol(fault: &str) -> Self {
        Self::disconnected(format!("the server broke the protocol: {fault}"))
    }

    pub(super) fn drained(delay: Duration) -> Self {
        Self::Drained { delay: delay.min(MAX_SERVER_DELAY) }
    }

    pub(super) fn transport(error: &(dyn Error + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            // Writing to a string does not fail.
            let _ = write!(reason, ": {error}");
            source = error.source();
        }
        Self::disconnected(quote(&reason))
    }
}

impl From<Status> for Interruption {
    fn from(status: Status) -> Self {
        let reason = format!("{:?}: {}", status.code(), quote(status.message()));
        match status.code() {
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => Self::refused(reason),
            // A proxy in front of a server that is being replaced answers with HTTP 403 or 404, which become these codes,
            // without details. Whatever a gradwatch server refuses carries details, if only empty ones. A token that is
            // not known yet may be made later, so that UNAUTHENTICATED is tried again: at last every 15 s on average.
            Code::PermissionDenied | Code::Unimplemented if !status.details().is_empty() => Self::refused(reason),
            Code::ResourceExhausted | Code::Unavailable => {
                let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
                Self::Disconnected { reason, retry_after: retry_after.map(|delay| delay.min(MAX_SERVER_DELAY)) }
            }
            _ => Self::disconnected(reason),
        }
    }
}

/// A server's words, shortened.
pub(super) fn quote(text: &str) -> String {
    text.chars().take(MAX_QUOTE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_retry_delay_is_taken_from_the_status_and_bounded() {
        for (given_s, taken_s) in [(7, 7), (100_000, 300)] {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(given_s)));
            let status = Status::with_error_details(Code::ResourceExhausted, "memory_limit", details);
            let Interruption::Disconnected { retry_after, .. } = status.into() else { panic!("it is not final") };
            assert_eq!(retry_after, Some(Duration::from_secs(taken_s)));
        }
    }

    #[test]
    fn only_refusals_are_final() {
        for code in (1..=16).map(Code::from_i32) {
            let bare = || Status::new(code, "");
            let of_server = || Status::with_error_details(code, "", ErrorDetails::new());
            let is_final = |interruption| matches!(interruption, Interruption::Refused { .. });
            let number = code as i32;
            assert_eq!(is_final(bare().into()), [3, 6, 9].contains(&number), "{code:?}");
            assert_eq!(is_final(of_server().into()), [3, 6, 7, 9, 12].contains(&number), "{code:?}");
            assert_eq!(is_final(Interruption::of_stream(bare())), [3, 5, 6, 9].contains(&number), "{code:?}");
        }
    }
}
