//! `alerts/rules`.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::StatusCode};
use gradwatch_rules::RuleDefinition;
use gradwatch_store::AlertRule;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    body::{self, Members, NoMembers},
    book,
    path::NamePath,
    rule_view::{OpenAlerts, RuleView},
};
use crate::{
    access::Caller,
    alerts::{BookError, RuleSet},
    api::{cursor::Paging, events::ProjectFilter, openapi::Problems, params::Query, refusal::Answer},
    error::{Error, ErrorCode},
    state::AppState,
};

/// A rule as it is written; docs/alerts.md has the language.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"name": "edge-collapse", "select": {"project": "vision"}, "when": "mean(edge.ratio, 50) < 1.2 and scalar.loss > 2",
    "for": 3, "severity": "critical", "summary": "{{ run_name }}: the gap closes", "receivers": ["oncall"]}))]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct RuleBody {
    /// Unique among all rules: letters, digits, `_`, `-` and `.`, at most 100. `PUT` may leave it out.
    name: String,
    /// Which runs, and which of their groups. Default: all.
    select: Option<SelectorBody>,
    /// The condition.
    when: String,
    /// How long it must hold before the alert fires: a number of consecutive evaluations, or a time such as `10m`.
    #[schema(value_type = Option<Value>)]
    r#for: Option<Value>,
    /// How long the alert goes on firing after the condition held last, likewise.
    #[schema(value_type = Option<Value>)]
    keep_firing_for: Option<Value>,
    /// In steps: how old the newest value of a term may be. Default: twice the distance of its last two values.
    max_age: Option<u64>,
    /// `info`, `warning` (default) or `critical`.
    severity: Option<String>,
    /// One line for whoever is told; may hold placeholders.
    summary: Option<String>,
    /// Added to the labels of the alert.
    labels: Option<BTreeMap<String, String>>,
    /// More to say; may hold placeholders.
    annotations: Option<BTreeMap<String, String>>,
    /// Names of receivers. None: the alert is shown and nobody is told.
    receivers: Option<Vec<String>>,
}

/// Which runs, and which of their groups. Every given condition must hold.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body; gradwatch_rules reads it")]
pub(crate) struct SelectorBody {
    /// Of this project. A token of one project needs it to be that.
    project: Option<String>,
    /// With these labels.
    labels: Option<BTreeMap<String, String>>,
    /// Groups (or layers, for a condition on layers) whose names match this glob. Default: all.
    group: Option<String>,
    /// `update` (default) or `gradient`.
    kind: Option<String>,
    /// W. Default: the first that the run declares.
    window: Option<usize>,
}

/// A page of rules.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuleList {
    items: Vec<RuleView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// The last rule given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulePosition {
    name: String,
}

/// Lists rules by name. `project` asks for rules that select it by name.
#[utoipa::path(get, operation_id = "listRules", path = "/api/v1/alerts/rules", tag = "alerts", params(ProjectFilter, Paging),
    responses((status = 200, body = RuleList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((filter, paging)): Query<(ProjectFilter, Paging)>,
) -> Answer<Json<RuleList>> {
    let after = paging.position::<RulePosition>()?;
    let set = book(&state).current();
    let open = open_alerts(&state).await?;
    let is_wanted = |rule: &AlertRule| {
        filter.project.as_deref().is_none_or(|project| rule.project.as_deref() == Some(project))
            && after.as_ref().is_none_or(|after| rule.name > after.name)
    };
    let mut wanted = (0..set.rules.len()).filter(|place| is_wanted(&set.rules[*place]));
    let items: Vec<RuleView> =
        wanted.by_ref().take(paging.limit).filter_map(|place| RuleView::of(&set, place, &open)).collect();
    let next_cursor = match items.last() {
        Some(last) if wanted.next().is_some() => Some(paging.behind(RulePosition { name: last.name.clone() })?),
        _ => None,
    };
    Ok(Json(RuleList { items, next_cursor }))
}

/// One rule.
#[utoipa::path(get, operation_id = "getRule", path = "/api/v1/alerts/rules/{name}", tag = "alerts", params(("name" = String, Path)),
    responses((status = 200, body = RuleView), Problems))]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<Json<RuleView>> {
    Ok(Json(view(&state, &caller, &name).await?))
}

/// Makes a rule. It looks at steps that come from now on.
#[utoipa::path(post, operation_id = "createRule", path = "/api/v1/alerts/rules", tag = "alerts", request_body = RuleBody,
    responses((status = 201, body = RuleView), Problems))]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    Query(()): Query<()>,
    Members(members): Members,
) -> Answer<(StatusCode, Json<RuleView>)> {
    let definition: RuleDefinition = body::definition(members).map_err(|problem| Error::problems(vec![problem]))?;
    require_own(&caller, &definition)?;
    let rule = book(&state).put_rule(definition, true, caller.project()).await?;
    tracing::info!(rule = rule.name, project = rule.project, "rule created");
    Ok((StatusCode::CREATED, Json(view(&state, &caller, &rule.name).await?)))
}

/// Replaces a rule. A change of what it looks for ends its alerts; it then looks at steps that come from now on.
#[utoipa::path(put, operation_id = "replaceRule", path = "/api/v1/alerts/rules/{name}", tag = "alerts", params(("name" = String, Path)),
    request_body = RuleBody, responses((status = 200, body = RuleView), Problems))]
pub(crate) async fn replace(
    State(state): State<AppState>,
    caller: Caller,
    NamePath(name): NamePath,
    Query(()): Query<()>,
    Members(mut members): Members,
) -> Answer<Json<RuleView>> {
    place_of(&book(&state).current(), &caller, &name)?;
    body::set_name(&mut members, &name)?;
    let definition: RuleDefinition = body::definition(members).map_err(|problem| Error::problems(vec![problem]))?;
    require_own(&caller, &definition)?;
    let rule = book(&state).put_rule(definition, false, caller.project()).await?;
    tracing::info!(rule = rule.name, project = rule.project, revision = rule.revision, "rule replaced");
    Ok(Json(view(&state, &caller, &name).await?))
}

/// Removes a rule; answers it as it was. Its alerts end, and stay in the list.
#[utoipa::path(delete, operation_id = "deleteRule", path = "/api/v1/alerts/rules/{name}", tag = "alerts", params(("name" = String, Path)),
    responses((status = 200, body = RuleView), Problems))]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    NamePath(name): NamePath,
    Query(()): Query<()>,
) -> Answer<Json<RuleView>> {
    let view = view(&state, &caller, &name).await?;
    book(&state).delete_rule(&name, caller.project()).await?;
    tracing::info!(rule = name, "rule removed");
    Ok(Json(view))
}

/// What a reload of the file of rules has read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// Rules in the file.
    rules: usize,
    /// Receivers in the file.
    receivers: usize,
}

/// Reads the file of rules again, as a whole: when anything is wrong with it, nothing changes.
#[utoipa::path(post, operation_id = "reloadRules", path = "/api/v1/alerts/rules/reload", tag = "alerts",
    responses((status = 200, body = Reloaded), Problems))]
pub(crate) async fn reload(
    State(state): State<AppState>,
    Query(()): Query<()>,
    NoMembers: NoMembers,
) -> Answer<Json<Reloaded>> {
    let (rules, receivers) = book(&state).reload().await.map_err(|error| match error {
        // It is a matter of the file, and of no name in the request.
        BookError::Conflict(message) => Error::new(ErrorCode::Conflict, message),
        error => error.into(),
    })?;
    Ok(Json(Reloaded { rules, receivers }))
}

/// Invariant: whoever is of one project makes rules for that project only: the empty name is nobody's project.
fn require_own(caller: &Caller, definition: &RuleDefinition) -> Result<(), Error> {
    let project = definition.select.project.as_deref().unwrap_or_default();
    let own = caller.require_project(project);
    own.map_err(|error| Error { field: Some("select.project".into()), ..error })
}

/// Where a rule stands that the caller may know. A rule of another project is answered for like one that does not exist.
fn place_of(set: &RuleSet, caller: &Caller, name: &str) -> Result<usize, Error> {
    let is_known =
        |rule: &AlertRule| rule.name == name && caller.project().is_none_or(|own| rule.project.as_deref() == Some(own));
    set.rules.iter().position(is_known).ok_or_else(|| Error {
        field: Some("name".into()),
        ..Error::new(ErrorCode::NotFound, format!("rule {name:?} is unknown"))
    })
}

async fn view(state: &AppState, caller: &Caller, name: &str) -> Result<RuleView, Error> {
    let open = open_alerts(state).await?;
    let set = book(state).current();
    let place = place_of(&set, caller, name)?;
    RuleView::of(&set, place, &open).ok_or_else(|| Error::internal(format!("rule {name:?} is not in force")))
}

async fn open_alerts(state: &AppState) -> Result<OpenAlerts, Error> {
    Ok(OpenAlerts::new(&state.store.alert_counts(None).await?))
}
