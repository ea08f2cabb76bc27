//! What the training thread and the uploader both see: counters, and words for the final report.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::status::Status;

/// How many of the server's rejections the report quotes.
const QUOTED_REJECTIONS: usize = 8;
/// No segment yet.
const NO_SEGMENT: u64 = u64::MAX;

/// Invariant: every submitted frame is counted in at most one of settled, dropped and rejected; once the uploader has
/// ended, what is in none of them was not delivered. The training thread takes no lock here before it closes the
/// run, unless it asks for words.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) submitted: AtomicU64,
    pub(crate) settled: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// Handed over, not yet taken by the uploader.
    pub(crate) queued_bytes: AtomicUsize,
    /// Held by the uploader.
    pub(crate) held_bytes: AtomicUsize,
    /// Frames on disk that are in none of the counts above.
    pub(crate) spooled: AtomicU64,
    /// What the spool takes on disk.
    pub(crate) spooled_bytes: AtomicU64,
    /// Attempts that the uploader has not finished with.
    pub(crate) pending_attempts: AtomicUsize,
    pub(crate) connected: AtomicBool,
    /// The largest frame that the server takes.
    pub(crate) max_frame_bytes: AtomicUsize,
    segment: AtomicU64,
    /// The first attempt has its place in the spool, or the disk did not take it.
    pub(crate) spool_begun: AtomicBool,
    /// The server has taken notice of the end of the run.
    pub(crate) finished: AtomicBool,
    /// The uploader has taken everything over that it will be given.
    pub(crate) stopping: AtomicBool,
    /// The end of the run waits in the spool.
    pub(crate) end_spooled: AtomicBool,
    words: Mutex<Words>,
}

/// What the report says in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// Why the server wants no more of an attempt: the first refusal.
    pub(crate) refusal: Option<String>,
    /// Why the uploader is not connected.
    pub(crate) interruption: Option<String>,
    /// Why frames are not written to the spool.
    pub(crate) spool_problem: Option<String>,
    /// The newest rejections, oldest first.
    pub(crate) rejections: VecDeque<String>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            submitted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            spooled: AtomicU64::new(0),
            spooled_bytes: AtomicU64::new(0),
            queued_bytes: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            pending_attempts: AtomicUsize::new(0),
            connected: AtomicBool::new(false),
            // Not known before the first contact.
            max_frame_bytes: AtomicUsize::new(usize::MAX),
            segment: AtomicU64::new(NO_SEGMENT),
            spool_begun: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            end_spooled: AtomicBool::new(false),
            words: Mutex::new(Words::default()),
        }
    }

    pub(crate) fn set_segment(&self, segment: u32) {
        self.segment.store(segment.into(), Relaxed);
    }

    pub(crate) fn status(&self) -> Status {
        // What is held is read first: a frame that moves over in between is missed rather than counted twice.
        let held_bytes = self.held_bytes.load(Relaxed);
        Status {
            submitted: self.submitted.load(Relaxed),
            settled: self.settled.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            spooled: self.spooled.load(Relaxed),
            spooled_bytes: self.spooled_bytes.load(Relaxed),
            buffered_bytes: held_bytes + self.queued_bytes.load(Relaxed),
            connected: self.connected.load(Relaxed),
            segment: u32::try_from(self.segment.load(Relaxed)).ok(),
        }
    }

    pub(crate) fn refuse(&self, reason: String) {
        self.lock().refusal.get_or_insert(reason);
    }

    pub(crate) fn interrupt(&self, reason: Option<String>) {
        self.lock().interruption = reason;
    }

    pub(crate) fn spool_fails(&self, problem: Option<String>) {
        self.lock().spool_problem = problem;
    }

    pub(crate) fn quote_rejection(&self, rejection: String) {
        let rejections = &mut self.lock().rejections;
        if rejections.len() == QUOTED_REJECTIONS {
            rejections.pop_front();
        }
        rejections.push_back(rejection);
    }

    pub(crate) fn words(&self) -> Words {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Words> {
        // Words are whole after any panic: each is one assignment.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
