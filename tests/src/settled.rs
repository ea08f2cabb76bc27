//! What a server must have stored of what writers sent, and the comparison with what it has. The reference is plain:
//! frames are a function of their seq, readings a function of the frames that were settled.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    made::{GROUPS, Made, PARAMETERS, Slot, WINDOWS},
    offline::{Offline, Row, assert_detected, assert_readings},
    rest::Rest,
    writer::Writer,
};

/// The attempts of one run in the order of their opening, each resuming the last, and where each was resumed.
pub struct Attempt<'a> {
    /// Its one writer; everything it sent is acknowledged.
    pub writer: &'a Writer,
    /// The last step of it that still stands.
    pub live_to_step: u64,
    /// The last step that it had sent or was about to send when the next attempt was opened. Later ones fire nothing.
    pub told_to_step: u64,
}

/// Compares a run that is over with what it must be.
pub async fn assert_settled(rest: &Rest, run_id: &str, attempts: &[Attempt<'_>]) {
    let run = format!("/api/v1/runs/{run_id}");
    let mut counted = Counted::default();
    for attempt in attempts {
        let Some(segment) = attempt.writer.segment() else { continue };
        let stored = Stored::read(rest, &run, segment).await;
        let settled = assert_steps(attempt, &stored.steps);
        assert_numbers(attempt, &settled, &stored.events);
        for (group, (name, every)) in GROUPS.iter().enumerate() {
            let rows = assert_restarts(attempt, &settled, group, *every, &stored.events);
            let Some(rows) = rows else { continue };
            let expected = Offline::compute(&rows, &WINDOWS, PARAMETERS);
            for (window, expected) in WINDOWS.iter().zip(&expected.readings) {
                let path = format!("{run}/readings/edge?segment={segment}&group={name}&window={window}&limit=1000");
                assert_readings(&rest.all(&path).await, expected);
            }
            let of_group: Vec<Value> = stored.events.iter().filter(|it| it["group"] == *name).cloned().collect();
            assert_detections(attempt, &expected, &of_group);
        }
        counted.add(attempt, &settled);
    }
    let found = rest.get(&run).await;
    let newest = attempts.last().expect("an attempt").writer;
    assert_eq!(found["state"], "finished", "{found}");
    counted.assert(&found["counters"]);
    if let Some(last) = counted.last_step {
        assert_eq!(found["last_step"], last, "segment {:?}: {found}", newest.segment());
    }
}

struct Stored {
    steps: Vec<Value>,
    events: Vec<Value>,
}

impl Stored {
    async fn read(rest: &Rest, run: &str, segment: u32) -> Self {
        let steps = rest.all(&format!("{run}/steps?segment={segment}&limit=1000")).await;
        let events = rest.all(&format!("{run}/events?segment={segment}&limit=1000")).await;
        Self { steps, events }
    }
}

/// What the run's counters must say, over all attempts.
#[derive(Default)]
struct Counted {
    seqs: u64,
    steps: u64,
    rejected_at_least: u64,
    rejected_at_most: u64,
    nonfinite: u64,
    last_step: Option<u64>,
}

impl Counted {
    fn add(&mut self, attempt: &Attempt<'_>, settled: &[u64]) {
        let writer = attempt.writer;
        self.seqs += writer.last_seq();
        self.steps += settled.len() as u64;
        let flawed = (1..).zip(writer.slots()).filter(|(_, slot)| matches!(slot, Slot::Flawed(_)));
        for (seq, _) in flawed {
            self.rejected_at_most += 1;
            self.rejected_at_least += u64::from(!is_given_up(writer, seq));
        }
        self.nonfinite += settled.iter().filter(|&&seq| slot(writer, seq) == Slot::NonFinite).count() as u64;
        self.last_step = settled.last().map(|&seq| writer.made().step(seq));
    }

    /// Every seq is a step, or counted as rejected, or as dropped, and none is two of them.
    fn assert(&self, counters: &Value) {
        let count = |name: &str| counters[name].as_u64().unwrap_or_else(|| panic!("no {name} in {counters}"));
        let (rejected, dropped) = (count("rejected"), count("dropped"));
        assert_eq!(count("steps"), self.steps, "{counters}");
        assert!((self.rejected_at_least..=self.rejected_at_most).contains(&rejected), "{counters}");
        assert_eq!(self.steps + rejected + dropped, self.seqs, "{counters}");
        assert_eq!(count("nonfinite"), self.nonfinite, "{counters}");
        assert_eq!(count("incomplete"), 0, "{counters}");
    }
}

fn slot(writer: &Writer, seq: u64) -> Slot {
    writer.slots()[seq as usize - 1]
}

fn is_given_up(writer: &Writer, seq: u64) -> bool {
    writer.given_up().range(..=seq).next_back().is_some_and(|(_, &to_seq)| seq <= to_seq)
}

/// Each acknowledged seq is one step row with what was sent, or was flawed, or given up. Answers the seqs of the steps.
fn assert_steps(attempt: &Attempt<'_>, steps: &[Value]) -> Vec<u64> {
    let writer = attempt.writer;
    let made = writer.made();
    let mut settled = Vec::with_capacity(steps.len());
    for step in steps {
        let seqs: Vec<u64> = step["seqs"].as_array().into_iter().flatten().filter_map(number).collect();
        let seq = seqs[0];
        assert_eq!(seqs, vec![seq; made.shards as usize], "{step}");
        assert!((1..=writer.sent_seq()).contains(&seq), "nobody sent {step}");
        assert!(!matches!(slot(writer, seq), Slot::Flawed(_)), "an invalid frame was stored: {step}");
        assert_eq!(step["step"], made.step(seq), "{step}");
        assert_eq!(step["scalars"]["loss"].as_f64().map(f64::to_bits), Some(made.loss(seq).to_bits()), "{step}");
        assert_eq!(step["complete"], true, "{step}");
        settled.push(seq);
    }
    assert!(settled.is_sorted_by(|left, right| left < right), "stored twice: {settled:?}");
    let missing = |seq: &u64| {
        settled.binary_search(seq).is_err()
            && !is_given_up(writer, *seq)
            && !matches!(slot(writer, *seq), Slot::Flawed(_))
    };
    let lost: Vec<u64> = (1..=writer.last_seq()).filter(missing).collect();
    assert_eq!(lost, Vec::<u64>::new(), "acknowledged and not stored; stored: {settled:?}");
    settled
}

fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

/// Events that tell of a stretch: that a segment began, that values are not finite, that frames were given up.
fn assert_numbers(attempt: &Attempt<'_>, settled: &[u64], events: &[Value]) {
    let writer = attempt.writer;
    let steps_of = |name: &str| -> Vec<u64> {
        events.iter().filter(|event| event["type"] == name).filter_map(|event| event["step"].as_u64()).collect()
    };
    let first = settled.first().map(|&seq| writer.made().step(seq));
    assert_told(attempt, "segment.started", &steps_of("segment.started"), first.as_slice());
    let mut nonfinite = Vec::new();
    let mut last = Slot::Frame;
    for &seq in settled {
        let now = slot(writer, seq);
        if now == Slot::NonFinite && last != Slot::NonFinite {
            nonfinite.push(writer.made().step(seq));
        }
        last = now;
    }
    assert_told(attempt, "numeric.nonfinite", &steps_of("numeric.nonfinite"), &nonfinite);
    // What was given up is told with its seqs, which are disjoint from what was stored.
    let mut told = BTreeSet::new();
    for event in events.iter().filter(|event| event["type"] == "run.lossy") {
        let bounds = number(&event["evidence"]["from_seq"]).zip(number(&event["evidence"]["to_seq"]));
        let (from_seq, to_seq) = bounds.unwrap_or_else(|| panic!("{event}"));
        assert!(writer.made().step(from_seq) <= attempt.told_to_step, "{event}");
        for seq in from_seq..=to_seq {
            assert!(is_given_up(writer, seq) && !settled.contains(&seq), "{event}");
            assert!(told.insert(seq), "told twice: {event}");
        }
    }
    for (&from_seq, &to_seq) in writer.given_up() {
        if writer.made().step(from_seq) <= attempt.live_to_step {
            let silent = |seq: &u64| {
                !told.contains(seq) && !settled.contains(seq) && !matches!(slot(writer, *seq), Slot::Flawed(_))
            };
            assert_eq!((from_seq..=to_seq).find(silent), None, "given up and not told: {from_seq} to {to_seq}");
        }
    }
}

/// Events at the steps expected, once each. Behind the live line, where it was superseded meanwhile, they may be
/// missing: late frames fire nothing.
fn assert_told(attempt: &Attempt<'_>, what: &str, got: &[u64], want: &[u64]) {
    let live = |steps: &[u64]| -> Vec<u64> { steps.iter().copied().filter(|&it| it <= attempt.live_to_step).collect() };
    assert_eq!(live(got), live(want), "{what}");
    let late: Vec<&u64> = got.iter().filter(|&&step| step > attempt.live_to_step).collect();
    assert!(late.iter().all(|&&step| step <= attempt.told_to_step), "{what}: {late:?} of a superseded attempt");
    assert!(late.iter().all(|step| want.contains(step)), "{what}: {late:?} of {want:?}");
    assert!(late.is_sorted_by(|left, right| left < right), "{what}: {late:?} twice");
}

/// The rows of a group as they were settled. A window that lost its rows in a refill, which only a client that let go of
/// frames may bring about, starts again where an event says so. `None` where such an event may be missing.
fn assert_restarts(
    attempt: &Attempt<'_>,
    settled: &[u64],
    group: usize,
    every: u64,
    events: &[Value],
) -> Option<Vec<Row>> {
    let writer = attempt.writer;
    let made: &Made = writer.made();
    let is_restart = |event: &&Value| event["type"] == "window.restarted" && event["group"] == GROUPS[group].0;
    let (refills, holes): (Vec<&Value>, Vec<&Value>) =
        events.iter().filter(is_restart).partition(|event| event["evidence"]["reason"] == "refill");
    let refilled: Vec<u64> = refills.iter().filter_map(|event| event["step"].as_u64()).collect();
    assert!(writer.forgot() || refilled.is_empty(), "a window was lost: {refills:?}");
    if writer.forgot() && attempt.live_to_step < u64::MAX {
        return None;
    }
    let mut rows: Vec<Row> = Vec::new();
    let (mut last_step, mut expected) = (None, Vec::new());
    let mut before = 0;
    for &seq in settled {
        let step = made.step(seq);
        let lost = refilled.iter().any(|&at| before <= at && at < step);
        before = step;
        if lost {
            last_step = None;
        }
        if group == 0 && slot(writer, seq) == Slot::NonFinite {
            last_step = None;
            continue;
        }
        if !seq.is_multiple_of(every) {
            continue;
        }
        let starts_from = step - every * crate::made::STRIDE;
        if last_step.is_some_and(|last| last != starts_from) {
            expected.push(step);
        }
        // A window that starts again does not start where the last row ended, whatever the row says.
        let base_step = if last_step == Some(starts_from) { starts_from } else { u64::MAX };
        rows.push(Row { step, base_step, sketch: made.sketch(group, seq) });
        last_step = Some(step);
    }
    let got: Vec<u64> = holes.iter().filter_map(|event| event["step"].as_u64()).collect();
    assert!(holes.iter().all(|event| event["evidence"]["reason"] == "hole"), "{holes:?}");
    assert_told(attempt, "window.restarted", &got, &expected);
    Some(rows)
}

/// The detectors say what they say of an undisturbed run.
fn assert_detections(attempt: &Attempt<'_>, expected: &Offline, events: &[Value]) {
    let live = |event: &&Value| event["step"].as_u64().is_some_and(|step| step <= attempt.live_to_step);
    let of_detectors =
        |event: &&Value| event["type"].as_str().is_some_and(|name| name.starts_with("edge.") || name == "update.spike");
    let (told, late): (Vec<&Value>, Vec<&Value>) = events.iter().filter(of_detectors).partition(live);
    let told: Vec<Value> = told.into_iter().cloned().collect();
    let standing: Vec<_> =
        expected.detections.iter().filter(|it| it.detection.step <= attempt.live_to_step).cloned().collect();
    assert_detected(&told, &standing);
    for event in late {
        let known = expected
            .detections
            .iter()
            .any(|it| json!(it.detection.step) == event["step"] && it.detection.detector.as_str() == event["type"]);
        assert!(known && event["step"].as_u64() <= Some(attempt.told_to_step), "{event}");
    }
}
