//! `gradwatch rules check`.

use std::{fs::File, io::Read};

use gradwatch_rules::{Hold, Problem, RuleFile, file::MAX_FILE_BYTES, language::CompiledRule};
use serde_json::{Value, json};

use super::CheckArgs;
use crate::cli::{
    FAILED, Failure, USAGE,
    out::{print, print_line},
    table::Table,
};

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let text = read(args)?;
    let file = RuleFile::parse(&text, &args.receivers);
    if args.json {
        print_line(as_json(&file))?;
    }
    match file {
        Ok(_) if args.json => Ok(()),
        Ok(file) => print(table(&file)),
        Err(problems) => {
            let file = args.file.display();
            // As compilers write them, so that editors find the place.
            if !args.json {
                for Problem { field, position, message } in &problems {
                    match position {
                        Some(position) => eprintln!("{file}:{}:{}: {field}: {message}", position.line, position.column),
                        None => eprintln!("{file}: {field}: {message}"),
                    }
                }
            }
            let count = problems.len();
            let problems = if count == 1 { "problem" } else { "problems" };
            Err(Failure::new(USAGE, format!("{file}: {count} {problems}")))
        }
    }
}

fn read(args: &CheckArgs) -> Result<String, Failure> {
    let failed = |message: String| Failure::new(FAILED, format!("{}: {message}", args.file.display()));
    let file = File::open(&args.file).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    // One byte more than may be shows that there is more.
    let read = file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

fn as_json(file: &Result<RuleFile, Vec<Problem>>) -> Value {
    match file {
        Ok(file) => {
            let names = |names: Vec<&str>| names.into_iter().map(Value::from).collect::<Vec<_>>();
            json!({
                "valid": true,
                "problems": [],
                "rules": names(file.rules.iter().map(|rule| rule.definition.name.as_str()).collect()),
                "receivers": names(file.receivers.iter().map(|receiver| receiver.name.as_str()).collect()),
            })
        }
        Err(problems) => {
            let problem = |problem: &Problem| {
                let (line, column) = problem.position.map(|position| (position.line, position.column)).unzip();
                json!({ "field": problem.field, "line": line, "column": column, "message": problem.message })
            };
            json!({
                "valid": false,
                "problems": problems.iter().map(problem).collect::<Vec<_>>(),
                "rules": [],
                "receivers": [],
            })
        }
    }
}

fn table(file: &RuleFile) -> String {
    let mut table = Table::new(["RULE", "SEVERITY", "WHEN", "FOR", "RECEIVERS"]);
    for CompiledRule { definition, .. } in &file.rules {
        table.row([
            definition.name.clone(),
            definition.severity.as_str().to_owned(),
            // A condition may be written over several lines.
            definition.when.split_whitespace().collect::<Vec<_>>().join(" "),
            definition.hold.map_or_else(String::new, hold),
            definition.receivers.join(", "),
        ]);
    }
    let (rules, receivers) = (file.rules.len(), file.receivers.len());
    format!("{table}{rules} rules, {receivers} receivers: all right\n")
}

/// As it is written.
fn hold(hold: Hold) -> String {
    match serde_json::to_value(hold) {
        Ok(Value::String(time)) => time,
        Ok(readings) => readings.to_string(),
        Err(_) => String::new(),
    }
}
