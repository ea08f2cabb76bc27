//! `alerts/deliveries`.

use axum::{Json, extract::State};
use gradwatch_store::{Delivery, DeliveryQuery};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    api::{
        cursor::Paging,
        openapi::Problems,
        params::{FromParams, Params, Query},
        refusal::Answer,
        time::Time,
    },
    error::Error,
    state::AppState,
};

/// One attempt to tell a receiver.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// Grows in the order of recording; a 64-bit number, as text.
    delivery_id: String,
    /// UUID.
    message_id: String,
    receiver: String,
    /// Counted from 1.
    attempt: u32,
    /// When it began.
    at: Time,
    duration_ms: u64,
    /// `delivered`, or what went wrong in a word.
    outcome: String,
    /// The HTTP status of the answer; null: there was none.
    status: Option<u16>,
    /// What the receiver or the network said, shortened.
    detail: String,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let Delivery { delivery_id, message_id, receiver, attempt, at_us, duration_ms, outcome, status, detail } =
            delivery;
        Self {
            delivery_id: delivery_id.to_string(),
            message_id: message_id.to_string(),
            receiver,
            attempt,
            at: Time(at_us),
            duration_ms,
            outcome,
            status,
            detail,
        }
    }
}

/// A page of attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryList {
    items: Vec<DeliveryView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Which attempts.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveriesQuery {
    /// Only of this message.
    #[param(value_type = Option<String>)]
    message: Option<Uuid>,
    /// Only to this receiver.
    #[param(value_type = Option<String>)]
    receiver: Option<String>,
}

impl FromParams for DeliveriesQuery {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let message = match params.one("message")? {
            None => None,
            Some(text) => {
                let parsed = text.parse();
                Some(parsed.map_err(|error| Error::invalid("message", format!("{text:?} is no UUID: {error}")))?)
            }
        };
        Ok(Self { message, receiver: params.one("receiver")? })
    }
}

/// The last attempt given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeliveryPosition {
    delivery_id: u64,
}

/// Lists attempts to send messages, newest first.
#[utoipa::path(get, operation_id = "listDeliveries", path = "/api/v1/alerts/deliveries", tag = "alerts", params(DeliveriesQuery, Paging),
    responses((status = 200, body = DeliveryList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, paging)): Query<(DeliveriesQuery, Paging)>,
) -> Answer<Json<DeliveryList>> {
    let query = DeliveryQuery {
        message_id: filter.message,
        receiver: filter.receiver,
        after: paging.position::<DeliveryPosition>()?.map(|position| position.delivery_id),
        limit: paging.limit,
    };
    let page = state.store.deliveries(&query).await?;
    let next_cursor = match page.items.last() {
        Some(last) if page.more => Some(paging.behind(DeliveryPosition { delivery_id: last.delivery_id })?),
        _ => None,
    };
    Ok(Json(DeliveryList { items: page.items.into_iter().map(DeliveryView::from).collect(), next_cursor }))
}
