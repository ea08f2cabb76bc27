//! Times as the API writes them.

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::clock;

/// Microseconds since the Unix epoch, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-03-01T12:00:00.25Z")]
pub(crate) struct Time(pub(crate) i64);

impl Time {
    /// The text.
    pub(crate) fn text(self) -> String {
        clock::text(self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_absurd_clocks_are_clamped() {
        assert_eq!(Time(1_772_366_400_250_000).text(), "2026-03-01T12:00:00.25Z");
        assert_eq!(Time(-1).text(), "1969-12-31T23:59:59.999999Z");
        assert!(Time(i64::MAX).text().starts_with("9999-12-30"));
        assert!(Time(i64::MIN).text().starts_with("-009999-01-02"));
    }
}
