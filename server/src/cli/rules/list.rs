//! `gradwatch rules list` and `gradwatch alerts`.

use clap::Args;
use form_urlencoded::Serializer;
use gradwatch_store::AlertState;
use serde_json::{Value, json};

use super::ListArgs;
use crate::cli::{
    Failure, ServerArgs, USAGE,
    out::{print, print_line},
    runtime,
    table::Table,
};

/// The most that a person wants to see, and that one answer holds.
const PAGE: usize = 1_000;

/// List alerts of a server, newest first
#[derive(Args)]
#[command(after_help = "Example: what fires now?\n\n  \
    gradwatch alerts --state firing --server http://127.0.0.1:7700\n\n\
    Exit codes: 0 ok, 1 the server said no, 2 wrong usage, 3 no server.")]
pub(in crate::cli) struct AlertsArgs {
    /// Only in this state: pending, firing or resolved; repeated for more
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<AlertState>,
    /// Only of this project
    #[arg(long)]
    project: Option<String>,
    /// Only of this rule
    #[arg(long)]
    rule: Option<String>,
    /// Only of this run
    #[arg(long)]
    run: Option<gradwatch_client::Uuid>,
    /// How many at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    remote: ServerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn rules(args: &ListArgs) -> Result<(), Failure> {
    let query: Vec<(&str, String)> = args.project.iter().map(|project| ("project", project.clone())).collect();
    let items = all(&args.remote, "/api/v1/alerts/rules", &query, usize::MAX)?;
    if args.json {
        return print_line(json!({ "items": items, "next_cursor": null }));
    }
    let mut table = Table::new(["RULE", "SEVERITY", "PROJECT", "FIRING", "PENDING", "SOURCE", "WHEN"]);
    for rule in &items {
        let definition = &rule["definition"];
        let when = word(&definition["when"]);
        table.row([
            word(&rule["name"]),
            word(&definition["severity"]),
            rule["project"].as_str().unwrap_or("(all)").to_owned(),
            rule["firing"].to_string(),
            rule["pending"].to_string(),
            word(&rule["source"]),
            when.split_whitespace().collect::<Vec<_>>().join(" "),
        ]);
    }
    print(table)
}

pub(in crate::cli) fn alerts(args: &AlertsArgs) -> Result<(), Failure> {
    let mut query: Vec<(&str, String)> = args.states.iter().map(|state| ("state", state.to_string())).collect();
    query.extend(args.project.iter().map(|project| ("project", project.clone())));
    query.extend(args.rule.iter().map(|rule| ("rule", rule.clone())));
    query.extend(args.run.iter().map(|run| ("run", run.to_string())));
    let items = all(&args.remote, "/api/v1/alerts", &query, args.limit)?;
    if args.json {
        return print_line(json!({ "items": items, "next_cursor": null }));
    }
    let mut table = Table::new(["SINCE", "STATE", "SEVERITY", "RULE", "PROJECT", "RUN", "GROUP", "STEP", "SUMMARY"]);
    for alert in &items {
        let began = if alert["fired"].is_null() { &alert["pending"] } else { &alert["fired"] };
        table.row([
            to_the_second(&word(&began["at"])),
            word(&alert["state"]),
            word(&alert["severity"]),
            word(&alert["rule"]),
            word(&alert["project"]),
            word(&alert["run_id"]),
            word(&alert["group"]),
            began["step"].to_string(),
            word(&alert["summary"]),
        ]);
    }
    print(table)
}

/// The first items of a list, page by page.
fn all(remote: &ServerArgs, path: &str, query: &[(&str, String)], limit: usize) -> Result<Vec<Value>, Failure> {
    let client = remote.client()?;
    let client = client.ok_or_else(|| Failure::new(USAGE, "--server: which one? GRADWATCH_SERVER does as well"))?;
    runtime()?.block_on(async {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut parameters = Serializer::new(String::new());
            parameters.extend_pairs(query).append_pair("limit", &PAGE.min(limit - items.len()).to_string());
            if let Some(cursor) = &cursor {
                parameters.append_pair("cursor", cursor);
            }
            let mut page: Value = client.get(&format!("{path}?{}", parameters.finish())).await?;
            items.extend(page["items"].as_array_mut().into_iter().flat_map(std::mem::take));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(items)
    })
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A time without parts of a second: people compare it with a clock.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}
