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

/// Reads `Accept` (RFC 9110, section 12.5.1): the most specific range that matches gives a representation its weight,
/// the heaviest representation wins.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Format, Error> {
    let ranges: Vec<Range> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    if ranges.is_empty() {
        return Ok(Format::Json);
    }
    let weight = |kind: &str, subtype: &str| {
        let matching = ranges.iter().filter_map(|range| Some((range.specificity(kind, subtype)?, range.weight)));
        matching.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, weight)| weight)
    };
    let mut best: Option<(f32, Format)> = None;
    for (format, kind, subtype) in OFFERED {
        let weight = weight(kind, subtype);
        if weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| Error {
        field: Some("accept".into()),
        ..Error::new(ErrorCode::NotAcceptable, "offered are application/json, application/x-ndjson and text/csv")
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
}
