//! `alerts/silences`.

use axum::{Json, extract::State, http::StatusCode};
use gradwatch_store::Silence;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{body::Members, path::SilencePath, silence_body};
use crate::{
    access::Caller,
    api::{
        cursor::Paging,
        openapi::Problems,
        params::{FromParams, Params, Query},
        refusal::Answer,
        time::Time,
    },
    clock,
    error::{Error, ErrorCode},
    state::AppState,
};

/// Silences of one project, or of all together, that have not ended: each notification is held against all of them. Two
/// that are made at once may both be the last.
const MAX_OPEN: usize = 1_000;

/// Keeps what is told of some alerts back, for a while. The alerts are shown all the same.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilenceView {
    /// UUID.
    silence_id: String,
    /// Only alerts of this project are matched; null: of all.
    project: Option<String>,
    /// `pending`, `active` or `ended`.
    state: &'static str,
    /// All of them must match an alert's labels.
    #[schema(value_type = Vec<silence_body::MatcherBody>)]
    matchers: Value,
    starts_at: Time,
    ends_at: Time,
    comment: String,
    /// The name of the token that made it; empty where no tokens are asked for.
    created_by: String,
    created_at: Time,
}

impl SilenceView {
    fn new(silence: Silence, now_us: i64) -> Self {
        Self {
            silence_id: silence.silence_id.to_string(),
            state: SilenceState::of(&silence, now_us).as_str(),
            project: silence.project,
            matchers: silence.matchers,
            starts_at: Time(silence.starts_at_us),
            ends_at: Time(silence.ends_at_us),
            comment: silence.comment,
            created_by: silence.created_by,
            created_at: Time(silence.created_at_us),
        }
    }
}

/// A page of silences.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilenceList {
    items: Vec<SilenceView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Where a silence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SilenceState {
    Pending,
    Active,
    Ended,
}

impl SilenceState {
    fn of(silence: &Silence, now_us: i64) -> Self {
        if silence.ends_at_us <= now_us {
            Self::Ended
        } else if silence.starts_at_us > now_us {
            Self::Pending
        } else {
            Self::Active
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let all = [Self::Pending, Self::Active, Self::Ended];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| Error::invalid("state", format!("unknown state {text:?}; one of pending, active, ended")))
    }
}

/// Which silences.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SilencesQuery {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    project: Option<String>,
    /// Only in these states, `pending`, `active`, `ended`; repeated or separated by commas. Default: those not ended.
    #[param(value_type = Option<Vec<String>>, rename = "state")]
    states: Vec<SilenceState>,
}

impl FromParams for SilencesQuery {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let project = params.project()?;
        let mut states =
            params.list("state")?.iter().map(|text| SilenceState::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if states.is_empty() {
            states = vec![SilenceState::Pending, SilenceState::Active];
        }
        Ok(Self { project, states })
    }
}

/// The last silence given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SilencePosition {
    starts_at_us: i64,
    silence_id: Uuid,
}

/// Lists silences by their start. Those that have ended stay for `alerts.keep_days`.
#[utoipa::path(get, operation_id = "listSilences", path = "/api/v1/alerts/silences", tag = "alerts", params(SilencesQuery, Paging),
    responses((status = 200, body = SilenceList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, paging)): Query<(SilencesQuery, Paging)>,
) -> Answer<Json<SilenceList>> {
    let after = paging.position::<SilencePosition>()?;
    let now_us = clock::now_us();
    let ending_after_us = if filter.states.contains(&SilenceState::Ended) { i64::MIN } else { now_us };
    let mut silences = state.store.silences(ending_after_us).await?;
    silences.retain(|silence| {
        filter.project.as_deref().is_none_or(|project| silence.project.as_deref() == Some(project))
            && filter.states.contains(&SilenceState::of(silence, now_us))
    });
    silences.sort_by_key(position);
    if let Some(SilencePosition { starts_at_us, silence_id }) = after {
        silences.retain(|silence| position(silence) > (starts_at_us, silence_id));
    }
    let more = silences.len() > paging.limit;
    silences.truncate(paging.limit);
    let next_cursor = match silences.last() {
        Some(Silence { starts_at_us, silence_id, .. }) if more => {
            Some(paging.behind(SilencePosition { starts_at_us: *starts_at_us, silence_id: *silence_id })?)
        }
        _ => None,
    };
    let items = silences.into_iter().map(|silence| SilenceView::new(silence, now_us)).collect();
    Ok(Json(SilenceList { items, next_cursor }))
}

fn position(silence: &Silence) -> (i64, Uuid) {
    (silence.starts_at_us, silence.silence_id)
}

/// One silence.
#[utoipa::path(get, operation_id = "getSilence", path = "/api/v1/alerts/silences/{silence_id}", tag = "alerts",
    params(("silence_id" = String, Path, description = "UUID")), responses((status = 200, body = SilenceView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    SilencePath(silence_id): SilencePath,
    Query(()): Query<()>,
) -> Answer<Json<SilenceView>> {
    Ok(Json(SilenceView::new(known(&state, &caller, silence_id).await?, clock::now_us())))
}

/// Makes a silence.
#[utoipa::path(post, operation_id = "createSilence", path = "/api/v1/alerts/silences", tag = "alerts",
    request_body = silence_body::SilenceBody, responses((status = 201, body = SilenceView), Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Query(()): Query<()>,
    Members(members): Members,
) -> Answer<(StatusCode, Json<SilenceView>)> {
    let now_us = clock::now_us();
    let silence = silence_body::read(members, &caller, now_us)?;
    let open = state.store.silences(now_us).await?;
    if open.iter().filter(|other| other.project == silence.project).count() >= MAX_OPEN {
        let message = format!("there are {MAX_OPEN} silences already, which is the most; end one first");
        return Err(Error { field: Some("project".into()), ..Error::new(ErrorCode::Conflict, message) }.into());
    }
    state.store.put_silence(&silence).await?;
    state.delivery.wake();
    tracing::info!(silence_id = %silence.silence_id, project = silence.project, "silence created");
    Ok((StatusCode::CREATED, Json(SilenceView::new(silence, now_us))))
}

/// Ends a silence now. One that has ended already stays as it is.
#[utoipa::path(delete, operation_id = "endSilence", path = "/api/v1/alerts/silences/{silence_id}", tag = "alerts",
    params(("silence_id" = String, Path, description = "UUID")), responses((status = 200, body = SilenceView), Problems))]
pub(crate) async fn end(
    State(state): State<AppState>,
    caller: Caller,
    SilencePath(silence_id): SilencePath,
    Query(()): Query<()>,
) -> Answer<Json<SilenceView>> {
    let now_us = clock::now_us();
    let mut silence = known(&state, &caller, silence_id).await?;
    if silence.ends_at_us > now_us {
        silence.ends_at_us = now_us;
        // One that has not begun never does.
        silence.starts_at_us = silence.starts_at_us.min(now_us);
        state.store.put_silence(&silence).await?;
        state.delivery.wake();
        tracing::info!(%silence_id, "silence ended");
    }
    Ok(Json(SilenceView::new(silence, now_us)))
}

/// A silence that the caller may know. One of another project, or of all, is answered for like one that does not exist.
async fn known(state: &AppState, caller: &Caller, silence_id: Uuid) -> Result<Silence, Error> {
    let silences = state.store.silences(i64::MIN).await?;
    let is_known = |silence: &Silence| {
        silence.silence_id == silence_id && caller.project().is_none_or(|own| silence.project.as_deref() == Some(own))
    };
    silences.into_iter().find(is_known).ok_or_else(|| Error {
        field: Some("silence_id".into()),
        ..Error::new(ErrorCode::NotFound, format!("silence {silence_id} is unknown"))
    })
}
