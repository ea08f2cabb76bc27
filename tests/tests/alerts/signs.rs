//! Rules on what happens to a run, and on its silence.

use gradwatch_server::config::Config;
use gradwatch_store::{Alert, AlertState};
use gradwatch_tests::{Backend, on_both_backends, open_request, spec};

use super::made::{World, wave, with};

on_both_backends!(
    a_run_that_crashes_is_told_and_so_is_its_return,
    silence_fires_when_it_has_lasted,
    an_event_of_a_step_fires_at_it,
    a_crash_is_told_once_over_restarts,
);

fn state_of(alerts: &[Alert], rule: &str) -> Option<AlertState> {
    alerts.iter().find(|alert| alert.rule_name == rule).map(|alert| alert.state)
}

const CRASHED: &str = "
  - name: crashed
    when: run.crashed
    receivers: [ops]
";

fn quick_to_crash(config: &mut Config) {
    config.liveness.heartbeat_ms = 200;
    config.liveness.crashed_after_s = 1;
}

async fn a_run_that_crashes_is_told_and_so_is_its_return(backend: Backend) {
    let world = World::with(backend, &[CRASHED], quick_to_crash).await;
    let request = open_request(spec());
    world.send(&request, 1..=5, |seq| wave(seq, seq)).await;
    let alerts = world.until_fired(&request.run_id, "crashed").await;
    assert_eq!(alerts[0].fired.expect("it fired").step, 5);
    world.send(&request, 6..=6, |seq| wave(seq, seq)).await;
    let resolved = |alerts: &[Alert]| alerts.iter().any(|alert| alert.state == AlertState::Resolved);
    let alerts = world.until(&request.run_id, "it is back", resolved).await;
    let alert = alerts.iter().find(|alert| alert.state == AlertState::Resolved).expect("the first");
    let (moment, reason) = alert.resolved.clone().expect("it ended");
    assert_eq!((moment.step, reason.as_str()), (6, "condition"));
    world.server.stop().await;
}

async fn a_crash_is_told_once_over_restarts(backend: Backend) {
    let world = World::with(backend, &[CRASHED], quick_to_crash).await;
    let request = open_request(spec());
    world.send(&request, 1..=5, |seq| wave(seq, seq)).await;
    let before = world.until_fired(&request.run_id, "crashed").await;
    for _ in 0..2 {
        world.server.crash().await;
        let other = open_request(spec());
        world.send(&other, 1..=5, |seq| wave(seq, seq)).await;
        world.until_fired(&other.run_id, "crashed").await;
    }
    assert_eq!(world.until_fired(&request.run_id, "crashed").await, before);
    assert_eq!(world.said(&request.run_id).await.told.len(), 1);
    world.server.stop().await;
}

async fn silence_fires_when_it_has_lasted(backend: Backend) {
    let silent = "
  - name: silent
    when: run.stalled
    for: 2s
    receivers: [ops]
";
    let world = World::new(backend, &[silent]).await;
    let request = open_request(spec());
    world.send(&request, 1..=5, |seq| wave(seq, seq)).await;
    let alerts = world.until_fired(&request.run_id, "silent").await;
    let fired = alerts[0].fired.expect("it fired");
    assert_eq!((fired.segment, fired.step), (1, 5));
    world.send(&request, 6..=6, |seq| wave(seq, seq)).await;
    let resolved = |alerts: &[Alert]| alerts.iter().any(|alert| alert.resolved.is_some());
    world.until(&request.run_id, "a step came", resolved).await;
    world.server.stop().await;
}

async fn an_event_of_a_step_fires_at_it(backend: Backend) {
    let nonfinite = "
  - name: nan
    when: numeric.nonfinite
    keep_firing_for: 3
    receivers: [ops]
";
    let world = World::new(backend, &[nonfinite]).await;
    let request = open_request(spec());
    let make = |seq: u64| with(seq, seq, "loss", if seq == 7 { f64::NAN } else { 1.0 });
    world.send(&request, 1..=20, make).await;
    let ended = |alerts: &[Alert]| state_of(alerts, "nan") == Some(AlertState::Resolved);
    let alerts = world.until(&request.run_id, "it fires and ends", ended).await;
    let [alert] = alerts.as_slice() else { panic!("{alerts:?}") };
    let resolved = alert.resolved.clone().expect("it ended").0.step;
    assert_eq!((alert.fired.expect("it fired").step, resolved), (7, 10));
    world.server.stop().await;
}
