//! The body of `POST runs/{run_id}/reanalyze`.

use axum::extract::{FromRequest, Request};
use gradwatch_spectral::{detectors::Bands, edge::PositionRule, window::WINDOW_LENGTHS};
use gradwatch_store::{AnalysisSpec, Kind, LIVE_ANALYSIS, Segment};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    api::{json_body, refusal::Refusal, text},
    error::Error,
    state::AppState,
};

/// Steps stay below it.
pub(super) const NO_STEP: u64 = 1 << 53;
const MAX_NAME_BYTES: usize = 64;
/// Window lengths of one analysis.
const MAX_WINDOWS: usize = 8;

/// What is to be computed.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "wide", "windows": [32], "position": "plain", "bands": "adaptive", "group": "attention"}))]
#[expect(dead_code, reason = "describes the body; `parse` reads it, naming the member at fault")]
pub(crate) struct ReanalyzeRequest {
    /// New in the run: 1 to 64 of a to z, 0 to 9, `_`, `.` and `-`; not `live`.
    name: String,
    /// Window lengths in rows, 3 to 64; at most 8 of them.
    windows: Vec<usize>,
    /// `mass`, `plain` or `edge`: the rule by which k* is found. Default: `mass`, as live.
    position: Option<String>,
    /// `adaptive` or `absolute`: what regimes are told by. Default: `adaptive`.
    bands: Option<String>,
    /// Only this group.
    group: Option<String>,
    /// Only `update`, or only `gradient`.
    kind: Option<String>,
    /// First step of a reading. Default: the first that is kept.
    from_step: Option<u64>,
    /// Last step of a reading. Default: the last that is settled.
    to_step: Option<u64>,
}

/// The body, checked as far as it can be alone.
#[derive(Debug, PartialEq)]
pub(crate) struct NewAnalysisBody {
    pub(super) name: String,
    pub(super) spec: AnalysisSpec,
}

impl FromRequest<AppState> for NewAnalysisBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let members = json_body::members(request, state).await?;
        Ok(parse(members)?)
    }
}

/// Reads the body, naming the member at fault.
fn parse(mut members: Map<String, Value>) -> Result<NewAnalysisBody, Error> {
    let name = text(&mut members, "name")?.ok_or_else(|| Error::invalid("name", "is missing"))?;
    check_name(&name)?;
    let spec = AnalysisSpec {
        windows: windows(members.remove("windows"))?,
        position: parsed::<PositionRule>(&mut members, "position")?.unwrap_or_default(),
        bands: parsed::<Bands>(&mut members, "bands")?.unwrap_or_default(),
        group: text(&mut members, "group")?,
        kind: parsed::<Kind>(&mut members, "kind")?,
        from_step: step(&mut members, "from_step")?.unwrap_or(0),
        to_step: step(&mut members, "to_step")?.unwrap_or(NO_STEP),
    };
    if let Some((unknown, _)) = members.into_iter().next() {
        let known = ["name", "windows", "position", "bands", "group", "kind", "from_step", "to_step"];
        let near = text::did_you_mean(&unknown, &known);
        return Err(Error::invalid(unknown, format!("is unknown; there are {}{near}", known.join(", "))));
    }
    if spec.to_step < spec.from_step {
        return Err(Error::invalid("to_step", format!("{} is below from_step ({})", spec.to_step, spec.from_step)));
    }
    Ok(NewAnalysisBody { name, spec })
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_allowed =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "_.-".contains(character);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_allowed) {
        return Err(Error::invalid("name", format!("must be 1 to {MAX_NAME_BYTES} of a to z, 0 to 9, _, . and -")));
    }
    if name == LIVE_ANALYSIS {
        return Err(Error::invalid("name", format!("{LIVE_ANALYSIS} is the analysis that follows the run")));
    }
    Ok(())
}

fn windows(value: Option<Value>) -> Result<Vec<usize>, Error> {
    let invalid = |message: String| Err(Error::invalid("windows", message));
    let values = match value {
        None | Some(Value::Null) => return invalid("is missing".into()),
        Some(Value::Array(values)) if (1..=MAX_WINDOWS).contains(&values.len()) => values,
        Some(_) => return invalid(format!("must be a list of 1 to {MAX_WINDOWS} window lengths")),
    };
    let mut windows = Vec::new();
    for value in values {
        let length = value.as_u64().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|length| WINDOW_LENGTHS.contains(length)) else {
            let (least, most) = (WINDOW_LENGTHS.start(), WINDOW_LENGTHS.end());
            return invalid(format!("{value} is no window length; those are {least} to {most} rows"));
        };
        if windows.contains(&length) {
            return invalid(format!("{length} is there twice"));
        }
        windows.push(length);
    }
    Ok(windows)
}

fn text(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Error> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text)),
        Some(_) => Err(Error::invalid(name, "must be a text, without a NUL character")),
    }
}

fn parsed<T: std::str::FromStr<Err = String>>(
    members: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, Error> {
    text(members, name)?.map(|text| text.parse().map_err(|error: String| Error::invalid(name, error))).transpose()
}

fn step(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<u64>, Error> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|step| *step < NO_STEP) {
            Some(step) => Ok(Some(step)),
            None => Err(Error::invalid(name, format!("{value} is no step; steps are 0 to 2^53 - 1"))),
        },
    }
}

/// Checks what is asked for against what the run declares.
pub(super) fn check(spec: &AnalysisSpec, segments: &[Segment]) -> Result<(), Error> {
    let specs = || segments.iter().map(|segment| &segment.spec);
    if let Some(group) = &spec.group {
        let mut names: Vec<&str> = specs().flat_map(|spec| &spec.groups).map(|group| group.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if !names.contains(&group.as_str()) {
            let near = text::did_you_mean(group, &names);
            return Err(Error::invalid("group", format!("the run declares no group {group:?}{near}")));
        }
    }
    if let Some(kind) = spec.kind
        && !specs().any(|spec| spec.kinds.contains(&kind))
    {
        return Err(Error::invalid("kind", format!("the run does not send {}s", kind.as_str())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse_json(value: &Value) -> Result<NewAnalysisBody, Error> {
        json_body::object(value.to_string().as_bytes()).and_then(parse)
    }

    #[test]
    fn what_is_left_out_is_as_live() {
        let body = parse_json(&json!({ "name": "a-1_b.c", "windows": [64, 3], "group": null })).unwrap();
        let spec = AnalysisSpec {
            windows: vec![64, 3],
            position: PositionRule::Mass,
            bands: Bands::Adaptive,
            group: None,
            kind: None,
            from_step: 0,
            to_step: NO_STEP,
        };
        assert_eq!(body, NewAnalysisBody { name: "a-1_b.c".into(), spec });
    }

    #[test]
    fn every_member_at_fault_is_named() {
        let long = "a".repeat(65);
        for (field, value) in [
            ("name", json!(null)),
            ("name", json!("")),
            ("name", json!("Live")),
            ("name", json!("live")),
            ("name", json!("a b")),
            ("name", json!("a/b")),
            ("name", json!(long)),
            ("name", json!(7)),
            ("windows", json!(null)),
            ("windows", json!([])),
            ("windows", json!(10)),
            ("windows", json!([2])),
            ("windows", json!([65])),
            ("windows", json!([10, 10])),
            ("windows", json!([10.5])),
            ("windows", json!([-3])),
            ("windows", json!([3, 4, 5, 6, 7, 8, 9, 10, 11])),
            ("position", json!("best")),
            ("bands", json!("wide")),
            ("bands", json!(1)),
            ("kind", json!("loss")),
            ("group", json!("a\0b")),
            ("from_step", json!(-1)),
            ("to_step", json!(1_u64 << 53)),
            ("to_step", json!("5")),
            ("steps", json!(1)),
        ] {
            let mut body = json!({ "name": "wide", "windows": [10] });
            body[field] = value.clone();
            let error = parse_json(&body).expect_err(&format!("{field}: {value}"));
            assert_eq!(error.field.as_deref(), Some(field), "{value}: {error}");
        }
        let error = parse_json(&json!({ "name": "x", "windows": [5], "from_step": 5, "to_step": 4 })).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("to_step"));
        for body in ["", "[]", "{"] {
            assert_eq!(json_body::object(body.as_bytes()).and_then(parse).unwrap_err().field.as_deref(), Some("body"));
        }
    }
}
