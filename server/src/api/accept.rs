//! Which representation of readings a caller wants.

use axum::http::{HeaderMap, header};

use crate::error::{Error, ErrorCode};

/// A representation of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    NdJson,
    Csv,
}

/// In order of preference among equals.
const OFFERED: [(Format, &str, &str); 3] =
    [(Format::Json, "application", "json"), (Format::NdJson, "application", "x-ndjson"), (Format::Csv, "text", "csv")];

/// What a computation can be asked for as, in order of preference among equals: as it stands, or its progress.
const COMPUTATION: [(bool, &str, &str); 2] = [(false, "application", "json"), (true, "text", "event-stream")];

/// What a backtest can be asked for as, in order of preference among equals: what came out, or line by line.
const BACKTEST: [(bool, &str, &str); 2] = [(false, "application", "json"), (true, "application", "x-ndjson")];

/// The representation of readings that is wanted.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Format, Error> {
    preferred(headers, &OFFERED)
}

/// Whether server-sent events are wanted rather than JSON.
pub(crate) fn wants_events(headers: &HeaderMap) -> Result<bool, Error> {
    preferred(headers, &COMPUTATION)
}

/// Whether lines of progress are wanted rather than one JSON document.
pub(crate) fn wants_lines(headers: &HeaderMap) -> Result<bool, Error> {
    preferred(headers, &BACKTEST)
}

/// Reads `Accept` (RFC 9110, section 12.5.1): the most specific range that matches gives a representation its weight,
/// the heaviest representation wins.
fn preferred<T: Copy>(headers: &HeaderMap, offered: &[(T, &'static str, &'static str)]) -> Result<T, Error> {
    let ranges: Vec<Range> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let weight = |kind: &str, subtype: &str| {
        let matching = ranges.iter().filter_map(|range| Some((range.specificity(kind, subtype)?, range.weight)));
        matching.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, weight)| weight)
    };
    let mut best: Option<(f32, T)> = None;
    for &(format, kind, subtype) in offered {
        // Who asks for nothing takes anything.
        let weight = if ranges.is_empty() { 1.0 } else { weight(kind, subtype) };
        if weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
        let names: Vec<String> = offered.iter().map(|(_, kind, subtype)| format!("{kind}/{subtype}")).collect();
        let message = format!("offered are {}", names.join(", "));
        Error { field: Some("accept".into()), ..Error::new(ErrorCode::NotAcceptable, message) }
    })
}

struct Range {
    kind: String,
    subtype: String,
    weight: f32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let weight = parts.filter_map(|part| part.strip_prefix("q=")).find_map(|q| q.trim().parse().ok());
        Some(Self {
            kind: kind.to_ascii_lowercase(),
            subtype: subtype.to_ascii_lowercase(),
            weight: weight.unwrap_or(1.0),
        })
    }

    fn specificity(&self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind.as_str(), self.subtype.as_str()) {
            ("*", "*") => Some(0),
            (own, "*") if own == kind => Some(1),
            (own, sub) if own == kind && sub == subtype => Some(2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn negotiated(accept: &[&'static str]) -> Option<Format> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        negotiate(&headers).ok()
    }

    #[test]
    fn the_heaviest_acceptable_representation_wins() {
        for (accept, expected) in [
            (&[][..], Some(Format::Json)),
            (&["*/*"], Some(Format::Json)),
            (&["text/csv"], Some(Format::Csv)),
            (&["text/*"], Some(Format::Csv)),
            (&["Application/X-NDJSON"], Some(Format::NdJson)),
            (&["application/json;q=0.5, text/csv; q=0.9"], Some(Format::Csv)),
            (&["*/*;q=0.1, application/json;q=0"], Some(Format::NdJson)),
            (&["text/html", "application/json;q=0.1"], Some(Format::Json)),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Some(Format::Json)),
            (&["text/html"], None),
            (&["application/json;q=0"], None),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn events_are_only_for_who_asks_for_them() {
        for (accept, expected) in [
            (None, Some(false)),
            (Some("*/*"), Some(false)),
            (Some("text/event-stream"), Some(true)),
            (Some("application/json, text/event-stream;q=0.5"), Some(false)),
            (Some("text/csv"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(wants_events(&headers).ok(), expected, "{accept:?}");
        }
    }
}
