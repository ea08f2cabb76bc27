//! The body of `PATCH runs/{run_id}`.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{json_body, refusal::Refusal};
use crate::{config::Limits, error::Error};

/// Labels to set (text) or to remove (null).
#[derive(Debug, PartialEq, ToSchema)]
#[schema(example = json!({"labels": {"team": "optim", "obsolete": null}}))]
pub(crate) struct LabelPatch {
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

impl<S: Send + Sync> FromRequest<S> for LabelPatch {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(parse(json_body::members(request, state).await?)?)
    }
}

/// Reads the body, naming the member at fault.
fn parse(mut members: Map<String, Value>) -> Result<LabelPatch, Error> {
    let labels = members.remove("labels").ok_or_else(|| Error::invalid("labels", "is missing"))?;
    if let Some((unknown, _)) = members.into_iter().next() {
        return Err(Error::invalid(unknown, "is unknown; only labels can be changed"));
    }
    let Value::Object(labels) = labels else { return Err(Error::invalid("labels", "must be an object")) };
    let mut patch = BTreeMap::new();
    for (name, value) in labels {
        let value = match value {
            Value::String(text) => Some(text),
            Value::Null => None,
            _ => return Err(Error::invalid(format!("labels.{name}"), "must be a text, or null to remove the label")),
        };
        patch.insert(name, value);
    }
    Ok(LabelPatch { labels: patch })
}

/// Checks a patch against the limits and the labels that are there.
pub(crate) fn check(
    patch: &BTreeMap<String, Option<String>>,
    present: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<(), Error> {
    for (name, value) in patch {
        let field = || format!("labels.{name}");
        // Whatever is there can be removed.
        let Some(value) = value else { continue };
        if name.is_empty() {
            return Err(Error::invalid(field(), "the name must not be empty"));
        }
        for (part, text) in [("name", name), ("value", value)] {
            if text.len() > limits.max_name_bytes {
                return Err(Error::invalid(
                    field(),
                    format!("the {part} is {} bytes long; the limit is {}", text.len(), limits.max_name_bytes),
                ));
            }
            if let Some(character) = text.chars().find(|character| character.is_control()) {
                return Err(Error::invalid(field(), format!("the {part} holds the control character {character:?}")));
            }
        }
    }
    let kept = present.keys().filter(|name| !patch.contains_key(*name)).count();
    let count = kept + patch.values().flatten().count();
    if count > limits.max_labels {
        return Err(Error::invalid(
            "labels",
            format!("the run would have {count}; the limit is {}", limits.max_labels),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_window_bytes: 1,
            max_message_bytes: 1,
            max_scalars_per_frame: 1,
            max_scalar_names: 1,
            max_windows: 1,
            max_frames_per_message: 1,
            max_name_bytes: 8,
            max_labels: 2,
            max_config_bytes: 1,
            max_layers: 1,
            max_backlog_bytes: 1,
            max_prediction_bytes: 1,
            max_sketch_bytes: 1,
        }
    }

    fn refused(patch: &str, present: &[&str]) -> Option<String> {
        let patch = match json_body::object(patch.as_bytes()).and_then(parse) {
            Ok(patch) => patch.labels,
            Err(error) => return error.field,
        };
        let present = present.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        check(&patch, &present, &limits()).err().and_then(|error| error.field)
    }

    #[test]
    fn the_member_at_fault_is_named() {
        for (body, field) in [
            ("", "body"),
            ("{\"labels\":", "body"),
            ("[]", "body"),
            ("{}", "labels"),
            (r#"{"labels": []}"#, "labels"),
            (r#"{"labels": {}, "name": "x"}"#, "name"),
            (r#"{"labels": {"a": 1}}"#, "labels.a"),
            (r#"{"labels": {"": "x"}}"#, "labels."),
            (r#"{"labels": {"a": "x\u0000"}}"#, "labels.a"),
            (r#"{"labels": {"a": "123456789"}}"#, "labels.a"),
            (r#"{"labels": {"123456789": ""}}"#, "labels.123456789"),
            (r#"{"labels": {"a": "", "b": "", "c": ""}}"#, "labels"),
        ] {
            assert_eq!(refused(body, &[]).as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn the_limit_counts_what_the_run_would_have() {
        assert_eq!(refused(r#"{"labels": {"c": ""}}"#, &["a", "b"]).as_deref(), Some("labels"));
        assert_eq!(refused(r#"{"labels": {"c": "", "a": null}}"#, &["a", "b"]), None);
        assert_eq!(refused(r#"{"labels": {"a": "new"}}"#, &["a", "b"]), None);
        assert_eq!(refused(r#"{"labels": {"a name longer than any limit": null}}"#, &[]), None);
    }
}
