//! Settling a frame: what it adds to a commit.

use std::collections::BTreeSet;

use gradwatch_proto::v1::RejectCode;
use gradwatch_store::{FollowerSnapshot, LIVE_ANALYSIS, NonFinitePayload, ReadingRow, RunCommit, StepRow};

use super::{SegmentOwner, events};
use crate::pipeline::{
    followed::Followed,
    frame::{Frame, Rejection},
    group_stream::Place,
};

impl SegmentOwner {
    pub(super) fn settle(&mut self, frame: &Frame, now_us: i64, commit: &mut RunCommit) -> Result<(), Rejection> {
        self.check_step(frame)?;
        self.check_scalars(frame)?;
        if !self.has_steps {
            self.has_steps = true;
            let resumes = self.segment.resumes.map(
                |resumes| serde_json::json!({ "attempt_id": resumes.attempt_id.to_string(), "step": resumes.step }),
            );
            let attempt_id = self.segment.attempt_id.to_string();
            let evidence = serde_json::json!({ "attempt_id": attempt_id, "resumes": resumes });
            commit.events.push(self.event("segment.started", Some(frame.step), now_us, evidence));
        }
        let mut step = StepRow {
            segment: self.segment.segment,
            step: frame.step,
            seqs: vec![Some(frame.seq)],
            wall_time_us: frame.wall_time_us,
            received_at_us: now_us,
            learning_rate: frame.learning_rate,
            weight_decay: frame.weight_decay,
            phase: frame.phase,
            complete: true,
            scalars: frame.scalars.clone(),
            nonfinite_payloads: Vec::new(),
        };
        for index in 0..frame.payloads.len() {
            self.settle_payload(frame, index, now_us, &mut step, commit)?;
        }
        let followed = self.scalars.follow(frame.step, &frame.scalars);
        commit.rollups.extend(followed.rollups);
        keep_latest(commit, followed.snapshot);
        self.non_finite_events(&step, now_us, commit);
        commit.patch.counters.steps += 1;
        commit.patch.last_step = Some(frame.step);
        self.last_step = Some(frame.step);
        commit.steps.push(step);
        Ok(())
    }

    fn check_step(&self, frame: &Frame) -> Result<(), Rejection> {
        let reject = |message: String| {
            let code = RejectCode::StepNotIncreasing;
            Err(Rejection { seq: frame.seq, code, field: "step".into(), message })
        };
        if let Some(last) = self.last_step
            && frame.step <= last
        {
            return reject(format!("{} is not above the attempt's last step {last}; open a new attempt", frame.step));
        }
        if let Some(resumes) = self.segment.resumes
            && frame.step <= resumes.step
        {
            return reject(format!("{} is not above the step {} that the attempt resumes", frame.step, resumes.step));
        }
        Ok(())
    }

    fn check_scalars(&self, frame: &Frame) -> Result<(), Rejection> {
        let (names, limit) = (self.scalars.names_with(&frame.scalars), self.max_scalar_names);
        if names <= limit {
            return Ok(());
        }
        let message = format!("the attempt would have {names} different scalars; the limit is {limit}");
        Err(Rejection { seq: frame.seq, code: RejectCode::Limit, field: "scalars".into(), message })
    }

    fn settle_payload(
        &mut self,
        frame: &Frame,
        index: usize,
        now_us: i64,
        step: &mut StepRow,
        commit: &mut RunCommit,
    ) -> Result<(), Rejection> {
        let payload = &frame.payloads[index];
        let windows = self.segment.spec.window_lengths.len();
        let Some(position) = self.streams.iter().position(|it| it.is(payload.group, payload.kind)) else {
            unreachable!("ingest checks group and kind against the spec");
        };
        let place = Place { seq: frame.seq, step: frame.step, phase: frame.phase };
        let eta = frame.learning_rate_of(payload.group);
        let row = self.streams[position].accept(place, payload, eta, false).map_err(|error| Rejection {
            seq: frame.seq,
            code: RejectCode::Invalid,
            field: format!("payloads[{index}].body"),
            message: error.to_string(),
        })?;
        let stream = &self.streams[position];
        let (group, kind) = (self.segment.spec.groups[stream.group()].name.clone(), stream.kind());
        if let Some(restart) = row.restart {
            let mut event = self.event("window.restarted", Some(frame.step), now_us, events::restart_evidence(restart));
            event.group = Some(group.clone());
            event.kind = Some(kind);
            commit.events.push(event);
        }
        if let Some(counts) = row.non_finite {
            step.nonfinite_payloads.push(NonFinitePayload {
                group,
                kind,
                nan: counts.nan,
                positive_infinity: counts.positive_infinity,
                negative_infinity: counts.negative_infinity,
            });
        }
        for (offset, mut edge) in row.readings.into_iter().enumerate() {
            let follower = &mut self.followers[position * windows + offset];
            let Followed { detections, rollups, snapshot } = follower.follow(frame.step, &mut edge);
            let stream = follower.stream().clone();
            let regime = follower.regime();
            commit.rollups.extend(rollups);
            keep_latest(commit, snapshot);
            commit.events.extend(detections.iter().map(|it| self.detection_event(it, &stream, now_us)));
            commit.readings.push(ReadingRow {
                analysis: LIVE_ANALYSIS.to_owned(),
                stream,
                segment: self.segment.segment,
                step: frame.step,
                regime,
                edge,
            });
        }
        Ok(())
    }

    /// One event for a stretch of steps in which the same payload or scalar is not finite.
    fn non_finite_events(&mut self, step: &StepRow, now_us: i64, commit: &mut RunCommit) {
        let names = non_finite_names(step);
        let scalars = step.scalars.values().filter(|value| !value.is_finite()).count();
        commit.patch.counters.nonfinite += (step.nonfinite_payloads.len() + scalars) as u64;
        for (name, value) in step.scalars.iter().filter(|(_, value)| !value.is_finite()) {
            if !self.non_finite.contains(&scalar_name(name)) {
                let evidence = serde_json::json!({ "scalar": name, "value": value.to_string() });
                commit.events.push(self.event("numeric.nonfinite", Some(step.step), now_us, evidence));
            }
        }
        for payload in &step.nonfinite_payloads {
            if !self.non_finite.contains(&payload_name(payload)) {
                let evidence = serde_json::json!({
                    "nan": payload.nan,
                    "positive_infinity": payload.positive_infinity,
                    "negative_infinity": payload.negative_infinity,
                });
                let mut event = self.event("numeric.nonfinite", Some(step.step), now_us, evidence);
                event.group = Some(payload.group.clone());
                event.kind = Some(payload.kind);
                commit.events.push(event);
            }
        }
        self.non_finite = names;
    }
}

/// Only the newest state of a stream is of use.
fn keep_latest(commit: &mut RunCommit, snapshot: Option<FollowerSnapshot>) {
    if let Some(snapshot) = snapshot {
        commit.followers.retain(|it| (it.segment, &it.stream) != (snapshot.segment, &snapshot.stream));
        commit.followers.push(snapshot);
    }
}

pub(super) fn non_finite_names(step: &StepRow) -> BTreeSet<String> {
    let scalars = step.scalars.iter().filter(|(_, value)| !value.is_finite()).map(|(name, _)| scalar_name(name));
    scalars.chain(step.nonfinite_payloads.iter().map(payload_name)).collect()
}

fn scalar_name(name: &str) -> String {
    format!("scalar/{name}")
}

fn payload_name(payload: &NonFinitePayload) -> String {
    format!("{}/{}", payload.kind.as_str(), payload.group)
}
