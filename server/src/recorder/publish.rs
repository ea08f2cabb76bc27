//! What was committed, told to whoever listens: numbered by the commit sequence, kept for a while so that a listener
//! who lost its connection can go on where it stopped.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use gradwatch_store::{EventRow, Reading, RunId, RunPatch};
use tokio::sync::broadcast;

/// Listeners that fall this many commits behind are told to start again.
const CHANNEL_COMMITS: usize = 1_024;

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

    fn bytes(&self) -> usize {
        // A reading's size is dominated by its spectrum and its some forty numbers.
        let reading = |reading: &Reading| 512 + 8 * reading.row.edge.window;
        size_of::<Self>() + self.readings.iter().map(reading).sum::<usize>() + 512 * self.events.len()
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

/// Where a listener starts.
#[derive(Debug)]
pub(crate) enum Resume {
    /// From here on, after these.
    Replay(Vec<Arc<Publication>>),
    /// What it asked for is no longer kept, or was never given out: it has to read the present state again.
    Reset,
}

/// Hands publications to listeners.
#[derive(Debug)]
pub(crate) struct Hub {
    kept: Mutex<Kept>,
    sender: broadcast::Sender<Arc<Publication>>,
    replay_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    publications: VecDeque<(usize, Arc<Publication>)>,
    bytes: usize,
    /// The sequence of the last commit, published by us or before we started.
    last_seq: u64,
}

impl Hub {
    /// A hub that continues after `last_seq` and keeps about `replay_bytes` of publications.
    #[must_use]
    pub(crate) fn new(last_seq: u64, replay_bytes: usize) -> Self {
        let kept = Kept { publications: VecDeque::new(), bytes: 0, last_seq };
        Self { kept: Mutex::new(kept), sender: broadcast::channel(CHANNEL_COMMITS).0, replay_bytes }
    }

    /// Publishes a commit. Called by the recorder only, in the order of commits.
    pub(crate) fn publish(&self, publication: Publication) {
        let publication = Arc::new(publication);
        let bytes = publication.runs.iter().map(PublishedRun::bytes).sum::<usize>();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last_seq = publication.commit_seq;
        kept.bytes += bytes;
        kept.publications.push_back((bytes, Arc::clone(&publication)));
        while kept.bytes > self.replay_bytes {
            let Some((bytes, _)) = kept.publications.pop_front() else { break };
            kept.bytes -= bytes;
        }
        // Under the lock, so that a listener who subscribes sees each publication either replayed or live, never
        // neither or both. An error only says that nobody listens.
        let _ = self.sender.send(publication);
    }

    /// Subscribes. With `after`, first replays what was published behind that commit sequence.
    pub(crate) fn subscribe(&self, after: Option<u64>) -> (Resume, u64, broadcast::Receiver<Arc<Publication>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let resume = match after {
            None => Resume::Replay(Vec::new()),
            Some(after) if after == kept.last_seq => Resume::Replay(Vec::new()),
            Some(after) => {
                let oldest = kept.publications.front().map_or(u64::MAX, |(_, publication)| publication.commit_seq);
                if after > kept.last_seq || after.saturating_add(1) < oldest {
                    Resume::Reset
                } else {
                    let missed = kept.publications.iter().filter(|(_, publication)| publication.commit_seq > after);
                    Resume::Replay(missed.map(|(_, publication)| Arc::clone(publication)).collect())
                }
            }
        };
        (resume, kept.last_seq, receiver)
    }
}
