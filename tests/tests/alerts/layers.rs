//! Rules on layers wait for readings that come later; others do not wait for them.

use gradwatch_proto::v1::{self, Frame, dead_directions_snapshot::Spectrum, snapshot::Body};
use gradwatch_tests::{Backend, next_attempt, on_both_backends, open_request};

use super::made::{DONE, World, done, with};

on_both_backends!(rules_on_layers_wait_for_readings_that_are_still_to_come, what_waits_is_found_after_a_crash);

const WIDTH: u32 = 8;
/// Every reading says so much.
const MANY: &str = "
  - name: many
    when: dead_directions.samples > 4999 and scalar.x > 6
    receivers: [ops]
";

fn spec() -> v1::StreamSpec {
    let layer = v1::Layer {
        name: "blocks.0".into(),
        instrument: v1::LayerInstrument::DeadDirections.into(),
        width: WIDTH,
        activation: String::new(),
    };
    v1::StreamSpec { layers: vec![layer], ..gradwatch_tests::spec() }
}

/// A step with `x`, and with a snapshot.
fn snapped(seq: u64, step: u64, x: f64) -> Frame {
    let eigenvalues = (0..WIDTH).map(|k| f64::from(k).exp()).collect();
    let body = v1::DeadDirectionsSnapshot {
        spectrum: Some(Spectrum::Eigenvalues(v1::Doubles { values: eigenvalues })),
        singular_values: (0..WIDTH).rev().map(|k| f64::from(k + 1)).collect(),
        samples: 5_000,
        batch: v1::BatchKind::HeldOut.into(),
        is_float32: false,
        gauge_removed: 1,
    };
    let snapshot = v1::Snapshot { layer: 0, body: Some(Body::DeadDirections(body)) };
    Frame { snapshots: vec![snapshot], ..with(seq, step, "x", x) }
}

/// High at 3 and 4, and at 7.
fn made(seq: u64) -> Frame {
    let frame = snapped(seq, seq, if [3, 4, 7].contains(&seq) { 9.0 } else { 0.0 });
    if seq == 10 { done(frame) } else { frame }
}

fn steps(alerts: &[gradwatch_store::Alert]) -> Vec<(u64, Option<u64>)> {
    let mut steps: Vec<_> = alerts
        .iter()
        .filter(|alert| alert.rule_name == "many")
        .map(|alert| (alert.pending.step, alert.resolved.as_ref().map(|(moment, _)| moment.step)))
        .collect();
    steps.sort_unstable();
    steps
}

async fn rules_on_layers_wait_for_readings_that_are_still_to_come(backend: Backend) {
    let world = World::new(backend, &[MANY, DONE]).await;
    let request = open_request(spec());
    world.faults.hold_payloads();
    world.send(&request, 1..=10, made).await;
    // The other lane is at the end already.
    let alerts = world.until_fired(&request.run_id, "done").await;
    assert_eq!(steps(&alerts), []);
    world.faults.give_payloads();
    let whole = |alerts: &[gradwatch_store::Alert]| steps(alerts) == [(3, Some(5)), (7, Some(8))];
    let alerts = world.until(&request.run_id, "both stretches", whole).await;
    let alert = alerts.iter().find(|alert| alert.rule_name == "many").expect("it fired");
    assert_eq!(alert.group, "blocks.0");
    assert_eq!(alert.values["dead_directions.samples"], 5_000.0);
    world.server.stop().await;
}

async fn what_waits_is_found_after_a_crash(backend: Backend) {
    let world = World::new(backend, &[MANY, DONE]).await;
    let request = open_request(spec());
    world.faults.hold_payloads();
    world.send(&request, 1..=10, made).await;
    world.until_fired(&request.run_id, "done").await;
    world.server.crash().await;
    // It goes back while they wait: of those behind 5 nothing is said.
    let new = next_attempt(&request, Some((&request, 5)));
    world.send(&new, 1..=3, |seq| snapped(seq, 5 + seq, if seq == 2 { 9.0 } else { 0.0 })).await;
    world.faults.give_payloads();
    let whole = |alerts: &[gradwatch_store::Alert]| steps(alerts) == [(3, Some(5)), (7, Some(8))];
    let alerts = world.until(&request.run_id, "both stretches", whole).await;
    let segments: Vec<_> = alerts.iter().filter(|it| it.rule_name == "many").map(|it| it.pending.segment).collect();
    assert!(segments.contains(&1) && segments.contains(&2), "{segments:?}");
    world.server.stop().await;
}
