//! The file of rules: as a whole, or not at all.

use gradwatch_server::{ServeError, config::Config, serve};
use gradwatch_store::AlertSource;
use gradwatch_tests::{Backend, PATIENCE, any_port, gradwatch, on_both_backends, open_request, spec};
use tokio::time::{sleep, timeout};

use super::made::{DONE, HIGH, World, text, wave};

on_both_backends!(a_bad_file_changes_nothing, a_file_that_is_no_longer_named_takes_its_rules_along);

async fn metric(world: &World, name: &str) -> Option<f64> {
    let (_, text) = world.rest().call(http::Method::GET, "/metrics", "").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn until_metric(world: &World, name: &str, value: f64) {
    let looking = async {
        while metric(world, name).await != Some(value) {
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{name} never was {value}"));
}

async fn a_bad_file_changes_nothing(backend: Backend) {
    let world = World::new(backend, &[HIGH]).await;
    let before = world.store.alert_rules().await.expect("rules");
    assert_eq!(metric(&world, "gradwatch_alert_rules_reload_failed").await, Some(0.0));
    // One of the two is good.
    world.write_rules(&[DONE, "  - {name: bad, when: edge.rato < 1}\n"]);
    until_metric(&world, "gradwatch_alert_rules_reload_failed", 1.0).await;
    assert_eq!(world.store.alert_rules().await.expect("rules"), before);
    let (status, answer) = world.rest().call(http::Method::GET, "/readyz", "").await;
    assert!(status.is_success(), "{answer}");
    let request = open_request(spec());
    world.send(&request, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&request.run_id, "high").await;

    world.write_rules(&[DONE]);
    world.until_rules("the good one", |rules| rules.len() == 1 && rules[0].name == "done").await;
    until_metric(&world, "gradwatch_alert_rules_reload_failed", 0.0).await;
    let receivers = world.store.alert_receivers().await.expect("receivers");
    assert!(receivers.iter().all(|receiver| receiver.source == AlertSource::File) && receivers.len() == 2);
    world.server.stop().await;
}

async fn a_file_that_is_no_longer_named_takes_its_rules_along(backend: Backend) {
    let world = World::new(backend, &[HIGH]).await;
    world.server.stop().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::embedded(any_port(), dir.path()).expect("the defaults are valid");
    let server = gradwatch_server::serve_on(config, std::sync::Arc::clone(&world.store)).await.expect("it starts");
    assert_eq!(world.store.alert_rules().await.expect("rules"), []);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_does_not_start_with_a_bad_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("rules.yaml");
    std::fs::write(&path, text(&["  - name: bad\n    when: edge.ratio <\n"])).expect("a file");
    let mut config = Config::embedded(any_port(), dir.path()).expect("the defaults are valid");
    config.alerts.rules_file = Some(path.clone());
    let error = serve(config).await.expect_err("a bad file");
    let ServeError::Rules(problems) = &error else { panic!("{error}") };
    let line = text(&[]).lines().count() + 2;
    let place = format!("{}:{line}:", path.display());
    assert!(problems.starts_with(&place) && problems.contains("rules[0].when"), "{problems}");

    // The command says the same, as a mistake of usage.
    let data_dir = dir.path().join("data");
    let variables = [("GRADWATCH_ALERTS__RULES_FILE", path.to_str().expect("UTF-8"))];
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().expect("UTF-8")];
    gradwatch(dir.path(), &variables, &arguments).with(2).says(&place);

    let mut config = Config::embedded(any_port(), &data_dir).expect("the defaults are valid");
    config.alerts.rules_file = Some(dir.path().join("missing.yaml"));
    let error = serve(config).await.expect_err("no file").to_string();
    assert!(error.contains("alerts.rules_file") && error.contains("missing.yaml"), "{error}");
}
