//! What a segment tells of: events with their evidence.

use gradwatch_spectral::detectors::Detection;
use gradwatch_store::{EventRow, StreamKey};
use serde_json::{Value, json};

use super::SegmentOwner;
use crate::pipeline::group_stream::Restart;

impl SegmentOwner {
    pub(super) fn event(&self, event_type: &str, step: Option<u64>, at_us: i64, evidence: Value) -> EventRow {
        EventRow::new(event_type, self.segment.segment, step, at_us, evidence)
    }

    pub(super) fn detection_event(&self, detection: &Detection, stream: &StreamKey, now_us: i64) -> EventRow {
        let evidence = serde_json::to_value(&detection.evidence).unwrap_or_default();
        EventRow {
            group: Some(stream.group.clone()),
            kind: Some(stream.kind),
            window: Some(stream.window),
            from: detection.from.map(|regime| regime.as_str().to_owned()),
            to: detection.to.map(|regime| regime.as_str().to_owned()),
            ..self.event(detection.detector.as_str(), Some(detection.step), now_us, evidence)
        }
    }
}

pub(super) fn restart_evidence(restart: Restart) -> Value {
    let reason = restart.reason();
    match restart {
        Restart::Hole { expected_base_step, base_step } => {
            json!({ "reason": reason, "expected_base_step": expected_base_step, "base_step": base_step })
        }
        Restart::Interval { from, to } => json!({ "reason": reason, "from_steps": from, "to_steps": to }),
        Restart::Phase { from, to } => json!({ "reason": reason, "from_phase": from, "to_phase": to }),
    }
}
