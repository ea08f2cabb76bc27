//! What a run must read, recomputed without a server, and the comparison to the bit.

use gradwatch_spectral::{
    detectors::{Detection, DetectorConfig, Regime},
    edge::{EdgeReading, EdgeStream},
    followers::Followers,
};
use serde_json::Value;

use crate::job::LEARNING_RATE;

/// One update of a group.
#[derive(Clone, Debug)]
pub struct Row {
    /// The step it ends at.
    pub step: u64,
    /// The step it starts from.
    pub base_step: u64,
    /// Its sketch.
    pub sketch: Vec<f32>,
}

/// The rows of a group that is submitted every `every` steps from step 0 on; `sketches[i]` is the update from step
/// i·every to (i + 1)·every.
pub fn rows(sketches: Vec<Vec<f32>>, every: u64) -> Vec<Row> {
    let row = |(base_step, sketch)| Row { step: base_step + every, base_step, sketch };
    (0..).step_by(every as usize).zip(sketches).map(row).collect()
}

/// A reading at a step.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The step.
    pub step: u64,
    /// The reading, completed by the followers.
    pub reading: EdgeReading,
    /// The regime held after it.
    pub regime: Regime,
}

/// A detection with the window of its stream.
#[derive(Clone, Debug)]
pub struct Detected {
    /// W.
    pub window: usize,
    /// What was detected.
    pub detection: Detection,
}

/// The readings of one group, and what the detectors say of them.
#[derive(Debug)]
pub struct Offline {
    /// One list a window length, in the declared order.
    pub readings: Vec<Vec<Expected>>,
    /// In the order of steps, then windows.
    pub detections: Vec<Detected>,
}

impl Offline {
    /// Reads rows with windows over a group of `parameter_count` parameters. A row that does not start where the last
    /// one ended starts the windows again.
    pub fn compute(rows: &[Row], windows: &[u32], parameter_count: usize) -> Self {
        let lengths: Vec<usize> = windows.iter().map(|&window| window as usize).collect();
        let dim = rows.first().map_or(1, |row| row.sketch.len());
        let mut stream = EdgeStream::new(dim, &lengths, parameter_count as u64, true).expect("valid arguments");
        let config = DetectorConfig::default();
        let mut followers: Vec<Followers> = lengths.iter().map(|&window| Followers::new(window, &config)).collect();
        for follower in followers.iter_mut().skip(1) {
            *follower = follower.clone().without_spike();
        }
        let mut offline = Self { readings: vec![Vec::new(); windows.len()], detections: Vec::new() };
        let mut last_step = None;
        for row in rows {
            if last_step.is_some_and(|last| last != row.base_step) {
                stream.restart();
            }
            last_step = Some(row.step);
            let readings = stream.push(&row.sketch, Some(LEARNING_RATE)).expect("a finite row");
            for (index, mut reading) in readings.into_iter().enumerate() {
                let follower = &mut followers[index];
                let detections = follower.follow(row.step, &mut reading);
                let window = lengths[index];
                offline.detections.extend(detections.into_iter().map(|detection| Detected { window, detection }));
                offline.readings[index].push(Expected { step: row.step, reading, regime: follower.regime() });
            }
        }
        offline
    }
}

/// Every reading of a REST answer is the expected one, to the bit, and none is missing or there twice.
pub fn assert_readings(items: &[Value], expected: &[Expected]) {
    let steps = |item: &Value| item["step"].as_u64().expect("a step");
    let got: Vec<u64> = items.iter().map(steps).collect();
    let want: Vec<u64> = expected.iter().map(|expected| expected.step).collect();
    assert_eq!(got, want, "steps");
    for (item, expected) in items.iter().zip(expected) {
        let Ok(Value::Object(fields)) = serde_json::to_value(&expected.reading) else {
            panic!("a reading is an object");
        };
        assert_eq!(item["regime"], expected.regime.as_str(), "step {}", expected.step);
        assert_eq!(item["warming"], expected.reading.is_warming(), "step {}", expected.step);
        for (name, want) in &fields {
            // The one name that is shorter on the wire.
            let name = if name == "overlap_unresolved" { "unresolved" } else { name };
            let got = item.get(name).unwrap_or_else(|| panic!("no {name} in {item}"));
            assert!(same_bits(got, want), "step {}: {name}: {got} instead of {want}", expected.step);
        }
    }
}

/// Detector events of a REST answer are those expected, with their evidence to the bit.
pub fn assert_detected(events: &[Value], expected: &[Detected]) {
    let got: Vec<&Value> = events.iter().filter(|event| is_detection(event)).collect();
    let name = |detected: &Detected| format!("{} at {}", detected.detection.detector, detected.detection.step);
    let want: Vec<String> = expected.iter().map(name).collect();
    let names: Vec<String> = got
        .iter()
        .map(|event| format!("{} at {}", event["type"].as_str().unwrap_or_default(), event["step"]))
        .collect();
    assert_eq!(names, want);
    for (event, Detected { window, detection }) in got.into_iter().zip(expected) {
        assert_eq!(event["window"], *window);
        assert_eq!(event["from"].as_str(), detection.from.map(Regime::as_str));
        assert_eq!(event["to"].as_str(), detection.to.map(Regime::as_str));
        let evidence = serde_json::to_value(&detection.evidence).expect("evidence is JSON");
        assert!(same_bits(&event["evidence"], &evidence), "{event} instead of {evidence}");
    }
}

fn is_detection(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|name| name.starts_with("edge.") || name == "update.spike")
}

/// Equal, with float64 compared by their bits: −0 is not 0, and nothing is nearly equal.
pub(crate) fn same_bits(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() || right.is_f64() => {
            left.as_f64().map(f64::to_bits) == right.as_f64().map(f64::to_bits)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_bits(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same_bits(left, right)))
        }
        _ => left == right,
    }
}
