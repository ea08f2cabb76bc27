//! The server's clock, read in one place.

use jiff::Timestamp;

/// Microseconds since the Unix epoch.
#[must_use]
pub(crate) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// A time as people and other programs read it: RFC 3339 in UTC. A client's clock can say anything; what lies beyond the
/// years −9999 to 9999 is written as the nearer end, so that one absurd clock does not make a page unreadable.
#[must_use]
pub(crate) fn text(at_us: i64) -> String {
    let end = if at_us < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(at_us).unwrap_or(end).to_string()
}
