//! `alerts/receivers`.

use axum::{Json, extract::State, http::StatusCode};
use gradwatch_rules::ReceiverDefinition;
use gradwatch_store::AlertReceiver;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    body::{self, Members, NoMembers},
    book,
    messages::MessageView,
    path::NamePath,
};
use crate::{
    alerts::secrets,
    api::{cursor::Paging, openapi::Problems, params::Query, refusal::Answer, time::Time},
    error::{Error, ErrorCode},
    state::AppState,
};

/// Somebody who is told of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiverView {
    name: String,
    /// `api`, or `file`: only the file of rules changes it.
    source: &'static str,
    updated_at: Time,
    /// Why nothing is sent to it; null: something is.
    disabled: Option<DisabledView>,
    /// As it was written, with `***` for what is secret.
    #[schema(value_type = ReceiverBody)]
    definition: Value,
}

/// A receiver asked not to be told again, by the status 410.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DisabledView {
    since: Time,
    reason: String,
}

/// A receiver as it is written. Exactly one of `webhook`, `slack` and `alertmanager` says how it is told.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "oncall", "webhook": {"url": "https://oncall.example.org/hook", "secrets": ["whsec_…"]}}))]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct ReceiverBody {
    /// Unique among all receivers: letters, digits, `_`, `-` and `.`, at most 100. `PUT` may leave it out.
    name: String,
    /// A signed JSON document by POST (Standard Webhooks).
    webhook: Option<WebhookBody>,
    /// An incoming webhook of Slack.
    slack: Option<SlackBody>,
    /// Prometheus Alertmanager.
    alertmanager: Option<AlertmanagerBody>,
    /// What alerts of one message have in common: `rule`, `project`, `run`. Default: `["rule"]`.
    group_by: Option<Vec<String>>,
    /// Seconds that the first alert of a message waits for others. Default 5.
    group_wait_s: Option<u32>,
    /// Whether the end of an alert is told. Default true.
    send_resolved: Option<bool>,
    /// Requests at the same time. Default 4.
    max_concurrency: Option<u32>,
    /// Requests a minute. Default 60.
    max_per_minute: Option<u32>,
    /// Seconds that a whole request may take. Default 10.
    timeout_s: Option<u32>,
}

/// Where a webhook goes.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct WebhookBody {
    /// `http` or `https`.
    url: String,
    /// `whsec_` and base64 of 24 to 64 bytes; each signs. In a `PUT`, `***` keeps one that is there, the first the first.
    secrets: Option<Vec<String>>,
}

/// Where a message to Slack goes.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct SlackBody {
    /// The secret address. In a `PUT`, `***` keeps the one that is there.
    url: String,
}

/// Where Alertmanager is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct AlertmanagerBody {
    /// Such as `https://alertmanager.example.org`.
    url: String,
}

/// A page of receivers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReceiverList {
    items: Vec<ReceiverView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// The last receiver given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiverPosition {
    name: String,
}

/// Lists receivers by name.
#[utoipa::path(get, operation_id = "listReceivers", path = "/api/v1/alerts/receivers", tag = "alerts", params(Paging),
    responses((status = 200, body = ReceiverList), Problems))]
pub(crate) async fn list(State(state): State<AppState>, Query(paging): Query<Paging>) -> Answer<Json<ReceiverList>> {
    let after = paging.position::<ReceiverPosition>()?;
    let set = book(&state).current();
    let is_behind = |name: &str| after.as_ref().is_none_or(|after| name > after.name.as_str());
    let mut wanted = set.receivers.values().filter(|receiver| is_behind(&receiver.stored.name));
    let taken = wanted.by_ref().take(paging.limit);
    let items = taken.map(|receiver| shown(&receiver.stored)).collect::<Result<Vec<ReceiverView>, Error>>()?;
    let next_cursor = match items.last() {
        Some(last) if wanted.next().is_some() => Some(paging.behind(ReceiverPosition { name: last.name.clone() })?),
        _ => None,
    };
    Ok(Json(ReceiverList { items, next_cursor }))
}

/// One receiver.
#[utoipa::path(get, operation_id = "getReceiver", path = "/api/v1/alerts/receivers/{name}", tag = "alerts", params(("name" = String, Path)),
    responses((status = 200, body = ReceiverView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<Json<ReceiverView>> {
    Ok(Json(shown(&known(&state, &name)?)?))
}

/// Makes a receiver.
#[utoipa::path(post, operation_id = "createReceiver", path = "/api/v1/alerts/receivers", tag = "alerts", request_body = ReceiverBody,
    responses((status = 201, body = ReceiverView), Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    Query(()): Query<()>,
    Members(members): Members,
) -> Answer<(StatusCode, Json<ReceiverView>)> {
    let receiver = book(&state).put_receiver(read(members)?, true).await?;
    tracing::info!(receiver = receiver.name, "receiver created");
    Ok((StatusCode::CREATED, Json(shown(&receiver)?)))
}

/// Replaces a receiver. `***` keeps a secret that is there. One that was disabled is enabled by a change.
#[utoipa::path(put, operation_id = "replaceReceiver", path = "/api/v1/alerts/receivers/{name}", tag = "alerts", params(("name" = String, Path)),
    request_body = ReceiverBody, responses((status = 200, body = ReceiverView), Problems))]
pub(crate) async fn replace(
    State(state): State<AppState>,
    NamePath(name): NamePath,
    Query(()): Query<()>,
    Members(mut members): Members,
) -> Answer<Json<ReceiverView>> {
    known(&state, &name)?;
    body::set_name(&mut members, &name)?;
    let receiver = book(&state).put_receiver(read(members)?, false).await?;
    tracing::info!(receiver = receiver.name, "receiver replaced");
    Ok(Json(shown(&receiver)?))
}

/// Removes a receiver that no rule names; answers it as it was. What it was to be told is given up.
#[utoipa::path(delete, operation_id = "deleteReceiver", path = "/api/v1/alerts/receivers/{name}", tag = "alerts", params(("name" = String, Path)),
    responses((status = 200, body = ReceiverView), Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<Json<ReceiverView>> {
    let view = shown(&known(&state, &name)?)?;
    book(&state).delete_receiver(&name).await?;
    tracing::info!(receiver = name, "receiver removed");
    Ok(Json(view))
}

/// Sends a receiver a message that says that it is a test. What becomes of it is seen at `alerts/deliveries?message=`.
#[utoipa::path(post, operation_id = "testReceiver", path = "/api/v1/alerts/receivers/{name}/test", tag = "alerts", params(("name" = String, Path)),
    responses((status = 202, body = MessageView), Problems))]
pub(crate) async fn test(
    State(state): State<AppState>,
    NamePath(name): NamePath,
    Query(()): Query<()>,
    NoMembers: NoMembers,
) -> Answer<(StatusCode, Json<MessageView>)> {
    let message = state.delivery.test(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(MessageView::from(&message))))
}

/// Enables a receiver that was disabled because it answered 410. What waits for it is sent.
#[utoipa::path(post, operation_id = "enableReceiver", path = "/api/v1/alerts/receivers/{name}/enable", tag = "alerts", params(("name" = String, Path)),
    responses((status = 200, body = ReceiverView), Problems))]
pub(crate) async fn enable(
    State(state): State<AppState>,
    NamePath(name): NamePath,
    Query(()): Query<()>,
    NoMembers: NoMembers,
) -> Answer<Json<ReceiverView>> {
    known(&state, &name)?;
    book(&state).enable(&name).await?;
    tracing::info!(receiver = name, "receiver enabled");
    Ok(Json(shown(&known(&state, &name)?)?))
}

fn read(members: serde_json::Map<String, Value>) -> Result<ReceiverDefinition, Error> {
    let definition = body::definition(members).map_err(|problem| Error::problems(vec![problem]))?;
    secrets::refuse_environment(&definition).map_err(Error::problems)?;
    Ok(definition)
}

pub(super) fn known(state: &AppState, name: &str) -> Result<AlertReceiver, Error> {
    let set = book(state).current();
    let found = set.receivers.get(name).map(|receiver| receiver.stored.clone());
    found.ok_or_else(|| Error {
        field: Some("name".into()),
        ..Error::new(ErrorCode::NotFound, format!("receiver {name:?} is unknown"))
    })
}

/// As it was written. What the server has put in for names of variables stays out.
fn written(receiver: &AlertReceiver) -> Result<ReceiverDefinition, Error> {
    // Its own words would show what does not fit, which may be a secret.
    serde_json::from_value(receiver.definition.clone())
        .map_err(|_| Error::internal(format!("the stored definition of receiver {:?} cannot be read", receiver.name)))
}

fn shown(receiver: &AlertReceiver) -> Result<ReceiverView, Error> {
    let definition = serde_json::to_value(secrets::hide(written(receiver)?)).map_err(Error::internal)?;
    Ok(ReceiverView {
        name: receiver.name.clone(),
        source: receiver.source.as_str(),
        updated_at: Time(receiver.updated_at_us),
        disabled: receiver
            .disabled
            .as_ref()
            .map(|(since_us, reason)| DisabledView { since: Time(*since_us), reason: reason.clone() }),
        definition,
    })
}
