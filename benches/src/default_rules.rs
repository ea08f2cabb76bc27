//! How often the starter rules are wrong, and how far ahead they are: backtests on runs of a smaller demo, which groks with
//! weight decay and only memorises without. Thresholds were chosen on the seeds of the first table and nothing else; the
//! second table is what they are worth.

use anyhow::{Context, Result, ensure};
use gradwatch_demo::{PROJECT, TrainingConfig, run_one};
use gradwatch_rules::backtest::Proportion;
use gradwatch_tests::Rest;
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{machine::Machine, process::Server, report};

/// The starter rules.
const RULES: &str = include_str!("../../server/default-rules.yaml");
/// What should have been warned of.
const TRUTH: &str = "scalar.test_accuracy >= 0.95";
/// Seeds that thresholds were chosen on, and as many that they were not.
const SEEDS: u64 = 10;
/// Runs that train at once.
const AT_ONCE: usize = 2;

/// False alarms, precision, recall and lead of the starter rules, on seeds that their thresholds were not chosen on
#[derive(Debug, Serialize, clap::Args)]
pub(crate) struct DefaultRules {
    /// Print JSON instead of tables
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

#[derive(Serialize)]
struct Settings<'a> {
    truth: &'a str,
    modulus: usize,
    train_pairs: usize,
    width: usize,
    epochs: u32,
    learning_rate: f32,
    weight_decays: [f32; 2],
}

#[derive(Serialize)]
struct Tested {
    seeds: String,
    chosen_on: bool,
    rules: Vec<Judged>,
}

#[derive(Serialize)]
struct Judged {
    rule: String,
    /// Of the grokking runs and of the controls. None of them crashes, stalls or diverges: for a rule about failures each is a
    /// false alarm.
    fired: Proportion,
    /// As the backtest answers it.
    judgement: Value,
}

impl DefaultRules {
    pub(crate) async fn run(self) -> Result<()> {
        let machine = Machine::look(&std::env::temp_dir())?;
        let TrainingConfig { modulus, train_pairs, width, epochs, learning_rate, weight_decay, .. } =
            TrainingConfig::small(0);
        let weight_decays = [weight_decay, 0.0];
        let settings = Settings { truth: TRUTH, modulus, train_pairs, width, epochs, learning_rate, weight_decays };
        let mut results = Vec::new();
        for (first, chosen_on) in [(0, true), (SEEDS, false)] {
            results.push(measure(first, chosen_on, weight_decays).await?);
        }
        if !self.json {
            results.iter().for_each(print);
        }
        report::write("default_rules", &machine, &settings, &results, self.json)
    }
}

/// Trains and tests a set of seeds on a server of its own.
async fn measure(first: u64, chosen_on: bool, weight_decays: [f32; 2]) -> Result<Tested> {
    let data_dir = tempfile::tempdir()?;
    let server = Server::gradwatch(data_dir.path(), &Default::default())?;
    let target = gradwatch_demo::Server { url: server.url(), ..Default::default() };
    let last = first + SEEDS - 1;
    let mut waiting = (first..=last).flat_map(|seed| {
        weight_decays.map(|weight_decay| TrainingConfig { weight_decay, ..TrainingConfig::small(seed) })
    });
    let mut training = JoinSet::new();
    loop {
        while training.len() < AT_ONCE
            && let Some(config) = waiting.next()
        {
            let target = target.clone();
            let name = if config.weight_decay > 0.0 { "groks" } else { "memorises" };
            training.spawn(async move { run_one(&target, name, config).await });
        }
        let Some(trained) = training.join_next().await else { break };
        trained??;
    }
    let runs = format!("project={PROJECT}");
    let body = json!({ "rules": RULES, "runs": runs, "truth": TRUTH }).to_string();
    let rest = Rest::new(&server.url());
    let (status, answer) = rest.call(Method::POST, "/api/v1/alerts/backtest", &body).await;
    ensure!(status == StatusCode::OK, "{status}: {answer}");
    server.stop()?;
    let report: Value = serde_json::from_str(&answer)?;
    ensure!(report["positive_runs"] == SEEDS && report["negative_runs"] == SEEDS, "not every run did as it should");
    let rules = report["rules"].as_array().context("rules")?;
    let judged = |rule: &Value| {
        let count = |name: &str| rule[name].as_u64().unwrap_or_default() as usize;
        Judged {
            rule: rule["rule"].as_str().unwrap_or_default().to_owned(),
            fired: Proportion::new(count("fired"), count("runs")),
            judgement: rule["judgement"].clone(),
        }
    };
    Ok(Tested { seeds: format!("{first}-{last}"), chosen_on, rules: rules.iter().map(judged).collect() })
}

fn print(tested: &Tested) {
    let why = if tested.chosen_on { "thresholds were chosen on these" } else { "thresholds were not chosen on these" };
    println!("\nseeds {} with and without weight decay; {why}", tested.seeds);
    println!(
        "{:>24}  {:>18}  {:>18}  {:>18}  {:>18}  median lead",
        "rule", "fired", "false alarms", "precision", "recall"
    );
    for Judged { rule, fired, judgement } in &tested.rules {
        let share = |value: &Value| {
            let part = |name: &str| 100.0 * value[name].as_f64().unwrap_or_default();
            match value["value"].is_null() {
                true => "-".to_owned(),
                false => format!("{}/{} ({:.0}-{:.0} %)", value["count"], value["of"], part("low"), part("high")),
            }
        };
        let lead = &judgement["lead"];
        let lead = match (lead["median"].as_f64(), lead["low"].as_f64(), lead["high"].as_f64()) {
            (Some(median), Some(low), Some(high)) => format!("{median} ({low:.0}-{high:.0}) steps"),
            (Some(median), ..) => format!("{median} steps"),
            _ => "-".to_owned(),
        };
        println!(
            "{rule:>24}  {:>18}  {:>18}  {:>18}  {:>18}  {lead}",
            share(&json!(fired)),
            share(&judgement["false_alarm_rate"]),
            share(&judgement["precision"]),
            share(&judgement["recall"]),
        );
    }
}
