//! What a segment tells of: events with their evidence.

use gradwatch_spectral::detectors::Detection;
use gradwatch_store::{EventRow, RunState, StreamKey};
use serde_json::{Value, json};

use super::SegmentOwner;
use crate::pipeline::group_stream::Restart;

/// What an owner has to know of a shard, and finds again in the events that were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShardEvent {
    /// Steps do not wait for it any more.
    Lost,
    /// They do again.
    Returned,
    /// Its process has ended.
    Finished(RunState),
}

impl ShardEvent {
    /// The types of these events.
    pub(crate) const TYPES: [&str; 3] = ["run.shard_lost", "run.shard_returned", "run.shard_finished"];

    fn event_type(self) -> &'static str {
        match self {
            Self::Lost => Self::TYPES[0],
            Self::Returned => Self::TYPES[1],
            Self::Finished(_) => Self::TYPES[2],
        }
    }

    /// Reads an event; with the shard.
    pub(crate) fn read(row: &EventRow) -> Option<(u32, Self)> {
        let shard = row.evidence["shard"].as_u64().and_then(|shard| u32::try_from(shard).ok())?;
        let event = match Self::TYPES.iter().position(|name| *name == row.event_type)? {
            0 => Self::Lost,
            1 => Self::Returned,
            _ => Self::Finished(row.evidence["outcome"].as_str()?.parse().ok()?),
        };
        Some((shard, event))
    }
}

impl SegmentOwner {
    pub(super) fn event(&self, event_type: &str, step: Option<u64>, at_us: i64, evidence: Value) -> EventRow {
        EventRow::new(event_type, self.segment.segment, step, at_us, evidence)
    }

    /// What befell a shard.
    pub(crate) fn shard_event(&self, what: ShardEvent, shard: u32, at_us: i64) -> EventRow {
        let evidence = match what {
            ShardEvent::Lost | ShardEvent::Returned => json!({ "shard": shard }),
            ShardEvent::Finished(outcome) => json!({ "shard": shard, "outcome": outcome.as_str() }),
        };
        self.event(what.event_type(), self.last_step, at_us, evidence)
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
        Restart::Disagreement { field, shards, values } => json!({
            "reason": reason,
            "field": field,
            "shards": shards,
            "values": values,
        }),
        Restart::Phase { from, to } => json!({ "reason": reason, "from_phase": from, "to_phase": to }),
    }
}
