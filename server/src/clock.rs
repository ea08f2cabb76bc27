//! The server's clock, read in one place.

/// Microseconds since the Unix epoch.
#[must_use]
pub(crate) fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
