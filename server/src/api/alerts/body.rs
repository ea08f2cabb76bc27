//! Bodies of requests: the member at fault is named.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use gradwatch_rules::Problem;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    api::{json_body, params, refusal::Refusal},
    error::Error,
};

/// A JSON object.
#[derive(Debug)]
pub(crate) struct Members(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Members {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(json_body::members(request, state).await?))
    }
}

/// No body, or an empty JSON object. The content type is asked for all the same: a browser lets pages of any origin send
/// a POST without one.
#[derive(Debug)]
pub(crate) struct NoMembers;

impl<S: Send + Sync> FromRequest<S> for NoMembers {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        params::require_json(request.headers())?;
        let bytes = json_body::bytes(request, state).await?;
        if !bytes.is_empty()
            && let Some((unknown, _)) = json_body::object(&bytes)?.into_iter().next()
        {
            return Err(Error::invalid(unknown, "is unknown; this call takes no members").into());
        }
        Ok(Self)
    }
}

/// A rule as JSON, or a file of rules as YAML.
#[derive(Debug)]
pub(crate) enum RuleText {
    Json(Map<String, Value>),
    Yaml(String),
}

impl<S: Send + Sync> FromRequest<S> for RuleText {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        if !is_yaml(request.headers()) {
            params::require_json(request.headers())
                .map_err(|error| Error { message: "must be application/json or application/yaml".into(), ..error })?;
            return Ok(Self::Json(json_body::members(request, state).await?));
        }
        let bytes = json_body::bytes(request, state).await?;
        let text = String::from_utf8(bytes.into()).map_err(|_| Error::invalid("body", "is not UTF-8"))?;
        Ok(Self::Yaml(text))
    }
}

fn is_yaml(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/yaml")
}

/// Sets the name to that of the path, which a body may leave out.
pub(super) fn set_name(members: &mut Map<String, Value>, name: &str) -> Result<(), Error> {
    match members.insert("name".to_owned(), name.into()) {
        None => Ok(()),
        Some(Value::String(own)) if own == name => Ok(()),
        Some(_) => Err(Error::invalid("name", format!("must be {name:?}, as in the path: names are for good"))),
    }
}

/// Reads a definition of its members.
pub(super) fn definition<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, Problem> {
    read("", Value::Object(members))
}

/// Reads the value of a member.
pub(super) fn read<T: DeserializeOwned>(member: &str, value: Value) -> Result<T, Problem> {
    // Nothing recorded holds one, and a database may fail on it.
    if let Some(field) = holding_nul(member, &value) {
        return Err(Problem { field, position: None, message: "must not hold a NUL character".into() });
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let message = without_value(&error.into_inner().to_string());
        let field = match format!("{member}{}", field(&path, &message)) {
            field if field.is_empty() => "body".to_owned(),
            field => field,
        };
        Problem { field, position: None, message }
    })
}

/// The member at fault: of a missing or unknown one the path names only where it is looked for.
fn field(path: &str, message: &str) -> String {
    let name = ["missing field `", "unknown field `"].iter().find_map(|start| message.strip_prefix(start));
    let name = name.and_then(|rest| rest.split('`').next()).unwrap_or_default();
    let parent = path.trim_end_matches(name).trim_end_matches(['.', '?']);
    match (parent, name) {
        ("", name) => name.to_owned(),
        (parent, "") => parent.to_owned(),
        (parent, name) => format!("{parent}.{name}"),
    }
}

/// The message without what was sent, which may be a secret in the wrong place.
fn without_value(message: &str) -> String {
    let is_told = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(value), Some(expected)) if is_told && value < expected => {
            format!("{}{}", message[..value].trim_end(), &message[expected..])
        }
        _ => message.to_owned(),
    }
}

fn holding_nul(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(|| path.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| holding_nul(&format!("{path}[{index}]"), item))
        }
        Value::Object(members) => members.iter().find_map(|(name, item)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if name.contains('\0') { Some(path.replace('\0', "\\0")) } else { holding_nul(&path, item) }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use gradwatch_rules::{ReceiverDefinition, RuleDefinition};
    use serde_json::json;

    use super::*;

    fn problem<T: DeserializeOwned>(value: Value) -> Problem {
        let Value::Object(members) = value else { panic!("an object") };
        definition::<T>(members).err().expect("a problem")
    }

    #[test]
    fn the_member_at_fault_is_named() {
        for (value, field) in [
            (json!({}), "name"),
            (json!({ "name": "r" }), "when"),
            (json!({ "name": "r", "when": 7 }), "when"),
            (json!({ "name": "r", "when": "x", "wen": 7 }), "wen"),
            (json!({ "name": "r", "when": "x", "select": { "projekt": 7 } }), "select.projekt"),
            (json!({ "name": "r", "when": "x", "labels": { "a": 7 } }), "labels.a"),
            (json!({ "name": "r", "when": "x", "receivers": ["a", 7] }), "receivers[1]"),
            (json!({ "name": "r", "when": "x", "receivers": ["a", "b\0"] }), "receivers[1]"),
            (json!({ "name": "r", "when": "x", "labels": { "a\0": "b" } }), "labels.a\\0"),
        ] {
            assert_eq!(problem::<RuleDefinition>(value.clone()).field, field, "{value}");
        }
        for (value, field) in [
            (json!({ "name": "r" }), "body"),
            (json!({ "name": "r", "webhook": { "secrets": [] } }), "webhook.url"),
            (json!({ "name": "r", "slack": { "uri": "x" } }), "slack.uri"),
        ] {
            assert_eq!(problem::<ReceiverDefinition>(value.clone()).field, field, "{value}");
        }
        let listed = read::<Vec<String>>("matchers", json!({})).unwrap_err();
        assert_eq!(listed.field, "matchers");
        assert_eq!(read::<Vec<String>>("matchers", json!(["a", 7])).unwrap_err().field, "matchers[1]");
    }

    #[test]
    fn what_was_sent_is_not_said_back() {
        for secrets in [json!("a secret, expected"), json!(7_777_777), json!([["a secret"]])] {
            let webhook = json!({ "url": "http://h", "secrets": secrets });
            let problem = problem::<ReceiverDefinition>(json!({ "name": "r", "webhook": webhook }));
            assert!(problem.message.starts_with("invalid type: ") && problem.message.contains(", expected a "));
            assert!(!problem.message.contains("secret") && !problem.message.contains('7'), "{}", problem.message);
        }
    }
}
