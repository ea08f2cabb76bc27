//! Settling a step: what it adds to a commit.

use std::collections::BTreeSet;

use gradwatch_proto::v1::RejectCode;
use gradwatch_store::{EventRow, LIVE_ANALYSIS, NonFinitePayload, ReadingRow, RunCommit, StepRow};
use serde_json::json;

use super::{
    Advanced, SegmentOwner, ShardEvent, Turn,
    assembly::Parts,
    events,
    joined::{Joined, Part, whole},
};
use crate::pipeline::{
    followed::{Followed, keep_latest},
    frame::{Frame, Item, Rejection, TermsOf},
    group_stream::{Place, Row},
    sketches::NewRow,
};

impl SegmentOwner {
    /// Passes an item that no step is made of.
    pub(super) fn pass(&mut self, number: u32, item: Item, turn: &mut Turn<'_>, advanced: &mut Advanced) {
        let (first_seq, last_seq) = (item.first_seq(), item.last_seq());
        match item {
            Item::Frame(frame) => {
                let rejection = self.too_late(number, &frame);
                advanced.rejections.push((number, rejection));
            }
            Item::Rejected(rejection) => advanced.rejections.push((number, rejection)),
            Item::Dropped { first_step, last_step, .. } => {
                let frames = last_seq + 1 - first_seq;
                turn.commit.patch.counters.dropped += frames;
                let mut evidence = json!({
                    "from_seq": first_seq.to_string(),
                    "to_seq": last_seq.to_string(),
                    "frames": frames.to_string(),
                    "first_step": first_step,
                    "last_step": last_step,
                });
                if self.shards.len() > 1 {
                    evidence["shard"] = number.into();
                }
                turn.tell(self.event("run.lossy", Some(first_step), turn.now_us, evidence));
            }
        }
        self.shards[number as usize].done(last_seq);
    }

    /// Why a frame belongs to no step that is still to come.
    fn too_late(&self, number: u32, frame: &Frame) -> Rejection {
        let step = frame.step;
        let own_last_step = match self.shards.len() {
            1 => self.last_step,
            _ => self.shards[number as usize].last_step,
        };
        let resumed_step = self.segment.resumes.map(|resumes| resumes.step);
        let (code, message) = if let Some(last) = own_last_step.filter(|&last| step <= last) {
            let message = format!("{step} is not above the attempt's last step {last}; open a new attempt");
            (RejectCode::StepNotIncreasing, message)
        } else if let Some(resumed) = resumed_step.filter(|&resumed| step <= resumed) {
            let message = format!("{step} is not above the step {resumed} that the attempt resumes");
            (RejectCode::StepNotIncreasing, message)
        } else {
            let message = format!("the other shards' part of step {step} was settled without this one");
            (RejectCode::Late, message)
        };
        Rejection { seq: frame.seq, code, field: "step".into(), message }
    }

    /// Settles a step with all that there is of it.
    ///
    /// Invariant: there is one row of a step, and the marks of all shards that take part in it move in the transaction
    /// that holds it. It gives readings only when every shard takes part; that one does not is recorded, so that a
    /// refill knows it too.
    pub(super) fn settle(&mut self, parts: Parts, turn: &mut Turn<'_>, advanced: &mut Advanced) {
        self.suspect.note(self.segment.segment, parts.step);
        let mut joined = self.join(parts.frames, advanced);
        let live = turn.is_live(Some(parts.step));
        let events = turn.commit.events.len();
        if !joined.is_empty() {
            self.record(&joined, turn);
            self.record_sent(&mut joined, turn);
            advanced.live_steps += u32::from(live);
        }
        if !live {
            turn.commit.events.truncate(events);
        }
        for shard in parts.newly_lost {
            advanced.lost = true;
            tracing::warn!(segment = self.segment.segment, shard, step = parts.step, "shard lost");
            let lost = self.shard_event(ShardEvent::Lost, shard, turn.now_us);
            turn.commit.events.push(lost);
        }
    }

    /// Puts frames together, but for those that cannot be taken.
    fn join(&mut self, frames: Vec<(u32, Frame)>, advanced: &mut Advanced) -> Joined {
        let mut joined = Joined::default();
        let mut names = self.scalars.names();
        for (shard, frame) in frames {
            let seq = frame.seq;
            self.shards[shard as usize].done(seq);
            if self.poisoned.contains(&frame.step) {
                tracing::error!(
                    segment = self.segment.segment,
                    shard,
                    seq,
                    step = frame.step,
                    "poisoned step rejected"
                );
                let message = "the server fails on this step again and again; its log says how".to_owned();
                let rejection = Rejection { seq, code: RejectCode::Internal, field: "step".into(), message };
                advanced.rejections.push((shard, rejection));
                continue;
            }
            let is_new = |name: &&String| !self.scalars.knows(name) && !joined.scalars.contains_key(*name);
            let with_new = names + frame.scalars.keys().filter(is_new).count();
            if with_new > self.max_scalar_names {
                let limit = self.max_scalar_names;
                let message = format!("the attempt would have {with_new} different scalars; the limit is {limit}");
                let rejection = Rejection { seq, code: RejectCode::Limit, field: "scalars".into(), message };
                advanced.rejections.push((shard, rejection));
                continue;
            }
            names = with_new;
            self.shards[shard as usize].last_step = Some(frame.step);
            joined.add(shard, frame);
        }
        joined
    }

    fn record(&mut self, joined: &Joined, turn: &mut Turn<'_>) {
        let now_us = turn.now_us;
        if !self.has_steps {
            self.has_steps = true;
            let resumes = self
                .segment
                .resumes
                .map(|resumes| json!({ "attempt_id": resumes.attempt_id.to_string(), "step": resumes.step }));
            let attempt_id = self.segment.attempt_id.to_string();
            let evidence = json!({ "attempt_id": attempt_id, "resumes": resumes });
            turn.commit.events.push(self.event("segment.started", Some(joined.step), now_us, evidence));
        }
        let seqs = joined.seqs(self.segment.shard_count);
        let all = whole(&seqs);
        let mut step = StepRow {
            segment: self.segment.segment,
            step: joined.step,
            seqs,
            wall_time_us: joined.wall_time_us,
            received_at_us: now_us,
            learning_rate: joined.learning_rate,
            weight_decay: joined.weight_decay,
            phase: joined.phase,
            complete: all.is_some(),
            scalars: joined.scalars.clone(),
            nonfinite_payloads: Vec::new(),
        };
        let segment = self.segment.clone();
        let place = all.map(|seqs| Place { seqs, step: joined.step });
        for (index, parts) in joined.rows(&segment.spec) {
            match &place {
                Some(place) => {
                    let (group, kind) = (self.streams[index].group(), self.streams[index].kind());
                    let eta = joined.learning_rate_of(group);
                    let mut row = self.streams[index].accept(place, &parts, eta, false);
                    for edge in &mut row.readings {
                        if let Some(terms) = joined.edge_terms_of(TermsOf { group, kind, window: edge.window }) {
                            edge.add_terms(terms, eta, joined.weight_decay_of(group));
                        }
                    }
                    self.keep_row(index, &row, &parts, (joined.step, eta));
                    self.record_row(index, row, now_us, &mut step, turn.commit);
                }
                None => self.leave_out(index, &step, now_us, turn.commit),
            }
        }
        let followed = self.scalars.follow(joined.step, &joined.scalars);
        turn.commit.rollups.extend(followed.rollups);
        keep_latest(turn.commit, followed.snapshot);
        self.non_finite_events(&step, now_us, turn.commit);
        turn.commit.patch.counters.steps += 1;
        turn.commit.patch.counters.incomplete += u64::from(!step.complete);
        turn.commit.patch.last_step = Some(joined.step);
        self.last_step = Some(joined.step);
        self.assembler.settled(joined.step);
        turn.commit.steps.push(step);
    }

    /// Keeps a row that entered its window.
    fn keep_row(&mut self, index: usize, row: &Row, parts: &[Part<'_>], (step, learning_rate): (u64, Option<f64>)) {
        let (true, false, Some(first)) = (self.sketches.keeps(), row.readings.is_empty(), parts.first()) else {
            return;
        };
        let stream = &self.streams[index];
        let group = self.segment.spec.groups[stream.group()].name.as_str();
        let new = NewRow {
            step,
            base_step: first.payload.base_step,
            phase: first.phase,
            learning_rate,
            began: stream.began_with_newest(),
            body: (parts.len() == 1).then_some(&first.payload.body),
            entries: stream.newest(),
        };
        self.sketches.push(index, (self.segment.segment, group, stream.kind()), &new);
    }

    /// A row that lacks a shard's part is no row.
    fn leave_out(&mut self, index: usize, step: &StepRow, now_us: i64, commit: &mut RunCommit) {
        if !self.streams[index].leave_out() {
            return;
        }
        let missing: Vec<usize> = (0..step.seqs.len()).filter(|&shard| step.seqs[shard].is_none()).collect();
        let evidence = json!({ "reason": "incomplete", "missing_shards": missing });
        commit.events.push(self.stream_event(index, step.step, now_us, evidence));
    }

    fn stream_event(&self, index: usize, step: u64, now_us: i64, evidence: serde_json::Value) -> EventRow {
        let stream = &self.streams[index];
        EventRow {
            group: Some(self.segment.spec.groups[stream.group()].name.clone()),
            kind: Some(stream.kind()),
            ..self.event("window.restarted", Some(step), now_us, evidence)
        }
    }

    fn record_row(&mut self, index: usize, row: Row, now_us: i64, step: &mut StepRow, commit: &mut RunCommit) {
        let windows = self.segment.spec.window_lengths.len();
        if let Some(restart) = row.restart {
            commit.events.push(self.stream_event(index, step.step, now_us, events::restart_evidence(restart)));
        }
        if let Some(counts) = row.non_finite {
            let stream = &self.streams[index];
            step.nonfinite_payloads.push(NonFinitePayload {
                group: self.segment.spec.groups[stream.group()].name.clone(),
                kind: stream.kind(),
                nan: counts.nan,
                positive_infinity: counts.positive_infinity,
                negative_infinity: counts.negative_infinity,
            });
        }
        for (offset, mut edge) in row.readings.into_iter().enumerate() {
            let follower = &mut self.followers[index * windows + offset];
            let Followed { detections, rollups, snapshot } = follower.follow(step.step, &mut edge);
            let stream = follower.stream().clone();
            let regime = follower.regime();
            commit.rollups.extend(rollups);
            keep_latest(commit, snapshot);
            commit.events.extend(detections.iter().map(|it| self.detection_event(it, &stream, now_us)));
            commit.readings.push(ReadingRow {
                analysis: LIVE_ANALYSIS.to_owned(),
                stream,
                segment: self.segment.segment,
                step: step.step,
                regime,
                edge,
            });
        }
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
