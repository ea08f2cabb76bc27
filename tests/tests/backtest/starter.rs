//! The starter rules: what they say of the demo's two runs, live and tested, and that those about failures find them.

use gradwatch_client::{Frame, Run};
use gradwatch_demo::{Server, TrainingConfig, run_one};
use gradwatch_tests::{Job, JobOptions, TENSOR, TestServer, random_walk};
use serde_json::json;

use crate::made::{backtest, said_by_backtest, said_live};

const STARTER: &str = include_str!("../../../server/default-rules.yaml");
/// Rules on layers are evaluated apart; two last as long as the run.
const MORE: &str = "
  - {name: always, when: scalar.loss >= 0}
  - {name: always-layers, when: cascade.phi >= 0}
  - {name: few-cascades, when: cascade.phi < 0.36}
  - {name: spectrum, when: curvature.shift}
  - {name: both, when: cascade.phi > 0 and scalar.loss < 0.05}
";
const TRUTH: &str = "scalar.test_accuracy >= 0.95";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demos_two_runs_are_told_apart_and_live_says_what_a_backtest_says() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rules.yaml");
    let rules = format!("{STARTER}{MORE}");
    std::fs::write(&file, &rules).expect("a file");
    let server = TestServer::start_with(|config| config.alerts.rules_file = Some(file)).await;
    let target = Server { url: server.url(), ..Server::default() };
    let train = async |name: &str, weight_decay: f32| {
        let config = TrainingConfig { weight_decay, ..TrainingConfig::small(1) };
        run_one(&target, name, config).await.expect("a run").to_string()
    };
    let groks = train("groks", TrainingConfig::SMALL_WEIGHT_DECAY).await;
    let memorises = train("memorises", 0.0).await;

    let mut live = said_live(&server.rest(), &groks, &["always", "always-layers"], |_, _| true).await;
    live.extend(said_live(&server.rest(), &memorises, &["always", "always-layers"], |_, _| true).await);
    let report = backtest(&server.rest(), &json!({ "rules": rules, "truth": TRUTH })).await;
    assert_eq!(live, said_by_backtest(&report));

    assert_eq!((&report["positive_runs"], &report["negative_runs"]), (&json!(1), &json!(1)), "{report}");
    let fires = |rule: &str, run: &str| live.contains_key(&(rule.to_owned(), run.to_owned()));
    assert!(fires("one-direction", &groks) && !fires("one-direction", &memorises), "{live:?}");
    let told_apart = report["rules"].as_array().expect("rules").iter().find(|rule| rule["rule"] == "one-direction");
    let lead = &told_apart.expect("the rule")["judgement"]["lead"];
    assert!(lead["median"].as_f64().is_some_and(|steps| steps >= 50.0), "it is ahead of the test accuracy: {lead}");
    assert!(fires("both", &groks) && fires("spectrum", &groks), "{live:?}");
    // These runs are healthy.
    for rule in
        ["run-crashed", "run-stalled", "not-finite", "loss-diverges", "harmful-spike", "frames-lost", "forgetting"]
    {
        assert!(!fires(rule, &groks) && !fires(rule, &memorises), "{rule}: {live:?}");
    }
}

/// What goes wrong at step 100.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    None,
    NonFinite,
    Divergence,
    Spike,
}

const STEPS: u64 = 150;
const AT: u64 = 100;

fn submit(run: &mut Run, step: u64, parameters: &[f32], failure: Failure) {
    let behind = step.saturating_sub(AT - 1) as i32;
    let loss = match failure {
        Failure::NonFinite if step == AT => f64::NAN,
        // It grows by a third a step.
        Failure::Divergence => 1.33_f64.powi(behind),
        Failure::Spike if behind > 0 => 1.7,
        _ => 1.0 + 0.01 * (step as f64).sin(),
    };
    run.submit(step, Frame::new().scalar("loss", loss).parameters("all", [(TENSOR, parameters)]))
        .expect("a valid frame");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_about_failures_find_them() {
    let server = TestServer::start().await;
    let options = JobOptions::default();
    let mut ids = Vec::new();
    for failure in [Failure::None, Failure::NonFinite, Failure::Divergence, Failure::Spike] {
        let mut line = random_walk(3, STEPS as usize, options.len);
        if failure == Failure::Spike {
            line[AT as usize..].iter_mut().flatten().for_each(|parameter| *parameter += 10.0);
        }
        let mut job = Job::open(&server.url(), &options);
        (1..=STEPS).for_each(|step| submit(&mut job.run, step, &line[step as usize], failure));
        ids.push(job.run_id().to_string());
        job.close().await;
    }
    let said = said_by_backtest(&backtest(&server.rest(), &json!({ "rules": STARTER })).await);
    let of = |run: usize| -> Vec<(&str, u64)> {
        let of_run = said.iter().filter(|((_, id), _)| *id == ids[run]);
        of_run.map(|((rule, _), (_, first_step))| (rule.as_str(), *first_step)).collect()
    };
    assert_eq!(of(0), []);
    assert_eq!(of(1), [("not-finite", AT)]);
    let [("loss-diverges", step)] = of(2)[..] else { panic!("{said:?}") };
    assert!((AT + 3..AT + 20).contains(&step), "{said:?}");
    assert_eq!(of(3), [("harmful-spike", AT)]);
}
