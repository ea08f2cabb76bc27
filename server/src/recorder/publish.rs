//! What was committed, told to whoever listens: numbered by the commit sequence, kept for a while so that a listener
//! who is slow, or lost its connection, can go on where it stopped.

mod parts;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use gradwatch_store::{EventRow, LayerReadingRow, Reading, RunId, RunPatch};
use tokio::sync::watch;

/// What one commit settled for one run.
#[derive(Clone, Debug)]
pub(crate) struct PublishedRun {
    /// The run.
    pub run_id: RunId,
    /// Its project.
    pub project: Arc<str>,
    /// The last live step of each segment at the time of the commit; a segment not named is not live at all.
    pub live_to_step: Arc<BTreeMap<u32, u64>>,
    /// Readings.
    pub readings: Vec<Reading>,
    /// Readings of layers, with the wall times of their steps where they are known.
    pub layer_readings: Vec<(LayerReadingRow, Option<i64>)>,
    /// Events with their ids.
    pub events: Vec<(u64, EventRow)>,
    /// What changed on the run's own row.
    pub patch: RunPatch,
}

impl PublishedRun {
    /// Whether a step of a segment was on the live line when it was committed.
    #[must_use]
    pub(crate) fn is_live(&self, segment: u32, step: u64) -> bool {
        self.live_to_step.get(&segment).is_some_and(|&last| step <= last)
    }
}

/// What one commit settled.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// Grows by one with every commit of the store.
    pub commit_seq: u64,
    /// One entry a run.
    pub runs: Vec<PublishedRun>,
}

/// What a listener gets that asks for more.
#[derive(Debug)]
pub(crate) enum Resume {
    /// The next part of the commit behind the one it has seen.
    Part {
        /// Some of the commit's rows, in order.
        part: Arc<Publication>,
        /// Whether they are the last of this commit.
        is_last: bool,
    },
    /// There is nothing newer yet.
    UpToDate,
    /// What it asked for is no longer kept, or was never given out: it has to read the present state again, which holds
    /// everything up to this commit, and go on behind it.
    Reset {
        /// The last commit.
        last_seq: u64,
    },
}

/// Hands publications to listeners.
///
/// Invariant (bounded memory): published commits are held here only, the newest always and older ones up to
/// `replay_bytes`. A listener owns nothing but its place; it is woken, asks for the part at its place, and lets go of it
/// before it waits again. So one that never reads costs nothing, however long the others go on: its place leaves the
/// ring, and when it asks again it is told to start again.
///
/// Invariant (order): commits are given out by their number alone. A listener whose place is n is given n + 1 or a
/// reset, never anything else: nothing is skipped in silence and nothing given twice, whenever it subscribed. A number
/// that the recorder never published, because the commit landed and its answer was lost, counts as no longer kept.
#[derive(Debug)]
pub(crate) struct Hub {
    kept: Mutex<Kept>,
    /// The sequence of the last commit, published by us or before we started. Changes only while `kept` is locked and
    /// behind the change of `kept`: who is woken by a number finds its commit, and who found nothing newer is woken.
    last_seq: watch::Sender<u64>,
    replay_bytes: usize,
}

/// The newest commits, by rising sequence.
#[derive(Debug, Default)]
struct Kept {
    commits: VecDeque<KeptCommit>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptCommit {
    commit_seq: u64,
    /// At least one.
    parts: Vec<Arc<Publication>>,
    bytes: usize,
}

impl Hub {
    /// A hub that continues after `last_seq` and keeps about `replay_bytes` of publications.
    #[must_use]
    pub(crate) fn new(last_seq: u64, replay_bytes: usize) -> Self {
        Self { kept: Mutex::default(), last_seq: watch::Sender::new(last_seq), replay_bytes }
    }

    /// Publishes a commit. Called by the recorder only, in the order of commits.
    pub(crate) fn publish(&self, publication: Publication) {
        let commit_seq = publication.commit_seq;
        let (parts, bytes) = parts::split(publication);
        // Declared before the lock's guard, so that thousands of rows are freed after it: listeners wait for the lock.
        let mut evicted = Vec::new();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes;
        kept.commits.push_back(KeptCommit { commit_seq, parts, bytes });
        // The newest stays even if it is larger than all the room: it would reach nobody else.
        while kept.bytes > self.replay_bytes && kept.commits.len() > 1 {
            let Some(oldest) = kept.commits.pop_front() else { break };
            kept.bytes -= oldest.bytes;
            evicted.push(oldest);
        }
        self.last_seq.send_replace(commit_seq);
    }

    /// Follows the sequence of the last commit, which changes with every commit.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.last_seq.subscribe()
    }

    /// What comes next for a listener that has seen everything up to the commit `seq`, and `parts` parts of the one
    /// behind it.
    pub(crate) fn after(&self, seq: u64, parts: usize) -> Resume {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last_seq = *self.last_seq.borrow();
        if seq == last_seq {
            return Resume::UpToDate;
        }
        let next = kept.commits.binary_search_by(|commit| commit.commit_seq.cmp(&seq.saturating_add(1)));
        let next = next.ok().and_then(|index| kept.commits.get(index));
        match next.and_then(|commit| Some((commit.parts.get(parts)?, commit.parts.len()))) {
            Some((part, count)) => Resume::Part { part: Arc::clone(part), is_last: parts + 1 == count },
            None => Resume::Reset { last_seq },
        }
    }
}

#[cfg(test)]
mod tests;
