//! `alerts` and `alerts/{alert_id}`.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use gradwatch_rules::Severity;
use gradwatch_store::{Alert, AlertQuery, AlertState, RunId, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{path::AlertPath, views::MomentView};
use crate::{
    access::Caller,
    api::{
        cursor::Paging,
        openapi::Problems,
        params::{FromParams, Params, Query},
        refusal::Answer,
    },
    error::{Error, ErrorCode},
    state::AppState,
};

/// One firing of a rule on a run, or on a group or layer of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertView {
    /// UUID; the same in everything that receivers are told of it.
    alert_id: String,
    /// Name of the rule.
    rule: String,
    /// UUID.
    rule_id: String,
    /// Of the rule then.
    rule_revision: u32,
    /// UUID.
    run_id: String,
    project: String,
    /// The group or layer; empty: the run.
    group: String,
    /// `pending`, `firing` or `resolved`.
    state: &'static str,
    /// `info`, `warning` or `critical`.
    severity: String,
    /// One line.
    summary: String,
    /// What silences match.
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// Values of the condition's terms when it fired, or else when it began to hold.
    #[schema(value_type = Object)]
    values: Value,
    /// Who is told, by name.
    receivers: Vec<String>,
    /// When its condition began to hold.
    pending: MomentView,
    /// When it began to fire; null: it has not.
    fired: Option<MomentView>,
    /// When it ended; null: it has not.
    resolved: Option<MomentView>,
    /// Why it ended: `condition`, `run_over`, `superseded`, `rule_changed` or `rule_removed`.
    resolved_reason: Option<String>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        let (resolved, resolved_reason) = alert.resolved.unzip();
        Self {
            alert_id: alert.alert_id.to_string(),
            rule: alert.rule_name,
            rule_id: alert.rule_id.to_string(),
            rule_revision: alert.rule_revision,
            run_id: alert.run_id.to_string(),
            project: alert.project,
            group: alert.group,
            state: alert.state.as_str(),
            severity: alert.severity,
            summary: alert.summary,
            labels: alert.labels,
            annotations: alert.annotations,
            values: alert.values,
            receivers: alert.receivers,
            pending: alert.pending.into(),
            fired: alert.fired.map(MomentView::from),
            resolved: resolved.map(MomentView::from),
            resolved_reason,
        }
    }
}

/// A page of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    items: Vec<AlertView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Which alerts.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertsQuery {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    project: Option<String>,
    /// Only of this run.
    #[param(value_type = Option<String>)]
    run: Option<RunId>,
    /// Only of the rule with this name.
    #[param(value_type = Option<String>)]
    rule: Option<String>,
    /// Only in these states, `pending`, `firing`, `resolved`; repeated or separated by commas.
    #[param(value_type = Option<Vec<String>>, rename = "state")]
    states: Vec<AlertState>,
    /// Only of this severity: `info`, `warning` or `critical`.
    #[param(value_type = Option<String>)]
    severity: Option<String>,
}

impl FromParams for AlertsQuery {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let state = |text: String| text.parse().map_err(|error: String| Error::invalid("state", error));
        Ok(Self {
            project: params.project()?,
            run: match params.one("run")? {
                None => None,
                Some(text) => {
                    let parsed = text.parse();
                    Some(parsed.map_err(|error| Error::invalid("run", format!("{text:?} is no UUID: {error}")))?)
                }
            },
            rule: params.one("rule")?,
            states: params.list("state")?.into_iter().map(state).collect::<Result<_, _>>()?,
            severity: params.one("severity")?.map(severity).transpose()?,
        })
    }
}

fn severity(text: String) -> Result<String, Error> {
    let known = [Severity::Info, Severity::Warning, Severity::Critical].map(Severity::as_str);
    if known.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(Error::invalid("severity", format!("unknown severity {text:?}; one of {}", known.join(", "))))
    }
}

/// The last alert given.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlertPosition {
    alert_id: Uuid,
}

/// Lists alerts, newest first.
#[utoipa::path(get, operation_id = "listAlerts", path = "/api/v1/alerts", tag = "alerts", params(AlertsQuery, Paging),
    responses((status = 200, body = AlertList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, paging)): Query<(AlertsQuery, Paging)>,
) -> Answer<Json<AlertList>> {
    let query = AlertQuery {
        run_id: filter.run,
        project: filter.project,
        rule: filter.rule,
        states: filter.states,
        severity: filter.severity,
        after: paging.position::<AlertPosition>()?.map(|position| position.alert_id),
        limit: paging.limit,
    };
    let page = state.store.alerts(&query).await.map_err(gone)?;
    let next_cursor = match page.items.last() {
        Some(last) if page.more => Some(paging.behind(AlertPosition { alert_id: last.alert_id })?),
        _ => None,
    };
    Ok(Json(AlertList { items: page.items.into_iter().map(AlertView::from).collect(), next_cursor }))
}

/// The alert that the page is to begin behind was deleted meanwhile.
fn gone(error: StoreError) -> Error {
    match error {
        StoreError::Conflict { field: "after", message } => {
            Error { field: Some("cursor".into()), ..Error::new(ErrorCode::Conflict, message) }
        }
        error => error.into(),
    }
}

/// One alert.
#[utoipa::path(get, operation_id = "getAlert", path = "/api/v1/alerts/{alert_id}", tag = "alerts",
    params(("alert_id" = String, Path, description = "UUID")), responses((status = 200, body = AlertView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    AlertPath(alert_id): AlertPath,
    Query(()): Query<()>,
) -> Answer<Json<AlertView>> {
    let found = state.store.alert(alert_id).await?;
    // An alert of another project is answered for like one that does not exist.
    let known = found.filter(|alert| caller.project().is_none_or(|own| own == alert.project));
    let alert = known.ok_or_else(|| Error {
        field: Some("alert_id".into()),
        ..Error::new(ErrorCode::NotFound, format!("alert {alert_id} is unknown"))
    })?;
    Ok(Json(alert.into()))
}
