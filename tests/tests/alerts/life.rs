//! Rules fire at the step at which they must, on jobs that train and end.

use gradwatch_store::AlertState;
use gradwatch_tests::{AlertCall, Backend, Job, JobOptions, on_both_backends, open_request, random_walk, spec};
use serde_json::json;

use super::made::{DONE, HIGH, MEAN, World, courses, expected, mean_is_high, wave, x};

on_both_backends!(
    rules_fire_at_their_steps,
    a_real_client_is_watched_as_it_trains,
    the_end_of_a_run_ends_its_alerts,
    a_run_that_ended_before_it_was_evaluated_is_all_the_same,
    a_deleted_run_is_forgotten,
);

async fn rules_fire_at_their_steps(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    let request = open_request(spec());
    world.send_all(&request, 1..=65).await;
    let said = world.said(&request.run_id).await;
    assert_eq!(courses(&said, "high"), expected(1..=65, 2, |step| x(step) > 6.0));
    assert_eq!(courses(&said, "mean"), expected(1..=65, 1, mean_is_high));
    let first = said.alerts.iter().find(|alert| alert.rule == "high").expect("it fired");
    assert_eq!(first.values, json!({ "scalar.x": 8.0 }));

    // Each is told when it fires and when it ends, in that order; but for who does not want to hear of ends.
    let to = |receiver: &str, rule: &str| -> Vec<_> {
        let told = said.told.iter().filter(|told| told.0 == receiver && told.1 == rule);
        told.map(|(_, _, step, state)| (step.as_u64().expect("a step"), *state)).collect()
    };
    let fired = [8, 18, 28, 38, 48, 58];
    assert_eq!(to("ops", "high"), fired.map(|step| [(step, "firing"), (step, "resolved")]).concat());
    assert_eq!(to("quiet", "high"), fired.map(|step| (step, "firing")));
    assert_eq!(to("quiet", "mean"), []);

    let alerts = world.until_fired(&request.run_id, "high").await;
    let alert = alerts.iter().find(|alert| alert.fired.is_some_and(|moment| moment.step == 8)).expect("the first");
    assert_eq!(alert.summary, "high: 8 at 8 of run");
    assert_eq!((alert.severity.as_str(), &alert.labels["team"]), ("critical", &"made".to_owned()));
    world.server.stop().await;
}

async fn a_real_client_is_watched_as_it_trains(backend: Backend) {
    let low = "
  - name: low
    when: scalar.loss < 0.02 and edge.ratio > 0
    for: 3
";
    let world = World::new(backend, &[low]).await;
    let options = JobOptions { dim: 64, len: 500, ..JobOptions::default() };
    let parameters = random_walk(3, 61, options.len);
    let mut job = Job::open(&world.server.url(), &options);
    let run = job.run_id().to_string();
    for (step, parameters) in (0..).zip(&parameters) {
        job.submit(step, parameters);
    }
    // It fires while the job trains; loss(50) is the first below.
    let alerts = world.until_fired(&run, "low").await;
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    assert_eq!((alert.state, alert.group.as_str()), (AlertState::Firing, "all"));
    assert_eq!((alert.pending.step, alert.fired.expect("it fired").step), (50, 52));
    job.close().await;
    let ended = |alerts: &[gradwatch_store::Alert]| alerts[0].state == AlertState::Resolved;
    let alerts = world.until(&run, "it ends with the run", ended).await;
    let (moment, reason) = alerts[0].resolved.clone().expect("it ended");
    assert_eq!((moment.step, reason.as_str()), (61, "run_over"));
    world.server.stop().await;
}

async fn the_end_of_a_run_ends_its_alerts(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN]).await;
    let request = open_request(spec());
    // Firing, and pending.
    world.send(&request, 1..=18, |seq| wave(seq, seq)).await;
    world.finish(&request, 18).await;
    let over = |alerts: &[gradwatch_store::Alert]| {
        !alerts.is_empty() && alerts.iter().all(|alert| alert.state == AlertState::Resolved)
    };
    world
        .until(&request.run_id, "all have ended", |alerts| {
            over(alerts) && alerts.iter().any(|alert| alert.fired.is_some_and(|moment| moment.step == 18))
        })
        .await;
    let said = world.said(&request.run_id).await;
    let last = said.alerts.iter().rfind(|alert| alert.rule == "high").expect("it fired");
    assert_eq!((last.fired, &last.resolved), (Some((1, 18)), &Some(((1, 18), "run_over".to_owned()))));
    // Over and done: a restart finds nothing to say.
    world.server.restart().await;
    let other = open_request(spec());
    world.send(&other, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&other.run_id, "high").await;
    assert_eq!(world.said(&request.run_id).await, said);
    world.server.stop().await;
}

async fn a_run_that_ended_before_it_was_evaluated_is_all_the_same(backend: Backend) {
    let world = World::new(backend, &[HIGH]).await;
    let request = open_request(spec());
    world.faults.hold_alerts(AlertCall::Commit);
    world.send(&request, 1..=28, |seq| wave(seq, seq)).await;
    world.finish(&request, 28).await;
    world.server.crash().await;
    world.faults.allow_alerts(AlertCall::Commit, 1_000_000);
    let ended = |alerts: &[gradwatch_store::Alert]| {
        alerts.len() == 3 && alerts.iter().all(|alert| alert.state == AlertState::Resolved)
    };
    world.until(&request.run_id, "all have ended", ended).await;
    let said = world.said(&request.run_id).await;
    let ends: Vec<_> = said.alerts.iter().map(|alert| alert.resolved.clone().expect("it ended")).collect();
    let end = |step, reason: &str| ((1, step), reason.to_owned());
    assert_eq!(ends, [end(10, "condition"), end(20, "condition"), end(28, "run_over")]);
    world.server.stop().await;
}

async fn a_deleted_run_is_forgotten(backend: Backend) {
    let world = World::new(backend, &[HIGH]).await;
    let (request, other) = (open_request(spec()), open_request(spec()));
    world.send(&request, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&request.run_id, "high").await;
    let path = format!("/api/v1/runs/{}", request.run_id);
    let (status, answer) = world.rest().call(http::Method::DELETE, &path, "").await;
    assert!(status.is_success(), "{answer}");
    world.until(&request.run_id, "its alerts are gone", <[_]>::is_empty).await;
    // The others go on.
    world.send(&other, 1..=8, |seq| wave(seq, seq)).await;
    world.until_fired(&other.run_id, "high").await;
    world.server.stop().await;
}
