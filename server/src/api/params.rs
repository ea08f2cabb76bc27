//! Query parameters: every one is claimed by name, and what nobody claims is refused. A typo must not silently widen
//! a query.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use gradwatch_store::RunId;

use super::{refusal::Refusal, text};
use crate::{access::Caller, error::Error, state::AppState};

/// Refuses a body that does not say it is JSON: a browser lets pages of any origin send other bodies unasked.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Error> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Error::invalid("content-type", "must be application/json"))
    }
}

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    claimed: Vec<&'static str>,
    fingerprint: u64,
    caller: Option<Caller>,
}

impl Params {
    /// Reads a query string.
    pub(crate) fn new(path: &str, query: Option<&str>) -> Self {
        let mut pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        let fingerprint = fingerprint(path, &pairs);
        pairs.reverse();
        Self { pairs, claimed: Vec::new(), fingerprint, caller: None }
    }

    /// Reads filters that did not come in the query of a request.
    pub(crate) fn of_caller(filters: &str, caller: &Caller) -> Self {
        Self { caller: Some(caller.clone()), ..Self::new("", Some(filters)) }
    }

    /// `project`: the one asked for, or else the only one that the caller may see; `None` for all.
    ///
    /// Invariant: lists are narrowed by what this answers and by nothing else, so that a caller of one project sees
    /// nothing of another.
    pub(crate) fn project(&mut self) -> Result<Option<String>, Error> {
        let project = self.one("project")?;
        let caller = self.caller.as_ref().ok_or_else(|| Error::internal("a request came around the guard"))?;
        match project {
            Some(project) => caller.require_project(&project).map(|()| Some(project)),
            None => Ok(caller.project().map(str::to_owned)),
        }
    }

    /// Says which question this is, whatever page of the answer is asked for.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Every value of a parameter, in order of appearance.
    pub(crate) fn many(&mut self, name: &'static str) -> Result<Vec<String>, Error> {
        self.claimed.push(name);
        let mut values = Vec::new();
        // Pairs stand reversed, so that removing from the back keeps the order of appearance.
        for index in (0..self.pairs.len()).rev() {
            if self.pairs[index].0 == name {
                values.push(self.pairs.remove(index).1);
            }
        }
        if values.iter().any(String::is_empty) {
            return Err(Error::invalid(name, "must not be empty"));
        }
        // Nothing recorded holds one, and a database may fail on it.
        if values.iter().any(|value| value.contains('\0')) {
            return Err(Error::invalid(name, "must not hold a NUL character"));
        }
        Ok(values)
    }

    /// Every value of a parameter that may be repeated, hold commas, or both.
    pub(crate) fn list(&mut self, name: &'static str) -> Result<Vec<String>, Error> {
        let values = self.many(name)?;
        let values: Vec<String> = values.iter().flat_map(|value| value.split(',')).map(str::to_owned).collect();
        if values.iter().any(String::is_empty) {
            return Err(Error::invalid(name, "must not hold an empty entry"));
        }
        Ok(values)
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        let mut values = self.many(name)?;
        if values.len() > 1 {
            return Err(Error::invalid(name, "was given more than once"));
        }
        Ok(values.pop())
    }

    /// As [`one`](Self::one), parsed.
    pub(crate) fn parsed<T>(&mut self, name: &'static str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.one(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| Error::invalid(name, format!("{text:?}: {error}")))
    }

    /// Every parameter whose name starts with `prefix`, by the rest of its name.
    pub(crate) fn prefixed(&mut self, prefix: &'static str) -> Result<BTreeMap<String, String>, Error> {
        let mut found = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.pairs) {
            match name.strip_prefix(prefix) {
                Some("") => return Err(Error::invalid(name, "names no label")),
                // Nothing recorded holds one, and a database may fail on it.
                Some(rest) if rest.contains('\0') || value.contains('\0') => {
                    return Err(Error::invalid(name.replace('\0', "\\0"), "must not hold a NUL character"));
                }
                Some(rest) => {
                    if found.insert(rest.to_owned(), value).is_some() {
                        return Err(Error::invalid(name, "was given more than once"));
                    }
                }
                None => self.pairs.push((name, value)),
            }
        }
        Ok(found)
    }

    /// Refuses what nobody claimed.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let Some((name, _)) = self.pairs.last() else { return Ok(()) };
        let known = match self.claimed.as_slice() {
            [] => "this path takes none".to_owned(),
            claimed => format!("this path takes {}", claimed.join(", ")),
        };
        Err(Error::invalid(name, format!("unknown parameter; {known}{}", text::did_you_mean(name, &self.claimed))))
    }
}

/// FNV-1a over the path and the parameters in a fixed order, paging left out.
fn fingerprint(path: &str, pairs: &[(String, String)]) -> u64 {
    let mut pairs: Vec<_> = pairs.iter().filter(|(name, _)| name != "cursor" && name != "limit").collect();
    pairs.sort();
    let fields = pairs.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    std::iter::once(path)
        .chain(fields)
        .flat_map(|field| field.bytes().chain(std::iter::once(0xff)))
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Something that claims its parameters.
pub(crate) trait FromParams: Sized {
    /// Claims and checks.
    fn from_params(params: &mut Params) -> Result<Self, Error>;
}

impl FromParams for () {
    fn from_params(_: &mut Params) -> Result<Self, Error> {
        Ok(())
    }
}

macro_rules! tuple {
    ($($part:ident)*) => {
        impl<$($part: FromParams),*> FromParams for ($($part,)*) {
            fn from_params(params: &mut Params) -> Result<Self, Error> {
                Ok(($($part::from_params(params)?,)*))
            }
        }
    };
}

tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);

/// Extracts the query parameters of a request; unknown ones are refused.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: FromParams> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut params = Params::new(parts.uri.path(), parts.uri.query());
        params.caller = parts.extensions.get().cloned();
        let value = T::from_params(&mut params)?;
        params.finish()?;
        Ok(Self(value))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let caller = parts.extensions.get().cloned();
        Ok(caller.ok_or_else(|| Error::internal("a request came around the guard"))?)
    }
}

/// Extracts the path segment `{run_id}`: a run that the caller may know, if there is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunPath(pub(crate) RunId);

impl FromRequestParts<AppState> for RunPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let text = path_segment(parts, state, "run_id").await?;
        let run_id = text.parse().map_err(|error| Error::invalid("run_id", format!("{text:?} is no UUID: {error}")))?;
        if caller.project().is_some() {
            caller.run(&*state.store, run_id).await?;
        }
        Ok(Self(run_id))
    }
}

/// One named segment of the path.
pub(crate) async fn path_segment<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    name: &'static str,
) -> Result<String, Error> {
    let segments = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|rejection| Error::invalid(name, rejection.to_string()))?;
    let found = segments.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| Error::internal(format!("the route has no segment {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_claims_is_refused_with_its_name() {
        let mut params = Params::new("/x", Some("limit=5&grop=a"));
        assert_eq!(params.parsed::<usize>("limit").unwrap(), Some(5));
        assert_eq!(params.one("group").unwrap(), None);
        let error = params.finish().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("grop"));
        assert!(error.message.contains("did you mean group"), "{}", error.message);
    }

    #[test]
    fn repeated_empty_and_malformed_values_are_refused() {
        for (query, part) in [
            ("a=1&a=2", "more than once"),
            ("a=%00", "NUL"),
            ("a=", "empty"),
            ("a=x", "invalid digit"),
            ("a=-1", "invalid digit"),
        ] {
            let error = Params::new("/x", Some(query)).parsed::<u64>("a").unwrap_err();
            assert_eq!(error.field.as_deref(), Some("a"), "{query}");
            assert!(error.message.contains(part), "{query}: {}", error.message);
        }
        assert!(Params::new("/x", Some("a=b,,c")).list("a").is_err());
    }

    #[test]
    fn lists_keep_their_order_and_decode() {
        let mut params = Params::new("/x", Some("m=edge.ratio&n=1&m=scalar.a%2Bb+c,edge.gap"));
        assert_eq!(params.list("m").unwrap(), ["edge.ratio", "scalar.a+b c", "edge.gap"]);
        assert_eq!(params.one("n").unwrap().as_deref(), Some("1"));
        params.finish().unwrap();
    }

    #[test]
    fn labels_are_claimed_by_prefix() {
        let mut params = Params::new("/x", Some("label.team=a&label.note=&other=1"));
        let labels = params.prefixed("label.").unwrap();
        assert_eq!(labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(labels.get("note").map(String::as_str), Some(""));
        assert_eq!(params.finish().unwrap_err().field.as_deref(), Some("other"));
        assert!(Params::new("/x", Some("label.=1")).prefixed("label.").is_err());
        assert!(Params::new("/x", Some("label.a=1&label.a=2")).prefixed("label.").is_err());
        for (query, field) in [("label.a=%00", "label.a"), ("label.a%00=1", "label.a\\0")] {
            let error = Params::new("/x", Some(query)).prefixed("label.").unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{query}");
            assert!(error.message.contains("NUL"), "{query}: {}", error.message);
        }
    }

    #[test]
    fn the_fingerprint_ignores_paging_and_order_only() {
        let print = |path, query| Params::new(path, Some(query)).fingerprint();
        assert_eq!(print("/x", "a=1&b=2"), print("/x", "b=2&limit=3&cursor=abc&a=1"));
        assert_ne!(print("/x", "a=1&b=2"), print("/y", "a=1&b=2"));
        assert_ne!(print("/x", "a=1&b=2"), print("/x", "a=12&b="));
    }
}
