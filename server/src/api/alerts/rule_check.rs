//! `alerts/rules/check`.

use axum::{Json, extract::State};
use gradwatch_rules::{Problem, RuleDefinition, RuleFile, language::CompiledRule};
use gradwatch_store::AlertSource;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::{
    body::{self, RuleText},
    book,
    rule_view::ConditionView,
    rules::RuleBody,
};
use crate::{
    access::Caller,
    alerts::RuleSet,
    api::{openapi::Problems, params::Query, refusal::Answer},
    error::{Error, FieldProblem},
    state::AppState,
};

/// What a check has found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checked {
    /// Whether there are no problems.
    valid: bool,
    /// All that is wrong.
    problems: Vec<FieldProblem>,
    /// What the rules mean; empty where anything is wrong.
    rules: Vec<CheckedRule>,
    /// Names of the file's receivers; empty where anything is wrong.
    receivers: Vec<String>,
}

/// A rule that is right.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CheckedRule {
    name: String,
    condition: ConditionView,
}

/// Checks a rule (JSON) or a file of rules and receivers (YAML), and changes nothing. Answers 200 also when there are
/// problems.
#[utoipa::path(post, operation_id = "checkRules", path = "/api/v1/alerts/rules/check", tag = "alerts",
    request_body(content((RuleBody = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = Checked), Problems))]
pub(crate) async fn check(
    State(state): State<AppState>,
    caller: Caller,
    Query(()): Query<()>,
    text: RuleText,
) -> Answer<Json<Checked>> {
    let set = book(&state).current();
    // A long file takes its time.
    let checked = spawn_blocking(move || match text {
        RuleText::Json(members) => check_rule(members, &set),
        RuleText::Yaml(yaml) => check_file(&yaml, &set),
    });
    let mut checked = checked.await.map_err(Error::internal)?;
    if caller.project().is_some() {
        for FieldProblem { field, message, .. } in &mut checked.problems {
            hide_receivers(field, message);
        }
    }
    Ok(Json(checked))
}

/// Invariant: which receivers there are is for callers of all projects, also where a misspelt one might be hinted at.
pub(super) fn hide_receivers(field: &str, message: &mut String) {
    if field.contains("receivers[") && message.starts_with("there is no receiver") {
        *message = "there is no receiver of this name".to_owned();
    }
}

fn check_rule(members: Map<String, Value>, set: &RuleSet) -> Checked {
    let compiled = body::definition::<RuleDefinition>(members)
        .map_err(|problem| vec![problem])
        .and_then(|definition| set.compile(definition));
    match compiled {
        Ok(rule) => Checked::valid(&[rule], Vec::new()),
        Err(problems) => Checked::wrong(problems),
    }
}

/// Receivers of the file in force do not count: the one that is checked would take its place.
fn check_file(yaml: &str, set: &RuleSet) -> Checked {
    let made = set.receivers.values().filter(|receiver| receiver.stored.source == AlertSource::Api);
    let known: Vec<String> = made.map(|receiver| receiver.stored.name.clone()).collect();
    match RuleFile::parse(yaml, &known) {
        Ok(file) => Checked::valid(&file.rules, file.receivers.into_iter().map(|receiver| receiver.name).collect()),
        Err(problems) => Checked::wrong(problems),
    }
}

impl Checked {
    fn valid(rules: &[CompiledRule], receivers: Vec<String>) -> Self {
        let rule = |rule: &CompiledRule| CheckedRule { name: rule.definition.name.clone(), condition: rule.into() };
        Self { valid: true, problems: Vec::new(), rules: rules.iter().map(rule).collect(), receivers }
    }

    fn wrong(problems: Vec<Problem>) -> Self {
        let problems = problems.into_iter().map(FieldProblem::from).collect();
        Self { valid: false, problems, rules: Vec::new(), receivers: Vec::new() }
    }
}
