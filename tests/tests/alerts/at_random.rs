//! Runs that go back and forth while servers crash: what stands at the end is what the live line says.

use gradwatch_proto::v1::{Frame, OpenRunRequest};
use gradwatch_store::AlertState;
use gradwatch_tests::{AlertCall, Backend, Fault, Planned, next_attempt, on_both_backends, open_request, spec};

use super::made::{DONE, HIGH, MEAN, SaidAlert, World, done, with};

on_both_backends!(what_stands_at_the_end_is_what_the_live_line_says);

/// Numbers that a seed fixes.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A run as its client knows it.
struct Model {
    /// One a segment; with the step that it resumes, and its last.
    attempts: Vec<(OpenRunRequest, u64, u64)>,
}

/// High for about half of the time, in stretches.
fn x(segment: usize, step: u64) -> f64 {
    if Dice((step / 3) * 31 + segment as u64).throw(7) < 3 { 9.0 } else { 0.0 }
}

impl Model {
    fn new() -> Self {
        Self { attempts: vec![(open_request(spec()), 0, 0)] }
    }

    fn last(&self) -> (usize, u64) {
        (self.attempts.len(), self.attempts.last().expect("one").2)
    }

    async fn send(&mut self, world: &World, steps: u64, is_last: bool) {
        let segment = self.attempts.len();
        let (request, resumed, last) = self.attempts.last_mut().expect("one");
        let (first, end) = (*last - *resumed + 1, *last - *resumed + steps);
        let base = *resumed;
        let make = |seq: u64| -> Frame {
            let step = base + seq;
            let frame = with(seq, step, "x", x(segment, step));
            if is_last && seq == end { done(frame) } else { frame }
        };
        world.send(request, first..=end, make).await;
        *last += steps;
    }

    /// Goes back to a step of the live line.
    fn go_back(&mut self, step: u64) {
        let line = self.line();
        let place = line.iter().rev().find(|(_, it)| *it <= step).copied();
        let Some((segment, step)) = place else { return };
        let resumed = self.attempts[segment - 1].0.clone();
        // One that was never opened is no segment.
        self.attempts.pop_if(|(_, resumed, last)| resumed == last);
        let newest = &self.attempts.last().expect("one that has steps").0;
        let request = next_attempt(newest, Some((&resumed, step)));
        self.attempts.push((request, step, step));
    }

    /// (segment, step) of the live line.
    fn line(&self) -> Vec<(usize, u64)> {
        let mut line: Vec<(usize, u64)> = Vec::new();
        for (index, (_, resumed, last)) in self.attempts.iter().enumerate() {
            line.retain(|(_, step)| step <= resumed);
            line.extend((resumed + 1..=*last).map(|step| (index + 1, step)));
        }
        line
    }
}

/// Where the open alert of a rule began to hold and to fire, if there is one.
type Standing = Option<((usize, u64), Option<(usize, u64)>)>;

/// What the rule that wants so many steps in a row says at the end of a line.
fn standing(line: &[(usize, u64)], hold: usize, holds: impl Fn(usize) -> bool) -> Standing {
    let began = (0..line.len()).rev().take_while(|&index| holds(index)).last()?;
    let fired = began + hold - 1;
    Some((line[began], line.get(fired).copied()))
}

fn open(alerts: &[SaidAlert], rule: &str) -> Standing {
    let is_open = |alert: &&SaidAlert| alert.rule == rule && alert.state != AlertState::Resolved;
    let mut open = alerts.iter().filter(is_open);
    let place = |(segment, step): (u32, u64)| (segment as usize, step);
    let alert = open.next()?;
    assert!(open.next().is_none(), "two open alerts of {rule}");
    Some((place(alert.pending), alert.fired.map(place)))
}

async fn what_stands_at_the_end_is_what_the_live_line_says(backend: Backend) {
    let world = World::new(backend, &[HIGH, MEAN, DONE]).await;
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut model = Model::new();
        let run = model.attempts[0].0.run_id.clone();
        for _ in 0..12 {
            match dice.throw(8) {
                0..=3 => {
                    let steps = 1 + dice.throw(12);
                    model.send(&world, steps, false).await;
                }
                4 => world.server.crash().await,
                5 => {
                    let fault = [Fault::Before, Fault::Behind, Fault::Cut(2)][dice.throw(3) as usize];
                    world.faults.plan_alerts(AlertCall::Commit, [Planned { after: 0, fault }]);
                }
                _ => {
                    let last = model.last().1;
                    model.go_back(dice.throw(last + 1));
                }
            }
        }
        model.send(&world, 1 + dice.throw(9), true).await;
        world.until_fired(&run, "done").await;

        let line = model.line();
        let values: Vec<f64> = line.iter().map(|&(segment, step)| x(segment, step)).collect();
        let mean = |index: usize| index >= 3 && values[index - 3..=index].iter().sum::<f64>() / 4.0 > 6.0;
        let said = world.said(&run).await;
        let what = format!("seed {seed}: {line:?} {values:?} {said:?}");
        assert_eq!(open(&said.alerts, "high"), standing(&line, 2, |index| values[index] > 6.0), "{what}");
        assert_eq!(open(&said.alerts, "mean"), standing(&line, 1, mean), "{what}");
        // What fired was told once, and its end once.
        for alert in said.alerts.iter().filter(|alert| alert.rule != "done") {
            let ended = alert.state == AlertState::Resolved;
            assert!(alert.fired.is_some() || !ended, "{what}");
        }
        let fired = said.alerts.iter().filter(|alert| alert.rule != "done" && alert.fired.is_some()).count();
        let ended = said.alerts.iter().filter(|alert| alert.resolved.is_some()).count();
        let told = |state: &str| said.told.iter().filter(|told| told.0 == "ops" && told.3 == state).count();
        assert_eq!((told("firing"), told("resolved")), (fired, ended), "{what}");
    }
    world.server.stop().await;
}
