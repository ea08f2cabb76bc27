//! The bodies of requests: every member is claimed by name, and what nobody claims is refused.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use super::{
    super::{json_body, refusal::Refusal, text},
    request::{Align, CommonStep, DimensionRequest, ErrorSplitRequest},
};
use crate::{access::Caller, error::Error};

/// Steps are below this, and so is all that is added to them.
const STEP_LIMIT: u64 = 1 << 53;

/// The members of a JSON object.
#[derive(Debug)]
pub(crate) struct Members {
    members: Map<String, Value>,
    claimed: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { members: json_body::members(request, state).await?, claimed: Vec::new() })
    }
}

impl Members {
    /// Null is as good as absent.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.claimed.push(name);
        self.members.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        self.take(name).map(|value| plain(name, value)).transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<String, Error> {
        self.text(name)?.ok_or_else(|| Error::invalid(name, "is missing"))
    }

    /// The project asked for, or else the only one that the caller may see.
    fn project(&mut self, caller: &Caller) -> Result<String, Error> {
        match self.text("project")? {
            Some(project) => caller.require_project(&project).map(|()| project),
            None => caller.project().map(str::to_owned).ok_or_else(|| Error::invalid("project", "is missing")),
        }
    }

    /// A relative step.
    fn relative(&mut self, name: &'static str) -> Result<Option<i64>, Error> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let step = value.as_i64().filter(|step| step.unsigned_abs() < STEP_LIMIT);
        step.map(Some).ok_or_else(|| Error::invalid(name, "must be a whole number between -2^53 and 2^53"))
    }

    fn finish(self) -> Result<(), Error> {
        let Some(name) = self.members.keys().next() else { return Ok(()) };
        let near = text::did_you_mean(name, &self.claimed);
        Err(Error::invalid(name, format!("is unknown; this takes {}{near}", self.claimed.join(", "))))
    }

    /// The body of `fleet/dimension`.
    pub(super) fn dimension(mut self, caller: &Caller) -> Result<DimensionRequest, Error> {
        let request = DimensionRequest {
            project: self.project(caller)?,
            family: self.required("family")?,
            layer: self.text("layer")?,
            align: align(self.take("align"))?,
            window: match self.take("window") {
                None => None,
                Some(value) => {
                    let steps = value.as_u64().filter(|steps| (1..STEP_LIMIT).contains(steps));
                    Some(steps.ok_or_else(|| Error::invalid("window", "must be a number of steps, at least 1"))?)
                }
            },
            from: self.relative("from")?,
            to: self.relative("to")?,
        };
        if let (Some(from), Some(to)) = (request.from, request.to)
            && to < from
        {
            return Err(Error::invalid("to", format!("{to} is below from ({from})")));
        }
        self.finish()?;
        Ok(request)
    }

    /// The body of `fleet/error_split`.
    pub(super) fn error_split(mut self, caller: &Caller) -> Result<ErrorSplitRequest, Error> {
        let request = ErrorSplitRequest {
            project: self.project(caller)?,
            labels: labels(self.take("labels"))?,
            probe: self.required("probe")?,
            step: match self.take("step") {
                None => CommonStep::Last,
                Some(Value::String(word)) if word == "last" => CommonStep::Last,
                Some(value) => {
                    let step = value.as_u64().filter(|step| *step < STEP_LIMIT);
                    CommonStep::At(step.ok_or_else(|| Error::invalid("step", "must be a step, or \"last\""))?)
                }
            },
        };
        self.finish()?;
        Ok(request)
    }
}

/// A text that can be looked for.
fn plain(field: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) if text.is_empty() => Err(Error::invalid(field, "must not be empty")),
        // Nothing recorded holds one, and a database may fail on it.
        Value::String(text) if text.contains('\0') => Err(Error::invalid(field, "must not hold a NUL character")),
        Value::String(text) => Ok(text),
        _ => Err(Error::invalid(field, "must be a text")),
    }
}

fn align(value: Option<Value>) -> Result<Align, Error> {
    let wrong = || {
        let message = r#"must be "step", {"event": TYPE} or {"condition": "scalar.NAME >= NUMBER"}"#;
        Error::invalid("align", message)
    };
    match value {
        None => Err(Error::invalid("align", "is missing")),
        Some(Value::String(word)) if word == "step" => Ok(Align::Step),
        Some(Value::Object(members)) => {
            let mut members = members.into_iter();
            let (Some((name, value)), None) = (members.next(), members.next()) else { return Err(wrong()) };
            match name.as_str() {
                "event" => Ok(Align::Event(plain("align.event", value)?)),
                "condition" => {
                    let text = plain("align.condition", value)?;
                    text.parse().map(Align::Condition).map_err(|error: String| Error::invalid("align.condition", error))
                }
                _ => Err(wrong()),
            }
        }
        Some(_) => Err(wrong()),
    }
}

fn labels(value: Option<Value>) -> Result<BTreeMap<String, String>, Error> {
    let labels = match value {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(labels)) => labels,
        Some(_) => return Err(Error::invalid("labels", "must be an object of texts")),
    };
    let label = |(name, value): (String, Value)| {
        if name.is_empty() || name.contains('\0') {
            return Err(Error::invalid("labels", "a name must not be empty or hold a NUL character"));
        }
        match value {
            // Unlike a name, a label's value may be empty.
            Value::String(text) if text.is_empty() => Ok((name, text)),
            value => plain(&format!("labels.{name}"), value).map(|text| (name, text)),
        }
    };
    labels.into_iter().map(label).collect()
}
