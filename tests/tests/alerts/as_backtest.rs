//! What was said while a run went on is what a backtest says of it afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use gradwatch_proto::v1::{self, Frame, OpenRunRequest, dead_directions_snapshot::Spectrum, snapshot::Body};
use gradwatch_store::{Alert, AlertState};
use gradwatch_tests::{
    AlertCall, Backend, Fault, PATIENCE, Planned, next_attempt, on_both_backends, open_request, spec,
};
use serde_json::json;

use super::made::{World, done, with};

on_both_backends!(
    a_run_that_is_resumed_after_its_end_goes_on,
    a_crash_before_the_first_step_of_an_attempt,
    a_run_that_crashes_before_its_first_step,
    any_history_says_the_same,
);

/// Of each rule: how often it fired, and where first.
type Firings = BTreeMap<String, (usize, u64)>;

/// What was said of the live line. One that ended on steps that were left and began again is one.
fn live(alerts: &[Alert], is_live: impl Fn(u32, u64) -> bool) -> Firings {
    let mut places: BTreeMap<String, BTreeSet<(u64, String)>> = BTreeMap::new();
    for alert in alerts {
        if let Some(fired) = alert.fired.filter(|fired| is_live(fired.segment, fired.step)) {
            places.entry(alert.rule_name.clone()).or_default().insert((fired.step, alert.group.clone()));
        }
    }
    let count = |(rule, places): (String, BTreeSet<(u64, String)>)| {
        let first = places.first().expect("one").0;
        (rule, (places.len(), first))
    };
    places.into_iter().map(count).collect()
}

/// What a backtest of the rules in force says of a run.
async fn tested(world: &World, run: &str) -> Firings {
    let rest = world.rest();
    let (status, answer) = rest.call(http::Method::POST, "/api/v1/alerts/backtest", &json!({}).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let report: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let mut said = Firings::new();
    for rule in report["rules"].as_array().expect("rules") {
        for firing in rule["firings"].as_array().expect("firings").iter().filter(|firing| firing["run_id"] == run) {
            let number = |name: &str| firing[name].as_u64().expect("a number");
            said.insert(
                rule["rule"].as_str().expect("a name").into(),
                (number("alerts") as usize, number("first_step")),
            );
        }
    }
    said
}

/// Waits until both say the same.
async fn same(world: &World, run: &str, what: &str, is_live: impl Fn(u32, u64) -> bool) -> Firings {
    let since = Instant::now();
    loop {
        let expected = tested(world, run).await;
        let alerts = world.until(run, "anything", |_| true).await;
        let said = live(&alerts, &is_live);
        if said == expected {
            return said;
        }
        assert!(since.elapsed() < PATIENCE / 2, "{what}: live {said:?}, backtest {expected:?}: {alerts:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn a_run_that_is_resumed_after_its_end_goes_on(backend: Backend) {
    let rules = [
        "
  - name: always
    when: scalar.x >= 0
    receivers: [ops]
",
        "
  - name: third
    when: scalar.x > 6
    for: 3
",
    ];
    let world = World::new(backend, &rules).await;
    let old = open_request(spec());
    let x = |step: u64| if step >= 19 { 9.0 } else { 0.0 };
    world.send(&old, 1..=20, |seq| with(seq, seq, "x", x(seq))).await;
    world.finish(&old, 20).await;
    let over =
        |alerts: &[Alert]| alerts.iter().any(|alert| alert.resolved.as_ref().is_some_and(|it| it.1 == "run_over"));
    world.until(&old.run_id, "its alerts end with it", over).await;
    let new = next_attempt(&old, Some((&old, 20)));
    world.send(&new, 1..=10, |seq| with(seq, 20 + seq, "x", 9.0)).await;
    let said = same(&world, &old.run_id, "resumed", |_, _| true).await;
    assert_eq!(said, Firings::from([("always".into(), (1, 1)), ("third".into(), (1, 21))]));
    // What fires again is told again, once.
    world.server.crash().await;
    world.send(&new, 11..=12, |seq| with(seq, 20 + seq, "x", 9.0)).await;
    same(&world, &old.run_id, "after a crash", |_, _| true).await;
    let told: Vec<_> = world.said(&old.run_id).await.told.into_iter().map(|told| told.3).collect();
    assert_eq!(told, ["firing", "resolved", "firing"]);
    world.server.stop().await;
}

const CRASHED: &str = "
  - name: crashed
    when: run.crashed
";

async fn a_crash_before_the_first_step_of_an_attempt(backend: Backend) {
    let world = World::with(backend, &[CRASHED], |config| {
        config.liveness.heartbeat_ms = 200;
        config.liveness.crashed_after_s = 1;
    })
    .await;
    let old = open_request(spec());
    // Steps 2, 4, … 20.
    world.send(&old, 1..=10, |seq| with(seq, 2 * seq, "x", 0.0)).await;
    // The checkpoint that it goes on from is of a step that was never sent.
    let new = next_attempt(&old, Some((&old, 15)));
    drop(world.open(&new).await);
    world.until_fired(&old.run_id, "crashed").await;
    let said = same(&world, &old.run_id, "while it is gone", |segment, step| segment == 2 || step <= 15).await;
    assert_eq!(said["crashed"], (1, 14));
    world.send(&new, 1..=3, |seq| with(seq, 15 + seq, "x", 0.0)).await;
    let ended = |alerts: &[Alert]| alerts.iter().any(|it| it.resolved.as_ref().is_some_and(|it| it.0.step == 16));
    world.until(&old.run_id, "it is back", ended).await;
    world.server.stop().await;
}

async fn a_run_that_crashes_before_its_first_step(backend: Backend) {
    let first = "
  - name: first
    when: scalar.x > 6
";
    let world = World::with(backend, &[CRASHED, first], |config| {
        config.liveness.heartbeat_ms = 200;
        config.liveness.crashed_after_s = 1;
    })
    .await;
    let request = open_request(spec());
    drop(world.open(&request).await);
    world.until_fired(&request.run_id, "crashed").await;
    let make = |seq: u64| Frame {
        seq,
        step: seq + 4,
        scalars: [("x".to_owned(), if seq == 1 { 9.0 } else { 0.0 })].into(),
        ..Frame::default()
    };
    world.send(&request, 1..=3, make).await;
    let ended =
        |alerts: &[Alert]| alerts.iter().any(|it| it.rule_name == "crashed" && it.state == AlertState::Resolved);
    let alerts = world.until(&request.run_id, "it is back", ended).await;
    let crashed = alerts.iter().find(|it| it.rule_name == "crashed").expect("it fired");
    assert_eq!(crashed.resolved.as_ref().expect("it ended").0.step, 5);
    let said = same(&world, &request.run_id, "crashed first", |_, _| true).await;
    assert_eq!(said, Firings::from([("crashed".into(), (1, 0)), ("first".into(), (1, 5))]));
    world.server.stop().await;
}

const RULES: &str = r"
  - {name: high, when: scalar.x > 6, for: 2, receivers: [ops]}
  - {name: kept, when: scalar.x > 8, keep_firing_for: 3}
  - {name: mean, when: 'mean(scalar.x, 4) > 4'}
  - {name: slope, when: 'slope(scalar.x, 5) > 0.5 and delta(scalar.x) > 0'}
  - {name: rare, when: 'scalar.rare > 3 and scalar.x < 9'}
  - {name: never, when: 'scalar.nothing > 3 or scalar.x > 8', for: 3}
  - {name: norm, when: 'edge.update_norm > quantile(edge.update_norm, 0.6, 6)'}
  - {name: restarted, when: window.restarted, keep_firing_for: 2}
  - {name: started, when: segment.started, keep_firing_for: 2}
  - {name: job, when: job.marked, keep_firing_for: 4}
  - {name: warming, when: transition to warming}
  - {name: plateau, when: transition to plateau}
  - {name: layer, when: dead_directions.samples > 4999 and scalar.x > 6}
  - {name: layers, when: 'mean(dead_directions.samples, 3) > 5500', for: 2}
";

/// Numbers that a seed fixes.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Attempt {
    request: OpenRunRequest,
    resumed: u64,
    steps: Vec<u64>,
}

const WIDTH: u32 = 8;

fn with_layer() -> v1::StreamSpec {
    let layer = v1::Layer {
        name: "blocks.0".into(),
        instrument: v1::LayerInstrument::DeadDirections.into(),
        width: WIDTH,
        activation: String::new(),
    };
    v1::StreamSpec { layers: vec![layer], ..spec() }
}

fn snapshot(samples: u64) -> v1::Snapshot {
    let eigenvalues = (0..WIDTH).map(|k| f64::from(k).exp()).collect();
    let body = v1::DeadDirectionsSnapshot {
        spectrum: Some(Spectrum::Eigenvalues(v1::Doubles { values: eigenvalues })),
        singular_values: (0..WIDTH).rev().map(|k| f64::from(k + 1)).collect(),
        samples,
        batch: v1::BatchKind::HeldOut.into(),
        is_float32: false,
        gauge_removed: 1,
    };
    v1::Snapshot { layer: 0, body: Some(Body::DeadDirections(body)) }
}

/// A frame that its place fixes.
fn made(seq: u64, segment: usize, step: u64) -> Frame {
    let mut dice = Dice(step * 31 + segment as u64 * 977);
    dice.throw(2);
    let mut frame = with(seq, step, "x", dice.throw(10) as f64);
    if dice.throw(4) == 0 {
        frame.scalars.insert("rare".into(), dice.throw(7) as f64);
    }
    if dice.throw(9) == 0 {
        frame.happened.push("marked".into());
    }
    if dice.throw(3) == 0 {
        frame.snapshots.push(snapshot(4_000 + 1_000 * dice.throw(4)));
    }
    frame
}

impl Attempt {
    fn new(request: OpenRunRequest, resumed: u64) -> Self {
        Self { request, resumed, steps: Vec::new() }
    }

    fn last(&self) -> u64 {
        self.steps.last().copied().unwrap_or(self.resumed)
    }
}

async fn any_history_says_the_same(backend: Backend) {
    let world = World::new(backend, &[RULES]).await;
    let mut fired = BTreeSet::new();
    for seed in 0..6 {
        let mut dice = Dice(seed);
        dice.throw(2);
        let mut attempts = vec![Attempt::new(open_request(with_layer()), 0)];
        let run = attempts[0].request.run_id.clone();
        for turn in 0..16 {
            let segment = attempts.len();
            let newest = attempts.last_mut().expect("one");
            match if turn == 15 { 0 } else { dice.throw(11) } {
                0..=4 => {
                    let first = newest.steps.len() as u64 + 1;
                    for _ in 0..=dice.throw(12) {
                        let gap = if dice.throw(5) == 0 { 1 + dice.throw(3) } else { 0 };
                        newest.steps.push(newest.last() + 1 + gap);
                    }
                    let Attempt { request, steps, .. } = newest;
                    let end = steps.len() as u64;
                    let frame = |seq: u64| made(seq, segment, steps[seq as usize - 1]);
                    world
                        .send(request, first..=end, |seq| if seq == end { done(frame(seq)) } else { frame(seq) })
                        .await;
                }
                5 => world.server.crash().await,
                6 => {
                    let fault = [Fault::Before, Fault::Behind, Fault::Cut(2)][dice.throw(3) as usize];
                    world.faults.plan_alerts(AlertCall::Commit, [Planned { after: 0, fault }]);
                }
                7 if !newest.steps.is_empty() => {
                    world.finish(&newest.request, newest.steps.len() as u64).await;
                    let (old, last) = (newest.request.clone(), newest.last());
                    attempts.push(Attempt::new(next_attempt(&old, Some((&old, last))), last));
                }
                8 if dice.throw(3) == 0 && !newest.steps.is_empty() => {
                    // Another launch that has nothing to do with it.
                    let old = newest.request.clone();
                    attempts.push(Attempt::new(next_attempt(&old, None), 0));
                }
                _ if !newest.steps.is_empty() => {
                    // To a step of any attempt that is live, or between two.
                    let back = newest.last() - dice.throw(newest.last().min(20) + 1);
                    let of = (0..segment).rev().find(|&at| at == 0 || attempts[at].resumed < back).expect("the first");
                    let resumed = attempts[of].request.clone();
                    let newest = attempts.last().expect("one").request.clone();
                    attempts.push(Attempt::new(next_attempt(&newest, Some((&resumed, back))), back));
                }
                _ => {}
            }
        }
        attempts.pop_if(|attempt| attempt.steps.is_empty());
        let is_live = |segment: u32, step: u64| {
            attempts.iter().skip(segment as usize).all(|later| later.steps.is_empty() || step <= later.resumed)
        };
        let history: Vec<_> = attempts.iter().map(|it| (it.resumed, &it.steps)).collect();
        fired.extend(same(&world, &run, &format!("seed {seed}: {history:?}"), is_live).await.into_keys());
    }
    for rule in ["high", "kept", "mean", "slope", "rare", "norm", "restarted", "started", "job", "layer", "layers"] {
        assert!(fired.contains(rule), "{rule} never fired, which compares nothing: {fired:?}");
    }
    world.server.stop().await;
}
