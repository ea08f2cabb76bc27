//! A message as a webhook brings it.

use std::collections::BTreeMap;

use gradwatch_store::Message;
use serde::Serialize;
use uuid::Uuid;

use super::content::Content;
use crate::{alerts::notice::Notice, clock};

/// The document. `type`, `timestamp` and an id are what Standard Webhooks recommends.
#[derive(Serialize)]
struct Document<'a> {
    /// `alert.firing`, `alert.resolved` or `test`.
    r#type: &'static str,
    /// When the message was made: the same for each attempt.
    timestamp: String,
    message_id: Uuid,
    receiver: &'a str,
    group: &'a BTreeMap<String, String>,
    status: &'a str,
    alerts: &'a [Notice],
}

/// The body. Invariant: a function of what is stored of the message, so that duplicates are the same to the byte.
pub(super) fn body(message: &Message, content: &Content) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Document {
        r#type: match content.status.as_str() {
            _ if content.test => "test",
            super::content::FIRING => "alert.firing",
            _ => "alert.resolved",
        },
        timestamp: clock::text(message.created_at_us),
        message_id: message.message_id,
        receiver: &message.receiver,
        group: &content.group,
        status: &content.status,
        alerts: &content.alerts,
    })
}
