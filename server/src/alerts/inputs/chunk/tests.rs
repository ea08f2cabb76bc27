use gradwatch_store::{Kind, StreamKey};
use serde_json::json;

use super::*;

const LINE: [SegmentRange; 2] = [
    SegmentRange { segment: 3, from_step: 0, to_step: 20 },
    SegmentRange { segment: 5, from_step: 0, to_step: u64::MAX },
];

fn row(segment: u32, step: u64, value: f64) -> ValuesRow {
    let received_at_us = i64::try_from(step).expect("a small step") * 10;
    ValuesRow { segment, step, received_at_us, values: vec![Some(value)] }
}

fn event(event_type: &str, segment: u32, step: Option<u64>) -> EventRow {
    EventRow::new(event_type, segment, step, 7, json!({}))
}

/// (segment, step, received, values, events) of every step handed over.
type Seen = (u32, u64, i64, Vec<Option<f64>>, Vec<String>);

fn seen(rows: Rows) -> Vec<Seen> {
    let stream = |group: &str| StreamKey { group: group.to_owned(), kind: Kind::Update, window: 10 };
    let inputs = Inputs {
        streams: vec![(stream("a"), vec!["ratio"]), (stream("b"), vec!["ratio"])],
        layers: Vec::new(),
        scalars: vec!["loss".to_owned()],
        look_back: 1,
    };
    let mut seen = Vec::new();
    Chunk::new(&LINE, &inputs, rows).for_each(|step| {
        let events = step.events.iter().map(|event| event.event_type.to_owned()).collect();
        seen.push((step.segment, step.step, step.received_at_us, step.values.to_vec(), events));
    });
    seen
}

#[test]
fn values_of_one_step_come_together_in_the_order_of_the_line() {
    let rows = Rows {
        // Segment 5 goes back to step 15, and step 30 of segment 3 is live no longer.
        steps: vec![row(3, 10, 0.1), row(3, 20, 0.2), row(3, 30, 0.3), row(5, 15, 0.4), row(5, 25, 0.5)],
        readings: vec![
            vec![row(3, 20, 2.0), row(3, 30, 3.0), row(5, 15, 4.0)],
            vec![row(3, 10, 10.0), row(5, 25, 50.0)],
        ],
        events: Vec::new(),
    };
    let expected = [
        (3, 10, 100, vec![None, Some(10.0), Some(0.1)], vec![]),
        (3, 20, 200, vec![Some(2.0), None, Some(0.2)], vec![]),
        (5, 15, 150, vec![Some(4.0), None, Some(0.4)], vec![]),
        (5, 25, 250, vec![None, Some(50.0), Some(0.5)], vec![]),
    ];
    assert_eq!(seen(rows), expected);
}

#[test]
fn events_stand_where_they_belong_whenever_they_were_recorded() {
    let refilled = EventRow { evidence: json!({"reason": "refill"}), ..event("window.restarted", 3, Some(10)) };
    let rows = Rows {
        steps: vec![row(3, 10, 0.1), row(3, 20, 0.2), row(5, 25, 0.5)],
        readings: vec![Vec::new(), Vec::new()],
        events: vec![
            event("run.crashed", 5, None),
            event("run.crashed", 3, Some(20)),
            event("edge.regime", 3, Some(20)),
            event("run.lossy", 3, Some(15)),
            refilled,
            event("window.restarted", 3, Some(10)),
            event("edge.regime", 3, Some(21)),
            event("run.stalled", 5, Some(25)),
            event("run.crashed", 5, Some(25)),
        ],
    };
    let texts = |events: &[&str]| events.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let order: Vec<(u32, u64, i64, Vec<String>)> =
        seen(rows).into_iter().map(|(segment, step, at, _, events)| (segment, step, at, events)).collect();
    let expected = [
        (3, 10, 100, texts(&["window.restarted"])),
        (3, 10, 7, texts(&["window.restarted"])),
        (3, 15, 7, texts(&["run.lossy"])),
        (3, 20, 200, texts(&["edge.regime"])),
        (3, 20, 7, texts(&["run.crashed"])),
        (5, 0, 7, texts(&["run.crashed"])),
        (5, 25, 250, texts(&["edge.regime"; 0])),
        (5, 25, 7, texts(&["run.stalled"])),
        (5, 25, 7, texts(&["run.crashed"])),
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_step_without_values_has_none_for_every_term() {
    let rows = Rows { events: vec![event("run.crashed", 3, None)], readings: vec![Vec::new(); 2], ..Rows::default() };
    assert_eq!(seen(rows), [(3, 0, 7, vec![None; 3], vec!["run.crashed".to_owned()])]);
}
