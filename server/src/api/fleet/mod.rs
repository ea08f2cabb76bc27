//! `fleet`: what only several runs tell together, computed on request and kept.

mod align;
mod body;
mod computation;
mod condition;
mod dimension;
pub(crate) mod families;
mod kept;
mod members;
mod progress;
mod request;
mod split;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use uuid::Uuid;

use self::{
    body::Members,
    computation::Computation,
    members::Member,
    request::{DimensionRequest, ErrorSplitRequest, FleetRequest},
};
pub(crate) use self::{computation::ComputationView, kept::Fleet};
use super::{
    accept,
    layer_choice::LayerChoice,
    openapi::Problems,
    params::{self, Query},
    refusal::{Answer, Refusal},
    stream::Slots,
};
use crate::{
    access::Caller,
    error::{Error, ErrorCode},
    state::AppState,
};

/// The label that makes runs a family.
const FAMILY: &str = "width_family";
/// How long a request waits for its answer before it is told where to find it.
const WAIT: Duration = Duration::from_secs(1);

/// Computes `fleet_dimension`, the papers' D(t), over the runs of a width family, at the same step or aligned on an event
/// or a condition. Answers at once what is kept for the same request about the same data.
#[utoipa::path(post, operation_id = "fleetDimension", path = "/api/v1/fleet/dimension", tag = "fleet",
    request_body = DimensionRequest,
    responses((status = 200, body = ComputationView, description = "over"),
        (status = 202, body = ComputationView, description = "under way; `Location` is where to look"), Problems))]
pub(crate) async fn dimension(
    State(state): State<AppState>,
    caller: Caller,
    Extension(fleet): Extension<Fleet>,
    Query(()): Query<()>,
    body: Members,
) -> Answer<Response> {
    let request = body.dimension(&caller)?;
    let labels = BTreeMap::from([(FAMILY.to_owned(), request.family.clone())]);
    let choice = LayerChoice { layer: request.layer.clone() };
    let members = members::select(&*state.store, &request.project, &labels, "family", &choice).await?;
    if members.is_empty() {
        let (project, family) = (&request.project, &request.family);
        let message = format!("no run of project {project:?} has the label {FAMILY} = {family:?}");
        return Err(Error::invalid("family", message).into());
    }
    check_layer(&request, &members)?;
    answer(fleet.ask(&state, FleetRequest::Dimension(request), members)?).await
}

/// A layer that is named must be declared somewhere.
fn check_layer(request: &DimensionRequest, members: &[Member]) -> Result<(), Error> {
    match &request.layer {
        Some(layer) if members.iter().all(|member| member.layer.is_none()) => {
            Err(Error::invalid("layer", format!("no run of the family declares a layer {layer:?} for cascade")))
        }
        _ => Ok(()),
    }
}

/// Computes `error_split` over runs that cross the labels `data_seed` and `init_seed` and sent predictions on one probe
/// batch. Answers at once what is kept for the same request about the same data.
#[utoipa::path(post, operation_id = "fleetErrorSplit", path = "/api/v1/fleet/error_split", tag = "fleet",
    request_body = ErrorSplitRequest,
    responses((status = 200, body = ComputationView, description = "over"),
        (status = 202, body = ComputationView, description = "under way; `Location` is where to look"), Problems))]
pub(crate) async fn error_split(
    State(state): State<AppState>,
    caller: Caller,
    Extension(fleet): Extension<Fleet>,
    Query(()): Query<()>,
    body: Members,
) -> Answer<Response> {
    let request = body.error_split(&caller)?;
    let choice = LayerChoice { layer: None };
    let members = members::select(&*state.store, &request.project, &request.labels, "labels", &choice).await?;
    if members.is_empty() {
        let message = format!("no run of project {:?} has these labels", request.project);
        return Err(Error::invalid("labels", message).into());
    }
    answer(fleet.ask(&state, FleetRequest::ErrorSplit(request), members)?).await
}

/// The computation: 200 when it is over within a second, else 202 and where to look.
async fn answer(computation: Arc<Computation>) -> Answer<Response> {
    let is_over = timeout(WAIT, computation.over()).await.is_ok();
    let status = if is_over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = (status, Json(computation.view())).into_response();
    let location = HeaderValue::try_from(format!("/api/v1/fleet/{}", computation.id)).map_err(Error::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A computation as it stands. With `Accept: text/event-stream` its progress, as it goes: `progress` messages, then one
/// called `done` or `failed` with the computation, which is the end; `drain` says that the server shuts down.
#[utoipa::path(get, operation_id = "getComputation", path = "/api/v1/fleet/{computation_id}", tag = "fleet",
    params(("computation_id" = String, Path, description = "UUID")),
    responses((status = 200, content(
        (ComputationView = "application/json"),
        (String = "text/event-stream"))), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    Extension(fleet): Extension<Fleet>,
    Extension(slots): Extension<Slots>,
    ComputationPath(id): ComputationPath,
    Query(()): Query<()>,
    headers: HeaderMap,
) -> Answer<Response> {
    let wants_stream = accept::wants_events(&headers)?;
    let computation = fleet.find(id, caller.project()).ok_or_else(|| Error {
        field: Some("computation_id".into()),
        ..Error::new(ErrorCode::NotFound, format!("computation {id} is not kept; ask again"))
    })?;
    if wants_stream {
        progress::stream(&state, caller, slots, &computation)
    } else {
        Ok(Json(computation.view()).into_response())
    }
}

/// Extracts the path segment `{computation_id}`.
pub(crate) struct ComputationPath(Uuid);

impl FromRequestParts<AppState> for ComputationPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let text = params::path_segment(parts, state, "computation_id").await?;
        let id =
            text.parse().map_err(|error| Error::invalid("computation_id", format!("{text:?} is no UUID: {error}")));
        Ok(Self(id?))
    }
}
