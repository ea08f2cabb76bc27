//! A run that goes back: what was said of the steps that were left ends, and the rest is as if they had never been.

use gradwatch_tests::{Backend, next_attempt, on_both_backends, open_request, spec};

use super::made::{DONE, HIGH, SaidAlert, World, done, wave, with};

on_both_backends!(
    what_fired_on_steps_that_were_left_ends,
    what_was_firing_where_it_went_back_goes_on,
    what_had_ended_on_steps_that_were_left_fires_again,
    late_frames_fire_nothing,
);

fn of_rule<'a>(alerts: &'a [SaidAlert], rule: &str) -> Vec<&'a SaidAlert> {
    alerts.iter().filter(|alert| alert.rule == rule).collect()
}

/// (pending, fired, resolved, why), by place.
type Course = ((u32, u64), Option<(u32, u64)>, Option<((u32, u64), String)>);

fn course(alert: &SaidAlert) -> Course {
    (alert.pending, alert.fired, alert.resolved.clone())
}

fn ended(place: (u32, u64), reason: &str) -> Option<((u32, u64), String)> {
    Some((place, reason.to_owned()))
}

async fn what_fired_on_steps_that_were_left_ends(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let old = open_request(spec());
    world.send(&old, 1..=28, |seq| wave(seq, seq)).await;
    let fired_at = |alerts: &[gradwatch_store::Alert], step| {
        alerts.iter().any(|alert| alert.fired.is_some_and(|moment| moment.step == step))
    };
    world.until(&old.run_id, "it fires at 28", |alerts| fired_at(alerts, 28)).await;

    // The new attempt never gets high.
    let new = next_attempt(&old, Some((&old, 20)));
    world.send(&new, 1..=15, |seq| with(seq, 20 + seq, if seq == 15 { "done" } else { "x" }, 1.0)).await;
    world.until_fired(&old.run_id, "done").await;
    let said = world.said(&old.run_id).await;
    let courses: Vec<_> = of_rule(&said.alerts, "high").into_iter().map(course).collect();
    assert_eq!(
        courses,
        [
            ((1, 7), Some((1, 8)), ended((1, 10), "condition")),
            ((1, 17), Some((1, 18)), ended((1, 20), "condition")),
            ((1, 27), Some((1, 28)), ended((1, 20), "superseded")),
        ]
    );
    let told = |step: u64| said.told.iter().filter(|told| told.2 == step && told.0 == "ops").count();
    assert_eq!((told(8), told(18), told(28)), (2, 2, 2));
    world.server.stop().await;
}

async fn what_was_firing_where_it_went_back_goes_on(backend: Backend) {
    let high = "
  - name: high
    when: scalar.x > 6
    for: 2
    receivers: [ops]
";
    let world = World::new(backend, &[high, DONE]).await;
    let old = open_request(spec());
    // It fires from 18 on, and goes on doing so.
    let always_high = |seq: u64| with(seq, seq, "x", if seq >= 17 { 9.0 } else { 0.0 });
    world.send(&old, 1..=30, always_high).await;
    let before = world.until_fired(&old.run_id, "high").await;
    let new = next_attempt(&old, Some((&old, 22)));
    world.send(&new, 1..=5, |seq| with(seq, 22 + seq, "x", 8.0)).await;
    world.send(&new, 6..=6, |seq| done(with(seq, 22 + seq, "x", 0.0))).await;
    let after = world.until_fired(&old.run_id, "done").await;
    let high: Vec<_> = after.iter().filter(|alert| alert.rule_name == "high").collect();
    assert_eq!(high.len(), 1, "{high:?}");
    assert_eq!(high[0].alert_id, before[0].alert_id);
    let said = world.said(&old.run_id).await;
    let alert = of_rule(&said.alerts, "high")[0];
    assert_eq!(course(alert), ((1, 17), Some((1, 18)), ended((2, 28), "condition")));
    assert_eq!(said.told.len(), 2, "it was told once that it fires: {:?}", said.told);
    world.server.stop().await;
}

async fn what_had_ended_on_steps_that_were_left_fires_again(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let old = open_request(spec());
    world.send(&old, 1..=15, |seq| wave(seq, seq)).await;
    let resolved = |alerts: &[gradwatch_store::Alert]| alerts.iter().any(|alert| alert.resolved.is_some());
    world.until(&old.run_id, "it ends at 10", resolved).await;
    // Back to where it fired.
    let new = next_attempt(&old, Some((&old, 9)));
    world.send(&new, 1..=3, |seq| with(seq, 9 + seq, "x", 9.0)).await;
    world.send(&new, 4..=4, |seq| done(with(seq, 9 + seq, "x", 0.0))).await;
    world.until_fired(&old.run_id, "done").await;
    let said = world.said(&old.run_id).await;
    let courses: Vec<_> = of_rule(&said.alerts, "high").into_iter().map(course).collect();
    let first = ((1, 7), Some((1, 8)), ended((1, 10), "condition"));
    let again = ((1, 7), Some((1, 8)), ended((2, 13), "condition"));
    assert!(courses == [first.clone(), again.clone()] || courses == [again, first], "{courses:?}");
    world.server.stop().await;
}

async fn late_frames_fire_nothing(backend: Backend) {
    let world = World::new(backend, &[HIGH, DONE]).await;
    let old = open_request(spec());
    let (mut old_stream, _) = world.open(&old).await;
    old_stream.frames((1..=5).map(|seq| wave(seq, seq)).collect()).await;
    old_stream.acknowledged(5).await;
    let new = next_attempt(&old, Some((&old, 5)));
    world.send(&new, 1..=1, |seq| with(seq, 5 + seq, "x", 0.0)).await;
    // Steps 7, 8 and 9 would fire.
    old_stream.frames((6..=12).map(|seq| wave(seq, seq)).collect()).await;
    old_stream.acknowledged(12).await;
    world.send(&new, 2..=2, |seq| done(with(seq, 5 + seq, "x", 0.0))).await;
    world.until_fired(&old.run_id, "done").await;
    // Nor when everything is read again from the store.
    world.server.crash().await;
    let other = open_request(spec());
    world.send_all(&other, 1..=9).await;
    let said = world.said(&old.run_id).await;
    assert_eq!(of_rule(&said.alerts, "high"), Vec::<&SaidAlert>::new());
    world.server.stop().await;
}
