//! The body of `POST alerts/silences`: every member is claimed by name.

use std::time::Duration;

use gradwatch_store::Silence;
use jiff::Timestamp;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body;
use crate::{
    access::Caller,
    alerts::{Matcher, check_matchers},
    api::text,
    error::Error,
};

/// No project's name is longer.
const MAX_PROJECT_BYTES: usize = 256;
const MAX_COMMENT_BYTES: usize = 1_024;
/// What is to be silent for longer is a rule to be removed.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// What a silence is to be. Exactly one of `ends_at` and `duration_s` says until when.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"matchers": [{"name": "rule", "value": "edge-*"}, {"name": "severity", "value": "critical", "negate": true}],
    "duration_s": 7_200, "comment": "the learning rate is being swept"}))]
#[expect(dead_code, reason = "describes the body; `read` reads it, naming the member at fault")]
pub(crate) struct SilenceBody {
    /// Only alerts of this project; null or absent: of all, or that of the token.
    project: Option<String>,
    /// All of them must match; 1 to 32.
    matchers: Vec<MatcherBody>,
    /// RFC 3339. Default: now.
    starts_at: Option<String>,
    /// RFC 3339; at most 366 days from now.
    ends_at: Option<String>,
    /// In seconds, from its start.
    duration_s: Option<u64>,
    /// Why.
    comment: Option<String>,
}

/// A condition on one label.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; `read` reads it, naming the member at fault")]
pub(crate) struct MatcherBody {
    /// `rule`, `project`, `run` (its id), `group`, `severity`, or a label of the rule or the run. A label that an alert does
    /// not have is empty.
    name: String,
    /// A glob: `*`, `?`, `[a-z]`, `{a,b}`.
    value: String,
    /// The label must not match.
    negate: Option<bool>,
}

/// Reads the body.
pub(super) fn read(mut members: Map<String, Value>, caller: &Caller, now_us: i64) -> Result<Silence, Error> {
    // A silence for all projects is more than one of a project may make.
    let project = match plain("project", members.remove("project"))? {
        Some(project) => {
            caller.require_project(&project)?;
            Some(checked("project", project, MAX_PROJECT_BYTES)?)
        }
        None => caller.project().map(str::to_owned),
    };
    let matchers = matchers(members.remove("matchers"))?;
    let starts_at_us = time("starts_at", members.remove("starts_at"))?.unwrap_or(now_us);
    let ends_at_us = match (time("ends_at", members.remove("ends_at"))?, members.remove("duration_s")) {
        (Some(at_us), None | Some(Value::Null)) => at_us,
        (None, Some(value)) if !value.is_null() => {
            let seconds = value.as_u64().filter(|seconds| (1..=MAX_DURATION.as_secs()).contains(seconds));
            let wrong = || Error::invalid("duration_s", "must be a number of seconds, from 1 to 366 days");
            starts_at_us.saturating_add(Duration::from_secs(seconds.ok_or_else(wrong)?).as_micros() as i64)
        }
        (Some(_), Some(_)) => return Err(Error::invalid("duration_s", "must not be given together with ends_at")),
        (None, _) => return Err(Error::invalid("ends_at", "is missing; ends_at or duration_s says until when")),
    };
    if ends_at_us <= starts_at_us {
        return Err(Error::invalid("ends_at", "must be after starts_at"));
    }
    if ends_at_us <= now_us {
        return Err(Error::invalid("ends_at", "is over"));
    }
    if ends_at_us.saturating_sub(now_us) > MAX_DURATION.as_micros() as i64 {
        return Err(Error::invalid("ends_at", "is more than 366 days away; remove the rule instead"));
    }
    let comment = plain("comment", members.remove("comment"))?.unwrap_or_default();
    let comment = checked("comment", comment, MAX_COMMENT_BYTES)?;
    if let Some((unknown, _)) = members.into_iter().next() {
        let known = ["project", "matchers", "starts_at", "ends_at", "duration_s", "comment"];
        let near = text::did_you_mean(&unknown, &known);
        return Err(Error::invalid(unknown, format!("is unknown; there are {}{near}", known.join(", "))));
    }
    Ok(Silence {
        silence_id: Uuid::new_v4(),
        project,
        matchers,
        starts_at_us,
        ends_at_us,
        comment,
        created_by: caller.name().to_owned(),
        created_at_us: now_us,
    })
}

fn matchers(value: Option<Value>) -> Result<Value, Error> {
    let value = value.filter(|value| !value.is_null()).ok_or_else(|| Error::invalid("matchers", "is missing"))?;
    let matchers: Vec<Matcher> =
        body::read("matchers", value).map_err(|problem| Error::invalid(problem.field, problem.message))?;
    check_matchers(&matchers).map_err(|error| Error::invalid(error.field, error.problem))?;
    serde_json::to_value(matchers).map_err(Error::internal)
}

fn plain(field: &str, value: Option<Value>) -> Result<Option<String>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::invalid(field, "must be a text")),
    }
}

fn checked(field: &str, text: String, max_bytes: usize) -> Result<String, Error> {
    if text.len() > max_bytes {
        return Err(Error::invalid(field, format!("is {} bytes long; the limit is {max_bytes}", text.len())));
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(Error::invalid(field, format!("holds the control character {character:?}"))),
        None => Ok(text),
    }
}

fn time(field: &str, value: Option<Value>) -> Result<Option<i64>, Error> {
    let Some(text) = plain(field, value)? else { return Ok(None) };
    let parsed: Result<Timestamp, _> = text.parse();
    let wrong = |error| Error::invalid(field, format!("{text:?} is no RFC 3339 time: {error}"));
    parsed.map(|at| Some(at.as_microsecond())).map_err(wrong)
}
