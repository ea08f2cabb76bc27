//! What is asked for.

use axum::extract::{FromRequest, Request};
use gradwatch_rules::{Problem, RuleDefinition, RuleFile, Selector, Severity, file::MAX_RULES, language::CompiledRule};
use gradwatch_store::{RunQuery, RunSort};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::super::{body, rule_check::hide_receivers};
use crate::{
    access::Caller,
    alerts::BacktestRequest,
    api::{
        json_body,
        params::{FromParams, Params},
        refusal::Refusal,
        runs::RunFilter,
        text,
    },
    error::Error,
    state::AppState,
};

/// Members of the body.
const MEMBERS: [&str; 3] = ["rules", "runs", "truth"];

/// Runs listed at once.
const PAGE: usize = 500;

/// Which rules, on which runs, against what.
#[derive(Debug, ToSchema)]
pub(crate) struct BacktestBody {
    /// A file of rules (YAML) as one text, or a list of rules as they are given to `POST alerts/rules`. By default the rules
    /// in force that the token may see.
    #[schema(value_type = Option<Value>)]
    rules: GivenRules,
    /// Filters as `GET runs` takes them, separated by `,` or `&`: `project=vision,state=finished,label.team=a`. A comma in a
    /// value is `%2C`. By default all runs that the token may see.
    #[schema(example = "project=vision,state=finished")]
    runs: Option<String>,
    /// A condition in the language of rules: what should have been warned of. It came true at the first step at which it
    /// held.
    #[schema(example = "scalar.test_accuracy >= 0.95")]
    truth: Option<String>,
}

#[derive(Debug)]
enum GivenRules {
    InForce,
    Yaml(String),
    List(Vec<Value>),
}

impl<S: Send + Sync> FromRequest<S> for BacktestBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(json_body::members(request, state).await?)?)
    }
}

impl BacktestBody {
    fn parse(mut members: Map<String, Value>) -> Result<Self, Error> {
        let body = Self {
            // Null is as good as absent.
            rules: match members.remove("rules") {
                None | Some(Value::Null) => GivenRules::InForce,
                Some(Value::String(yaml)) => GivenRules::Yaml(yaml),
                Some(Value::Array(rules)) if rules.len() > MAX_RULES => {
                    return Err(Error::invalid("rules", format!("are {}; the limit is {MAX_RULES}", rules.len())));
                }
                Some(Value::Array(rules)) => GivenRules::List(rules),
                Some(_) => return Err(Error::invalid("rules", "must be a YAML text or a list of rules")),
            },
            runs: text_member(&mut members, "runs")?,
            truth: text_member(&mut members, "truth")?,
        };
        match members.keys().next() {
            None => Ok(body),
            Some(name) => {
                let near = text::did_you_mean(name, &MEMBERS);
                Err(Error::invalid(name, format!("is unknown; this takes {}{near}", MEMBERS.join(", "))))
            }
        }
    }

    /// Compiles it, for a caller.
    pub(super) async fn understand(self, state: &AppState, caller: &Caller) -> Result<BacktestRequest, Error> {
        let runs = run_query(self.runs.as_deref().unwrap_or_default(), caller)?;
        let set = state.alerts.book.current();
        let project = caller.project().map(str::to_owned);
        // A long file takes its time.
        let understood = spawn_blocking(move || {
            let truth = self.truth.map(truth).transpose().map_err(Error::problems)?;
            let rules = match self.rules {
                GivenRules::InForce => set
                    .active
                    .iter()
                    .map(|active| active.rule.clone())
                    .filter(|rule| may_see(rule, project.as_deref()))
                    .collect(),
                GivenRules::Yaml(yaml) => {
                    let known: Vec<String> = set.receivers.keys().cloned().collect();
                    let file = RuleFile::parse(&yaml, &known).map_err(|mut problems| {
                        if project.is_some() {
                            problems
                                .iter_mut()
                                .for_each(|problem| hide_receivers(&problem.field, &mut problem.message));
                        }
                        Error::problems(problems)
                    });
                    file?.rules
                }
                GivenRules::List(rules) => compile(rules).map_err(Error::problems)?,
            };
            Ok::<_, Error>((rules, truth))
        });
        let (rules, truth) = understood.await.map_err(Error::internal)??;
        if rules.is_empty() {
            return Err(Error::invalid("rules", "there is none"));
        }
        Ok(BacktestRequest { rules, truth, runs })
    }
}

/// As in the list of rules: a token of one project sees those that select this project by name.
fn may_see(rule: &CompiledRule, project: Option<&str>) -> bool {
    project.is_none() || rule.definition.select.project.as_deref() == project
}

fn text_member(members: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Error> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::invalid(name, "must be a text")),
    }
}

/// The runs that the filters select among those that the caller may see.
fn run_query(filters: &str, caller: &Caller) -> Result<RunQuery, Error> {
    let mut params = Params::of_caller(&filters.replace(',', "&"), caller);
    let within = |error: Error| Error { field: error.field.map(|field| format!("runs.{field}")), ..error };
    let filter = RunFilter::from_params(&mut params).map_err(within)?;
    params.finish().map_err(within)?;
    // What is created while they are read comes last: nothing is missed or met twice.
    Ok(filter.query(RunSort::CreatedAscending, None, PAGE))
}

fn compile(rules: Vec<Value>) -> Result<Vec<CompiledRule>, Vec<Problem>> {
    let (mut compiled, mut problems): (Vec<CompiledRule>, Vec<Problem>) = (Vec::new(), Vec::new());
    for (at, rule) in rules.into_iter().enumerate() {
        let within = |field: &str| format!("rules[{at}].{field}").trim_end_matches('.').to_owned();
        match compile_one(rule) {
            Ok(rule) if compiled.iter().any(|other| other.definition.name == rule.definition.name) => {
                let message = format!("another rule is called {:?}", rule.definition.name);
                problems.push(Problem { field: within("name"), position: None, message });
            }
            Ok(rule) => compiled.push(rule),
            Err(wrong) => {
                let named = |problem: Problem| Problem { field: within(&problem.field), ..problem };
                problems.extend(wrong.into_iter().map(named));
            }
        }
    }
    if problems.is_empty() { Ok(compiled) } else { Err(problems) }
}

fn compile_one(rule: Value) -> Result<CompiledRule, Vec<Problem>> {
    let Value::Object(members) = rule else {
        return Err(vec![Problem { field: String::new(), position: None, message: "must be an object".to_owned() }]);
    };
    let definition = body::definition::<RuleDefinition>(members).map_err(|problem| vec![problem])?;
    CompiledRule::new(definition)
}

/// The truth as a rule that says at once when it holds.
fn truth(when: String) -> Result<CompiledRule, Vec<Problem>> {
    let definition = RuleDefinition {
        name: "truth".to_owned(),
        select: Selector::default(),
        when,
        hold: None,
        keep_firing_for: None,
        max_age: None,
        severity: Severity::Info,
        summary: String::new(),
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        receivers: Vec::new(),
    };
    CompiledRule::new(definition).map_err(|problems| {
        problems.into_iter().map(|problem| Problem { field: "truth".to_owned(), ..problem }).collect()
    })
}
