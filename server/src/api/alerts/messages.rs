//! `alerts/messages`.

use axum::{Json, extract::State, http::StatusCode};
use gradwatch_store::{Message, MessageQuery, MessageState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{body::NoMembers, book, path::MessagePath};
use crate::{
    api::{
        cursor::Paging,
        openapi::Problems,
        params::{FromParams, Params, Query},
        refusal::Answer,
        time::Time,
    },
    error::{Error, ErrorCode},
    state::AppState,
};

/// What one receiver is told at once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageView {
    /// UUID; the same for every attempt.
    message_id: String,
    receiver: String,
    /// `waiting`, `delivered` or `failed`.
    state: &'static str,
    /// Attempts so far, since it was made or sent again by hand.
    attempts: u32,
    created_at: Time,
    /// When it is tried next; null: it is not.
    next_attempt_at: Option<Time>,
    /// When it is given up; null: it is over.
    give_up_at: Option<Time>,
    /// When it was delivered or given up.
    ended_at: Option<Time>,
}

impl From<&Message> for MessageView {
    fn from(message: &Message) -> Self {
        let waiting = |at_us| (message.state == MessageState::Waiting).then_some(Time(at_us));
        Self {
            message_id: message.message_id.to_string(),
            receiver: message.receiver.clone(),
            state: message.state.as_str(),
            attempts: message.attempts,
            created_at: Time(message.created_at_us),
            next_attempt_at: waiting(message.next_attempt_at_us),
            give_up_at: waiting(message.give_up_at_us),
            ended_at: message.ended_at_us.map(Time),
        }
    }
}

/// A message with what it tells.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageDetail {
    #[serde(flatten)]
    message: MessageView,
    /// What is told.
    #[schema(value_type = Object)]
    content: Value,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MessageList {
    items: Vec<MessageView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Which messages.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MessagesQuery {
    /// Only to this receiver.
    #[param(value_type = Option<String>)]
    receiver: Option<String>,
    /// Only in this state: `waiting`, `delivered` or `failed`.
    #[param(value_type = Option<String>)]
    state: Option<MessageState>,
}

impl FromParams for MessagesQuery {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self { receiver: params.one("receiver")?, state: params.parsed("state")? })
    }
}

/// The last message given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagePosition {
    sequence: u64,
}

/// Lists messages to receivers, newest first, without what they tell.
#[utoipa::path(get, operation_id = "listMessages", path = "/api/v1/alerts/messages", tag = "alerts", params(MessagesQuery, Paging),
    responses((status = 200, body = MessageList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, paging)): Query<(MessagesQuery, Paging)>,
) -> Answer<Json<MessageList>> {
    let query = MessageQuery {
        receiver: filter.receiver,
        state: filter.state,
        after: paging.position::<MessagePosition>()?.map(|position| position.sequence),
        limit: paging.limit,
    };
    let page = state.store.messages(&query).await?;
    let next_cursor = match page.items.last() {
        Some(last) if page.more => Some(paging.behind(MessagePosition { sequence: last.sequence })?),
        _ => None,
    };
    Ok(Json(MessageList { items: page.items.iter().map(MessageView::from).collect(), next_cursor }))
}

/// One message, with what it tells.
#[utoipa::path(get, operation_id = "getMessage", path = "/api/v1/alerts/messages/{message_id}", tag = "alerts",
    params(("message_id" = String, Path, description = "UUID")), responses((status = 200, body = MessageDetail), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    MessagePath(message_id): MessagePath,
    Query(()): Query<()>,
) -> Answer<Json<MessageDetail>> {
    let message = known(&state, message_id).await?;
    Ok(Json(MessageDetail { message: MessageView::from(&message), content: message.content }))
}

/// Sends a message again that was delivered or given up, with the same id and content; it has a day again.
#[utoipa::path(post, operation_id = "redeliverMessage", path = "/api/v1/alerts/messages/{message_id}/redeliver", tag = "alerts",
    params(("message_id" = String, Path, description = "UUID")), responses((status = 202, body = MessageView), Problems))]
pub(crate) async fn redeliver(
    State(state): State<AppState>,
    MessagePath(message_id): MessagePath,
    Query(()): Query<()>,
    NoMembers: NoMembers,
) -> Answer<(StatusCode, Json<MessageView>)> {
    let message = known(&state, message_id).await?;
    if !state.delivery.redeliver(message_id).await? {
        let why = if book(&state).current().receivers.contains_key(&message.receiver) {
            format!("message {message_id} is waiting to be sent")
        } else {
            format!("there is no receiver {:?} any more", message.receiver)
        };
        let error = Error::new(ErrorCode::Conflict, why);
        return Err(Error { field: Some("message_id".into()), ..error }.into());
    }
    tracing::info!(%message_id, "message is sent again");
    Ok((StatusCode::ACCEPTED, Json(MessageView::from(&known(&state, message_id).await?))))
}

async fn known(state: &AppState, message_id: Uuid) -> Result<Message, Error> {
    let found = state.store.message(message_id).await?;
    found.ok_or_else(|| Error {
        field: Some("message_id".into()),
        ..Error::new(ErrorCode::NotFound, format!("message {message_id} is unknown"))
    })
}
