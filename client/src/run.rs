//! The run as the training loop sees it.

mod ending;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use gradwatch_proto::v1;
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_spectral::sketch::Sketcher;
use prost::Message as _;
use uuid::Uuid;

use crate::attached::Attached;
use crate::builder::{Delivery, Plan, RunBuilder};
use crate::composer::{Checked, Composer, check};
use crate::declared::{check_buffer, check_groups};
use crate::error::{OpenError, SubmitError, WaitError};
use crate::frame::Frame;
use crate::handover::Handover;
use crate::launch::{Launch, now_us};
use crate::layer::Schedule;
use crate::shared::Shared;
use crate::spec::{Kind, Spec};
use crate::status::Status;
use crate::uploader;
pub use ending::Outcome;

/// How often somebody who waits looks again. The buffer is half full meanwhile: the uploader is never idle for it.
const WAIT_INTERVAL: Duration = Duration::from_millis(1);
/// How long the spool may take to make a place for a run that opens.
const SPOOL_PATIENCE: Duration = Duration::from_secs(1);
/// Attempts that may wait for an absent server. Each costs memory beside the buffer.
const MAX_PENDING_ATTEMPTS: usize = 64;

/// A training job that is being watched.
///
/// Dropping it without [`Run::close`] does not say that the job is over (the server will notice the silence) and does
/// not wait for the server; the uploader goes on for at most 2 s. With a spool it waits until everything is on disk, 2 s
/// at most.
pub struct Run {
    spec: Spec,
    composer: Composer,
    schedule: Schedule,
    handover: Handover,
    shared: Arc<Shared>,
    uploader_ended: Receiver<()>,
    /// With the current attempt.
    launch: Launch,
    /// How often training went back.
    rewinds: u64,
    /// The attempt's last step; before its first frame the step it resumes.
    last_step: Option<u64>,
    last_seq: u64,
    close_timeout: Duration,
    closed: bool,
    /// The request that opens an attempt, but for the attempt and its spec.
    request: v1::OpenRunRequest,
    buffer_bytes: usize,
    spool_dir: Option<PathBuf>,
    offline: bool,
    /// A process that was forked has no uploader.
    process_id: u32,
}

impl Run {
    /// Describes a run that will be delivered to `server`, such as `http://127.0.0.1:7700`.
    pub fn builder(server: impl Into<String>) -> RunBuilder {
        RunBuilder::new(server.into())
    }

    pub(crate) fn start(plan: Plan, delivery: Delivery) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new());
        let buffer_bytes = delivery.buffer_bytes;
        let queue_limit_bytes = buffer_bytes / 4;
        let (messages, uploader_ended) =
            uploader::start(delivery, shared.clone()).map_err(|error| OpenError::Uploader(Arc::new(error)))?;
        let composer = Composer::new(plan.sketcher, plan.spec.groups.len());
        let schedule = Schedule::new(plan.spec.layers.len());
        let mut run = Self {
            spec: plan.spec,
            composer,
            schedule,
            handover: Handover::new(messages, shared.clone(), queue_limit_bytes),
            shared,
            uploader_ended,
            launch: plan.launch,
            rewinds: 0,
            last_step: plan.resumes.as_ref().map(|resumes| resumes.step),
            last_seq: plan.first_seq - 1,
            close_timeout: plan.close_timeout,
            closed: false,
            request: plan.request,
            buffer_bytes,
            spool_dir: plan.spool_dir,
            offline: plan.offline,
            process_id: std::process::id(),
        };
        // An uploader that has ended already shows as `SubmitError::Closed` at the first submission.
        let _ = run.hand_over_attempt(plan.resumes, plan.unrelated);
        run.wait_for_spool();
        Ok(run)
    }

    /// The run's id.
    #[must_use]
    pub fn run_id(&self) -> Uuid {
        self.launch.run_id()
    }

    /// The current attempt's id, which changes when training goes back to an earlier step.
    #[must_use]
    pub fn attempt_id(&self) -> Uuid {
        self.launch.attempt_id()
    }

    /// The run's sketch, for [`Frame::sketched_parameters`].
    #[must_use]
    pub fn sketcher(&self) -> &Sketcher {
        self.composer.sketcher()
    }

    /// Why frames are not delivered at present, in words: the server cannot be reached, or lets nobody in with this
    /// token, or wants no more of the run, or the spool's disk takes nothing. None while nothing is wrong.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let words = self.shared.words();
        words.refusal.or(words.interruption).or(words.spool_problem)
    }

    /// Whether [`Run::submit`] would look at this group's parameters (or gradient) at `step`: lets a caller save the
    /// copy when the update interval has not passed.
    ///
    /// # Errors
    /// [`SubmitError::UnknownGroup`], [`SubmitError::UndeclaredKind`].
    pub fn is_due(&self, kind: Kind, group: &str, step: u64) -> Result<bool, SubmitError> {
        if !self.spec.kinds.contains(&kind) {
            return Err(SubmitError::UndeclaredKind { kind });
        }
        let group = self.spec.group(group)?;
        let rewinds = self.last_step.is_some_and(|last| step <= last);
        Ok(rewinds
            || match kind {
                Kind::Update => self.composer.parameters_due(&self.spec, group, step),
                Kind::Gradient => self.composer.gradient_due(&self.spec, group, step),
            })
    }

    /// Whether [`Run::submit`] would look at this layer's snapshot at `step`: it had none in this attempt yet, or its
    /// interval ([`Layer::every`](crate::Layer::every)) has passed. Lets a caller save the work of making one.
    ///
    /// # Errors
    /// [`SubmitError::UnknownLayer`].
    pub fn snapshot_due(&self, instrument: LayerInstrument, layer: &str, step: u64) -> Result<bool, SubmitError> {
        let layer = self.spec.layer(instrument, layer)?;
        let rewinds = self.last_step.is_some_and(|last| step <= last);
        Ok(rewinds || self.schedule.is_due(layer, self.spec.layers[layer].1.interval, step))
    }

    /// Hands over what is said about one step. Costs the sketching of the tensors in it, and what its snapshots need
    /// computed; waits for nothing.
    ///
    /// - The first parameters of a group give the base only; every later submission gives an update from the one
    ///   before. Parameters that are not finite make that update and the next one non-finite.
    /// - A `step` at or below the last one means that training went back: a new attempt begins, which resumes this one
    ///   at `step − 1`, and bases are taken anew. At step 0 nothing is left to resume, so it replaces the whole line. With
    ///   several shards this is an error: their last steps may differ, so that they go back with [`Run::rewind_to`].
    /// - Snapshots that are not due are left out, like parameters between two rows; in a new attempt all are due.
    ///
    /// # Errors
    /// Only for mistakes in the call, see [`SubmitError`]; nothing of the frame is taken then. Training may ignore
    /// them. What the network does is no error: see [`Run::status`].
    pub fn submit(&mut self, step: u64, frame: Frame<'_>) -> Result<(), SubmitError> {
        let rewinds = self.last_step.filter(|&last| step <= last);
        if let Some(last_step) = rewinds.filter(|_| !self.spec.is_whole) {
            return Err(SubmitError::RewindAlone { step, last_step });
        }
        let checked = check(&self.spec, step, &frame)?;
        let attached = Attached::of(&self.spec, &self.schedule, step, rewinds.is_some(), &frame)?;
        self.check_size(&frame, &attached)?;
        if rewinds.is_some() {
            self.rewind(step)?;
        }
        self.take(step, &frame, checked, attached)
    }

    fn check_size(&self, frame: &Frame<'_>, attached: &Attached) -> Result<(), SubmitError> {
        let scalar_bytes: usize = frame.scalars.iter().map(|(name, _)| Spec::scalar_bytes(name)).sum();
        let bytes = self.spec.frame_bytes() + scalar_bytes + attached.bytes.len();
        let own_limit = self.handover.max_frame_bytes();
        let server_limit = self.shared.max_frame_bytes.load(Relaxed);
        let Some(largest) = attached.largest.clone() else {
            let limit = own_limit;
            return if bytes > limit { Err(SubmitError::FrameTooLarge { bytes, limit }) } else { Ok(()) };
        };
        let (limit, limited_by) = if server_limit < own_limit {
            (server_limit, "the server's messages")
        } else {
            (own_limit, "an eighth of buffer_bytes")
        };
        if bytes > limit { Err(SubmitError::SnapshotTooLarge { largest, bytes, limit, limited_by }) } else { Ok(()) }
    }

    /// Goes back so that `step` comes next: a new attempt begins, which resumes this one at `step − 1`, and bases are taken
    /// anew.
    ///
    /// With several shards all of them call this, with the same step and as often as each other, before they submit again.
    /// The new attempt's id follows from that step and from how many of these calls there were, so that all come to the same
    /// without talking, whatever step each of them submitted last.
    ///
    /// # Errors
    /// [`SubmitError::TooManyRewinds`], [`SubmitError::Closed`].
    pub fn rewind_to(&mut self, step: u64) -> Result<(), SubmitError> {
        self.rewind(step)
    }

    /// From `step` on a row comes every `steps` optimizer steps: a new attempt begins, which resumes this one at
    /// `step − 1`, and bases are taken anew. Nothing happens where that is the interval already.
    ///
    /// With several shards all of them call this, with the same arguments, as for [`Run::rewind_to`]. `step` is above
    /// every step that one of them submitted, or they go back.
    ///
    /// # Errors
    /// [`SubmitError::ZeroInterval`], [`SubmitError::TooManyRewinds`], [`SubmitError::Closed`].
    pub fn change_update_interval(&mut self, step: u64, steps: u32) -> Result<(), SubmitError> {
        if steps == 0 {
            return Err(SubmitError::ZeroInterval);
        }
        if steps == self.spec.update_interval {
            return Ok(());
        }
        self.check_pending_attempts()?;
        self.spec.update_interval = steps;
        self.rewind(step)
    }

    /// From `step` on these groups are watched, given as in [`RunBuilder::group`]: a new attempt begins, which resumes this
    /// one at `step − 1`, and bases are taken anew. For models that grow, and parameters that are no longer frozen.
    ///
    /// With several shards all of them call this, as for [`Run::change_update_interval`].
    ///
    /// # Errors
    /// [`SubmitError::Groups`], [`SubmitError::TooManyRewinds`], [`SubmitError::Closed`]. The old groups stay.
    pub fn change_groups<N: Into<String>>(
        &mut self,
        step: u64,
        groups: impl IntoIterator<Item = (N, Vec<(N, usize)>)>,
    ) -> Result<(), SubmitError> {
        let tensors = |tensors: Vec<(N, usize)>| {
            tensors.into_iter().map(|(name, elements)| (name.into(), elements as u64)).collect()
        };
        let groups = groups.into_iter().map(|(name, of)| (name.into(), tensors(of))).collect();
        let refused = |error: OpenError| SubmitError::Groups { problem: error.to_string() };
        let spec = Spec { groups: check_groups(groups).map_err(refused)?, ..self.spec.clone() };
        check_buffer(&spec, self.buffer_bytes).map_err(refused)?;
        self.check_pending_attempts()?;
        self.composer = Composer::new(self.composer.sketcher().clone(), spec.groups.len());
        self.spec = spec;
        self.rewind(step)
    }

    /// Takes the parameters of `frame`, those of `step`, as what the next updates start from. Nothing is sent; what else
    /// the frame holds is not looked at. So an update can leave out what happened before: the first parameters of all,
    /// or those behind a hole in a series of checkpoints.
    ///
    /// # Errors
    /// As for [`Run::submit`].
    pub fn set_base(&mut self, step: u64, frame: Frame<'_>) -> Result<(), SubmitError> {
        let checked = check(&self.spec, step, &frame)?;
        self.composer.set_base(step, &checked);
        Ok(())
    }

    fn take(
        &mut self,
        step: u64,
        frame: &Frame<'_>,
        checked: Checked<'_>,
        attached: Attached,
    ) -> Result<(), SubmitError> {
        let payloads = self.composer.payloads(&self.spec, step, &checked);
        let mut wire = checked.into_wire(step, frame, payloads);
        for layer in attached.layers {
            self.schedule.taken(layer, step);
        }
        self.last_seq += 1;
        self.last_step = Some(step);
        wire.seq = self.last_seq;
        wire.wall_time_us = now_us();
        self.shared.submitted.fetch_add(1, Relaxed);
        self.handover.frame(wire.seq, step, wire.encode_to_vec().into(), attached.bytes)
    }

    fn check_pending_attempts(&self) -> Result<(), SubmitError> {
        let pending = self.shared.pending_attempts.load(Relaxed);
        if pending >= MAX_PENDING_ATTEMPTS { Err(SubmitError::TooManyRewinds { pending }) } else { Ok(()) }
    }

    fn rewind(&mut self, step: u64) -> Result<(), SubmitError> {
        self.check_pending_attempts()?;
        let resumed = self.attempt_id().to_string();
        let resumes = step.checked_sub(1).map(|step| v1::Resumes { attempt_id: resumed, step });
        self.rewinds += 1;
        self.launch = self.launch.rewound(step.checked_sub(1), self.rewinds);
        self.last_step = step.checked_sub(1);
        self.last_seq = 0;
        self.composer.reset();
        self.schedule.reset();
        let unrelated = resumes.is_none();
        self.hand_over_attempt(resumes, unrelated)
    }

    /// Invariant: what a checkpoint can name is known to the server or to the spool. A process that ended before the attempt
    /// had its place there would leave one behind that nobody can go on with. A disk that hangs is not waited for.
    fn wait_for_spool(&self) {
        let since = Instant::now();
        while self.spool_dir.is_some() && !self.shared.spool_begun.load(Relaxed) && since.elapsed() < SPOOL_PATIENCE {
            std::thread::sleep(WAIT_INTERVAL);
        }
    }

    fn hand_over_attempt(&mut self, resumes: Option<v1::Resumes>, unrelated: bool) -> Result<(), SubmitError> {
        let (attempt_id, started_at_us) = (self.attempt_id().to_string(), self.launch.started_at_us());
        let mut request = self.request.clone();
        request.attempt = Some(v1::Attempt { attempt_id, started_at_us, resumes, unrelated });
        request.spec = Some(self.spec.to_wire());
        self.handover.attempt(request)
    }

    /// Where the run stands. Never waits.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Blocks until the next frame can be submitted without one being dropped. Not for a training loop, which must never
    /// wait for a server: for what reads faster than a server takes and has the time, such as an import.
    ///
    /// # Errors
    /// [`WaitError::Refused`] when the server wants nothing more of the attempt; [`WaitError::Stalled`] when it has
    /// acknowledged nothing for `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> Result<(), WaitError> {
        self.wait_until(patience, || self.handover.has_room())
    }

    /// Blocks until every submitted frame is settled (or rejected). Not for a training loop, see [`Run::wait_for_room`].
    ///
    /// # Errors
    /// As for [`Run::wait_for_room`].
    pub fn wait_until_settled(&self, patience: Duration) -> Result<(), WaitError> {
        self.wait_until(patience, || {
            let status = self.status();
            status.settled + status.dropped + status.rejected >= status.submitted
        })
    }

    fn wait_until(&self, patience: Duration, condition: impl Fn() -> bool) -> Result<(), WaitError> {
        let mut settled = self.status().settled;
        let mut since = Instant::now();
        loop {
            let words = self.shared.words();
            if let Some(reason) = words.refusal {
                return Err(WaitError::Refused { reason });
            }
            if condition() {
                return Ok(());
            }
            let now_settled = self.status().settled;
            if now_settled > settled {
                (settled, since) = (now_settled, Instant::now());
            } else if since.elapsed() >= patience {
                return Err(WaitError::Stalled { patience, cause: words.interruption });
            }
            std::thread::sleep(WAIT_INTERVAL);
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("run_id", &self.run_id())
            .field("attempt_id", &self.attempt_id())
            .field("last_step", &self.last_step)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
