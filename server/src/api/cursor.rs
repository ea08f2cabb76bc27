//! Where the next page of a list starts, as an opaque text.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gradwatch_store::RunId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::params::{FromParams, Params};
use crate::error::Error;

const VERSION: u8 = 1;
const DEFAULT_LIMIT: usize = 500;
/// The longest page.
pub(crate) const MAX_LIMIT: usize = 10_000;
/// A cursor of ours is far shorter.
const MAX_CURSOR_BYTES: usize = 512;

/// A place between two items.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor<P> {
    /// Format.
    v: u8,
    /// Fingerprint of the question: a cursor goes on with the query that gave it and no other.
    q: String,
    /// The last item given.
    p: P,
}

/// The last row given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepPosition {
    pub(crate) segment: u32,
    pub(crate) step: u64,
}

/// The last run given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunPosition {
    pub(crate) at_us: i64,
    pub(crate) run_id: RunId,
}

/// The last event given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventPosition {
    pub(crate) event_id: u64,
}

/// The number of series given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesPosition {
    pub(crate) given: usize,
}

/// Which page.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Items a page, 1 to 10,000.
    #[param(value_type = Option<u64>, default = 500, minimum = 1, maximum = 10_000)]
    pub(crate) limit: usize,
    /// `next_cursor` of the page before. Valid for the same query only.
    #[param(value_type = Option<String>)]
    cursor: Option<String>,
    #[param(ignore)]
    fingerprint: u64,
}

impl FromParams for Paging {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let limit = params.parsed("limit")?.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::invalid("limit", format!("{limit} is not between 1 and {MAX_LIMIT}")));
        }
        Ok(Self { limit, cursor: params.one("cursor")?, fingerprint: params.fingerprint() })
    }
}

impl Paging {
    /// The item behind which the page starts; `None` at the start of the list.
    pub(crate) fn position<P: DeserializeOwned>(&self) -> Result<Option<P>, Error> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let bad = || Error::invalid("cursor", "is not a cursor of this list; start without one");
        if text.len() > MAX_CURSOR_BYTES {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let cursor: Cursor<P> = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if cursor.v != VERSION {
            return Err(bad());
        }
        if cursor.q != self.question() {
            return Err(Error::invalid("cursor", "belongs to another query; only `limit` may change between pages"));
        }
        Ok(Some(cursor.p))
    }

    /// The cursor behind an item.
    pub(crate) fn behind<P: Serialize>(&self, position: P) -> Result<String, Error> {
        let cursor = Cursor { v: VERSION, q: self.question(), p: position };
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).map_err(Error::internal)?))
    }

    fn question(&self) -> String {
        format!("{:016x}", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(query: &str) -> Result<Paging, Error> {
        Paging::from_params(&mut Params::new("/list", Some(query)))
    }

    #[test]
    fn a_cursor_leads_back_to_its_place_in_the_same_query_only() {
        let position = StepPosition { segment: 3, step: (1 << 53) - 1 };
        let text = paging("group=a").unwrap().behind(position).unwrap();
        let read = |query: &str| paging(query).unwrap().position::<StepPosition>();
        assert_eq!(read(&format!("cursor={text}&limit=7&group=a")).unwrap(), Some(position));
        let error = read(&format!("cursor={text}&group=b")).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("cursor"));
        assert!(error.message.contains("another query"));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let other_kind = paging("").unwrap().behind(EventPosition { event_id: 1 }).unwrap();
        let future = URL_SAFE_NO_PAD.encode(r#"{"v":2,"q":"0","p":{"segment":1,"step":2}}"#);
        for text in ["x", "AAAA", &"A".repeat(4_000), &other_kind, &future] {
            let error = paging(&format!("cursor={text}")).unwrap().position::<StepPosition>().unwrap_err();
            assert_eq!(error.field.as_deref(), Some("cursor"), "{text}");
        }
    }

    #[test]
    fn limits_are_checked() {
        assert_eq!(paging("").unwrap().limit, 500);
        assert_eq!(paging("limit=10000").unwrap().limit, 10_000);
        for bad in ["limit=0", "limit=10001", "limit=-1", "limit=many"] {
            assert_eq!(paging(bad).unwrap_err().field.as_deref(), Some("limit"), "{bad}");
        }
    }
}
