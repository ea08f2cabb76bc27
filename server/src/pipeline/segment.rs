//! The owner's view of one attempt: its sequence, its windows, and what follows them.

use std::{collections::BTreeSet, sync::Arc};

use gradwatch_proto::v1::RejectCode;
use gradwatch_spectral::{
    detectors::{Detection, Regime},
    window::WindowError,
};
use gradwatch_store::{
    EventRow, LIVE_ANALYSIS, NonFinitePayload, Reading, ReadingRow, RunCommit, Segment, ShardMark, StepRow, StreamKey,
};

use super::{
    followed::{Followed, ScalarFollower, StreamFollower},
    frame::{Frame, Item, Rejection},
    group_stream::{GroupStream, Place, Restart},
    mark::Mark,
};
use crate::config::Config;

/// What an item came to.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is in the commit.
    Settling,
    /// It is in the commit as a count only; the client is told why.
    Rejected(Rejection),
    /// It was settled before and only fills a window again.
    Refilled,
    /// It was settled before.
    Known,
    /// There is a hole before it: the client has to send again from this seq.
    Hole { from_seq: u64 },
}

/// Settled frames that come again to fill the windows of an owner who has just begun.
#[derive(Clone, Copy, Debug)]
struct Refill {
    next_seq: u64,
    until_seq: u64,
    last_step: Option<u64>,
    /// The first and last that the client no longer had.
    missing: Option<(u64, u64)>,
}

impl Refill {
    /// The client has nothing between the next frame and `to_seq`.
    fn miss(&mut self, to_seq: u64) {
        let from_seq = self.missing.map_or(self.next_seq, |(from_seq, _)| from_seq);
        self.missing = Some((from_seq, to_seq));
    }
}

/// One attempt, held by the owner of its run.
#[derive(Debug)]
pub(crate) struct SegmentOwner {
    pub(crate) segment: Arc<Segment>,
    pub(crate) mark: Arc<Mark>,
    pub(crate) writer_id: String,
    next_seq: u64,
    refill: Option<Refill>,
    last_step: Option<u64>,
    /// By group, then kind, in the order of the spec.
    streams: Vec<GroupStream>,
    /// By group, then kind, then window: `window_lengths.len()` for each of `streams`.
    followers: Vec<StreamFollower>,
    scalars: ScalarFollower,
    /// What held NaN or infinity in the last frame, so that a stretch of them is one event.
    non_finite: BTreeSet<String>,
    has_steps: bool,
    max_scalar_names: usize,
}

impl SegmentOwner {
    /// Takes up an attempt where `mark` says it stands.
    pub(crate) fn new(segment: Segment, mark: &ShardMark, config: &Config) -> Result<Self, WindowError> {
        let spec = &segment.spec;
        let mut streams = Vec::new();
        let mut followers = Vec::new();
        for (index, group) in spec.groups.iter().enumerate() {
            for &kind in &spec.kinds {
                streams.push(GroupStream::new(spec, index, kind)?);
                for (position, &window) in spec.window_lengths.iter().enumerate() {
                    let stream = StreamKey { group: group.name.clone(), kind, window };
                    followers.push(StreamFollower::new(segment.segment, stream, &config.detectors, position == 0));
                }
            }
        }
        let (committed, keep_from) = (mark.committed_seq, mark.keep_from_seq);
        let refill = (0 < keep_from && keep_from <= committed).then_some(Refill {
            next_seq: keep_from,
            until_seq: committed,
            last_step: None,
            missing: None,
        });
        Ok(Self {
            mark: Arc::new(Mark::new(committed, keep_from)),
            writer_id: mark.writer_id.clone(),
            next_seq: committed + 1,
            refill,
            last_step: segment.last_step,
            streams,
            followers,
            scalars: ScalarFollower::new(segment.segment),
            non_finite: BTreeSet::new(),
            has_steps: segment.last_step.is_some(),
            max_scalar_names: config.limits.max_scalar_names,
            segment: Arc::new(segment),
        })
    }

    /// Its streams, window by window.
    pub(crate) fn streams(&self) -> Vec<&StreamKey> {
        self.followers.iter().map(StreamFollower::stream).collect()
    }

    /// Continues what follows a stream from a saved state; false when it cannot be used.
    pub(crate) fn restore_stream(&mut self, index: usize, state: &[u8]) -> bool {
        self.followers[index].restore(state)
    }

    /// Follows a stored reading again.
    pub(crate) fn replay_reading(&mut self, index: usize, reading: Reading) {
        let mut edge = reading.row.edge;
        self.followers[index].follow(reading.row.step, &mut edge);
    }

    /// Continues what follows the scalars from a saved state; false when it cannot be used.
    pub(crate) fn restore_scalars(&mut self, state: &[u8]) -> bool {
        self.scalars.restore(state)
    }

    /// Follows a stored step's scalars again.
    pub(crate) fn replay_scalars(&mut self, step: &StepRow) {
        self.scalars.follow(step.step, &step.scalars);
    }

    /// Remembers what the last recorded step held, so that a stretch of non-finite values goes on being one event.
    pub(crate) fn restore_last_step(&mut self, step: &StepRow) {
        self.non_finite = non_finite_names(step);
    }

    /// Its last step, settled or on its way there.
    pub(crate) fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// The last seq that was taken in, settled or on its way there.
    pub(crate) fn accepted_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// The first settled frame that its windows still need again, if they do.
    pub(crate) fn refill_from_seq(&self) -> Option<u64> {
        self.refill.map(|refill| refill.next_seq)
    }

    /// The most severe regime of its streams.
    pub(crate) fn regime(&self) -> Regime {
        self.followers.iter().map(StreamFollower::regime).max().unwrap_or(Regime::Warming)
    }

    /// The oldest frame that any window needs.
    fn keep_from_seq(&self) -> u64 {
        self.streams.iter().filter_map(GroupStream::keep_from_seq).min().unwrap_or(self.next_seq)
    }

    /// Takes in an item. What it settles goes into `commit`; events do only when `live`: a superseded attempt's late
    /// frames are kept in their own segment and fire nothing.
    ///
    /// Invariant (promises 1 and 2): items enter a commit in the order of their seq, without holes and once. Anything
    /// at or below the last accepted seq is dropped without looking at history.
    pub(crate) fn accept(&mut self, item: Item, live: bool, now_us: i64, commit: &mut RunCommit) -> Accepted {
        let events = commit.events.len();
        let accepted = self.take_in(item, now_us, commit);
        if !live {
            commit.events.truncate(events);
        }
        accepted
    }

    fn take_in(&mut self, item: Item, now_us: i64, commit: &mut RunCommit) -> Accepted {
        if let Some(mut refill) = self.refill
            && item.last_seq() >= refill.next_seq
        {
            if item.last_seq() <= refill.until_seq {
                if item.first_seq() > refill.next_seq {
                    refill.miss(item.first_seq() - 1);
                }
                self.refill(&item, refill, now_us, commit);
                return Accepted::Refilled;
            }
            // The last of them are missing: no window can go on.
            refill.miss(refill.until_seq);
            self.refill = None;
            (0..self.streams.len()).for_each(|index| self.lose_window(index, refill.missing, now_us, commit));
        }
        if item.last_seq() < self.next_seq {
            return Accepted::Known;
        }
        if item.first_seq() > self.next_seq {
            return Accepted::Hole { from_seq: self.next_seq };
        }
        let before = self.accepted_seq();
        let last_seq = item.last_seq();
        let accepted = match item {
            Item::Frame(frame) => match self.settle(&frame, now_us, commit) {
                Ok(()) => Accepted::Settling,
                Err(rejection) => Accepted::Rejected(rejection),
            },
            Item::Rejected(rejection) => Accepted::Rejected(rejection),
            Item::Dropped { to_seq, first_step, last_step, .. } => {
                let frames = to_seq + 1 - self.next_seq;
                commit.patch.counters.dropped += frames;
                let evidence = serde_json::json!({
                    "from_seq": self.next_seq.to_string(),
                    "to_seq": to_seq.to_string(),
                    "frames": frames.to_string(),
                    "first_step": first_step,
                    "last_step": last_step,
                });
                commit.events.push(self.event("run.lossy", Some(first_step), now_us, evidence));
                Accepted::Settling
            }
        };
        if let Accepted::Rejected(_) = &accepted {
            commit.patch.counters.rejected += 1;
        }
        self.next_seq = last_seq + 1;
        self.move_mark(before, commit);
        accepted
    }

    fn move_mark(&self, from_seq: u64, commit: &mut RunCommit) {
        let (segment, to_seq, keep_from_seq) = (self.segment.segment, self.accepted_seq(), self.keep_from_seq());
        match commit.marks.iter_mut().find(|mark| mark.segment == segment && mark.shard == 0) {
            Some(mark) => {
                mark.to_seq = to_seq;
                mark.keep_from_seq = keep_from_seq;
            }
            None => commit.marks.push(gradwatch_store::MarkMove { segment, shard: 0, from_seq, to_seq, keep_from_seq }),
        }
    }

    /// Fills windows from a settled frame. Nothing is recorded.
    fn refill(&mut self, item: &Item, refill: Refill, now_us: i64, commit: &mut RunCommit) {
        let mut last_step = refill.last_step;
        if let Item::Frame(frame) = item
            && last_step.is_none_or(|last| frame.step > last)
        {
            last_step = Some(frame.step);
            for payload in &frame.payloads {
                let place = Place { seq: frame.seq, step: frame.step, phase: frame.phase };
                let eta = frame.learning_rate_of(payload.group);
                if let Some(stream) = self.streams.iter_mut().find(|it| it.is(payload.group, payload.kind))
                    && let Err(error) = stream.accept(place, payload, eta, true)
                {
                    // It was settled once, so it was valid then; a frame that changed meanwhile only costs the window.
                    tracing::warn!(%error, seq = frame.seq, "a resent frame cannot be decoded");
                    stream.restart();
                }
            }
        }
        let next_seq = item.last_seq() + 1;
        if next_seq <= refill.until_seq {
            self.refill = Some(Refill { next_seq, last_step, ..refill });
            return;
        }
        self.refill = None;
        // A slow group's rows reach far back, further than a client may keep. It alone pays for that: windows that got
        // all their rows go on with the same bits.
        for index in 0..self.streams.len() {
            if refill.missing.is_some() && !self.streams[index].is_whole() {
                self.lose_window(index, refill.missing, now_us, commit);
            }
        }
    }

    /// The client no longer has what a window needs: it starts again, which is an event.
    fn lose_window(&mut self, index: usize, missing: Option<(u64, u64)>, now_us: i64, commit: &mut RunCommit) {
        let stream = &mut self.streams[index];
        stream.restart();
        let (group, kind) = (stream.group(), stream.kind());
        let evidence = serde_json::json!({
            "reason": "refill",
            "missing_from_seq": missing.map(|(from_seq, _)| from_seq.to_string()),
            "missing_to_seq": missing.map(|(_, to_seq)| to_seq.to_string()),
        });
        commit.events.push(EventRow {
            group: Some(self.segment.spec.groups[group].name.clone()),
            kind: Some(kind),
            ..self.event("window.restarted", self.last_step, now_us, evidence)
        });
    }

    fn settle(&mut self, frame: &Frame, now_us: i64, commit: &mut RunCommit) -> Result<(), Rejection> {
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
            let mut event = self.event("window.restarted", Some(frame.step), now_us, restart_evidence(restart));
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

    fn event(&self, event_type: &str, step: Option<u64>, at_us: i64, evidence: serde_json::Value) -> EventRow {
        EventRow {
            event_type: event_type.to_owned(),
            segment: self.segment.segment,
            step,
            at_us,
            group: None,
            kind: None,
            window: None,
            from: None,
            to: None,
            evidence,
        }
    }

    fn detection_event(&self, detection: &Detection, stream: &StreamKey, now_us: i64) -> EventRow {
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

/// Only the newest state of a stream is of use.
fn keep_latest(commit: &mut RunCommit, snapshot: Option<gradwatch_store::FollowerSnapshot>) {
    if let Some(snapshot) = snapshot {
        commit.followers.retain(|it| (it.segment, &it.stream) != (snapshot.segment, &snapshot.stream));
        commit.followers.push(snapshot);
    }
}

fn restart_evidence(restart: Restart) -> serde_json::Value {
    let reason = restart.reason();
    match restart {
        Restart::Hole { expected_base_step, base_step } => {
            serde_json::json!({ "reason": reason, "expected_base_step": expected_base_step, "base_step": base_step })
        }
        Restart::Interval { from, to } => serde_json::json!({ "reason": reason, "from_steps": from, "to_steps": to }),
        Restart::Phase { from, to } => serde_json::json!({ "reason": reason, "from_phase": from, "to_phase": to }),
    }
}

fn non_finite_names(step: &StepRow) -> BTreeSet<String> {
    let scalars = step.scalars.iter().filter(|(_, value)| !value.is_finite()).map(|(name, _)| scalar_name(name));
    scalars.chain(step.nonfinite_payloads.iter().map(payload_name)).collect()
}

fn scalar_name(name: &str) -> String {
    format!("scalar/{name}")
}

fn payload_name(payload: &NonFinitePayload) -> String {
    format!("{}/{}", payload.kind.as_str(), payload.group)
}
