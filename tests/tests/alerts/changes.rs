//! Rules that come, change and go while runs are watched, and runs that are no longer what they were.

use gradwatch_store::{Alert, AlertState};
use gradwatch_tests::{Backend, on_both_backends, open_request, spec};
use http::Method;

use super::made::{DONE, HIGH, World, done, wave, with};

on_both_backends!(
    a_new_rule_begins_with_full_windows_and_says_nothing_of_the_past,
    a_rule_that_goes_ends_its_alerts,
    a_rule_that_looks_for_something_else_begins_anew,
    a_rule_whose_text_changes_goes_on,
    labels_decide_whom_a_rule_watches,
);

fn resolved_as(alerts: &[Alert], rule: &str, reason: &str) -> bool {
    alerts
        .iter()
        .any(|alert| alert.rule_name == rule && alert.resolved.as_ref().is_some_and(|(_, because)| because == reason))
}

async fn a_new_rule_begins_with_full_windows_and_says_nothing_of_the_past(backend: Backend) {
    let world = World::new(backend, &[HIGH]).await;
    let request = open_request(spec());
    let steps = |seq: u64| with(seq, seq, "x", seq as f64);
    world.send(&request, 1..=20, steps).await;
    world.until_fired(&request.run_id, "high").await;
    // It held all the time; the mean of all twenty is known at once.
    let mean = "
  - name: mean
    when: mean(scalar.x, 20) > 5
";
    world.write_rules(&[HIGH, mean]);
    world.until_rules("a second rule", |rules| rules.len() == 2).await;
    world.send(&request, 21..=21, steps).await;
    let alerts = world.until_fired(&request.run_id, "mean").await;
    let alert = alerts.iter().find(|alert| alert.rule_name == "mean").expect("it fired");
    assert_eq!((alert.pending.step, alert.fired.expect("it fired").step), (21, 21));
    world.server.stop().await;
}

async fn a_rule_that_goes_ends_its_alerts(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let request = open_request(spec());
    world.send(&request, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&request.run_id, "high").await;
    world.write_rules(&[DONE]);
    let ended = |alerts: &[Alert]| resolved_as(alerts, "high", "rule_removed");
    world.until(&request.run_id, "its rule is gone", ended).await;
    let told: Vec<_> = world.said(&request.run_id).await.told;
    assert!(told.iter().any(|told| told.0 == "ops" && told.3 == "resolved"), "{told:?}");
    world.server.stop().await;
}

async fn a_rule_that_looks_for_something_else_begins_anew(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let request = open_request(spec());
    world.send(&request, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&request.run_id, "high").await;
    world.write_rules(&[&HIGH.replace("> 6", "> 5"), DONE]);
    let ended = |alerts: &[Alert]| resolved_as(alerts, "high", "rule_changed");
    world.until(&request.run_id, "its rule is another", ended).await;
    world.send(&request, 9..=18, |seq| if seq == 18 { done(wave(seq, seq)) } else { wave(seq, seq) }).await;
    let alerts = world.until_fired(&request.run_id, "done").await;
    let again = alerts.iter().find(|alert| alert.rule_name == "high" && alert.state == AlertState::Firing);
    let again = again.expect("it fires again");
    assert_eq!((again.rule_revision, again.pending.step), (2, 16));
    world.server.stop().await;
}

async fn a_rule_whose_text_changes_goes_on(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let request = open_request(spec());
    world.send(&request, 1..=7, |seq| wave(seq, seq)).await;
    // Pending: it held once.
    world.until(&request.run_id, "it is pending", |alerts| !alerts.is_empty()).await;
    world.write_rules(&[&HIGH.replace("critical", "info"), DONE]);
    world
        .until_rules("the new text", |rules| {
            rules.iter().any(|rule| rule.definition["severity"] == "info" && rule.revision == 1)
        })
        .await;
    world.send(&request, 8..=8, |seq| wave(seq, seq)).await;
    let alerts = world.until_fired(&request.run_id, "high").await;
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    assert_eq!((alert.pending.step, alert.fired.expect("it fired").step), (7, 8));
    world.server.stop().await;
}

async fn labels_decide_whom_a_rule_watches(backend: Backend) {
    let of_team = HIGH.replace("    for: 2", "    select: {labels: {team: vision}}\n    for: 2");
    let world = World::new(backend, &[&of_team, DONE]).await;
    let request = open_request(spec());
    world.send(&request, 1..=10, |seq| if seq == 10 { done(wave(seq, seq)) } else { wave(seq, seq) }).await;
    let alerts = world.until_fired(&request.run_id, "done").await;
    assert!(alerts.iter().all(|alert| alert.rule_name == "done"), "{alerts:?}");

    let path = format!("/api/v1/runs/{}", request.run_id);
    let patch = async |body: &str| {
        let (status, answer) = world.rest().call(Method::PATCH, &path, body).await;
        assert!(status.is_success(), "{answer}");
    };
    patch(r#"{"labels": {"team": "vision"}}"#).await;
    world.send(&request, 11..=18, |seq| wave(seq, seq)).await;
    world.until_fired(&request.run_id, "high").await;
    patch(r#"{"labels": {"team": null}}"#).await;
    let ended = |alerts: &[Alert]| resolved_as(alerts, "high", "not_selected");
    world.until(&request.run_id, "nobody watches it", ended).await;
    world.server.stop().await;
}
