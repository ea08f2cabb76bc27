//! Computations that are under way, and the answers that are kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    computation::{Computation, FleetResult, Status},
    members::{self, Member},
    request::FleetRequest,
    {dimension, split},
};
use crate::{
    error::{Error, ErrorCode},
    state::AppState,
};

/// Answers kept, in bytes of JSON with what stands around them.
const KEPT_BYTES: usize = 32 << 20;
/// What a kept answer takes besides its JSON.
const ENTRY_BYTES: usize = 1_024;
/// Computations at once.
const AT_ONCE: usize = 2;
/// Computations that run or wait to.
const MAX_UNFINISHED: usize = 32;

/// All computations of this server.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    kept: Arc<Mutex<Kept>>,
    turns: Arc<Semaphore>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self { kept: Arc::new(Mutex::new(Kept::new(KEPT_BYTES))), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A computation by its id, if it is still kept and the caller, who may see one project only, may know it.
    pub(super) fn find(&self, id: Uuid, own_project: Option<&str>) -> Option<Arc<Computation>> {
        let found = self.lock().find(id)?;
        own_project.is_none_or(|own| own == found.request.project()).then_some(found)
    }

    /// The answer to a request, or a computation that is on the way to it. The same request about the same data is computed
    /// once.
    pub(super) fn ask(
        &self,
        state: &AppState,
        request: FleetRequest,
        members: Vec<Member>,
    ) -> Result<Arc<Computation>, Error> {
        let data_version = members::data_version(&members);
        let (computation, is_new) = self.lock().find_or_begin(request, data_version)?;
        if is_new {
            let (fleet, state) = (self.clone(), state.clone());
            tokio::spawn(fleet.run(state, Arc::clone(&computation), members));
        }
        Ok(computation)
    }

    /// Invariant: a computation always comes to its end, be it that the server shuts down or the work panics.
    async fn run(self, state: AppState, computation: Arc<Computation>, members: Vec<Member>) {
        let draining = state.draining.clone();
        let turns = Arc::clone(&self.turns);
        let work = tokio::spawn({
            let computation = Arc::clone(&computation);
            async move {
                // Nobody closes it.
                let _turn = turns.acquire().await;
                compute(&state, &computation, members).await
            }
        });
        let abort = work.abort_handle();
        let result = match draining.run_until_cancelled(work).await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Error::internal(error)),
            None => {
                abort.abort();
                Err(Error::new(ErrorCode::Unavailable, "the server is shutting down"))
            }
        };
        computation.finish(result);
        self.lock().finished(&computation);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing that can panic is done under this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn compute(state: &AppState, computation: &Arc<Computation>, members: Vec<Member>) -> Result<FleetResult, Error> {
    let progress = computation.progress();
    Ok(match &computation.request {
        FleetRequest::Dimension(request) => {
            FleetResult::Dimension(dimension::compute(state, request, members, &progress).await?)
        }
        FleetRequest::ErrorSplit(request) => {
            FleetResult::ErrorSplit(split::compute(state, request, members, &progress).await?)
        }
    })
}

/// Which request about which data.
type Key = (String, String);

/// Computations by id and by what they answer.
///
/// Invariant: those that are over take `limit_bytes` at most, or are a single one; the least recently used make room.
#[derive(Debug)]
struct Kept {
    entries: HashMap<Uuid, Entry>,
    by_key: HashMap<Key, Uuid>,
    bytes: usize,
    limit_bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    computation: Arc<Computation>,
    key: Key,
    used: u64,
    /// What it takes once it is over; before, 0.
    bytes: usize,
}

impl Kept {
    fn new(limit_bytes: usize) -> Self {
        Self { entries: HashMap::new(), by_key: HashMap::new(), bytes: 0, limit_bytes, clock: 0 }
    }

    fn find(&mut self, id: Uuid) -> Option<Arc<Computation>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&id)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.computation))
    }

    /// Also says whether it is new, and has to be computed.
    fn find_or_begin(
        &mut self,
        request: FleetRequest,
        data_version: String,
    ) -> Result<(Arc<Computation>, bool), Error> {
        let text = serde_json::to_string(&request).map_err(Error::internal)?;
        let key = (text, data_version);
        if let Some(id) = self.by_key.get(&key).copied()
            && let Some(found) = self.find(id)
        {
            return Ok((found, false));
        }
        if self.entries.values().filter(|entry| entry.bytes == 0).count() >= MAX_UNFINISHED {
            let message = format!("{MAX_UNFINISHED} computations over fleets run or wait already");
            return Err(Error::new(ErrorCode::ResourceExhausted, message).retry_after(Duration::from_secs(5)));
        }
        self.clock += 1;
        let computation = Arc::new(Computation::new(request, key.1.clone()));
        let entry = Entry { computation: Arc::clone(&computation), key: key.clone(), used: self.clock, bytes: 0 };
        self.entries.insert(computation.id, entry);
        self.by_key.insert(key, computation.id);
        Ok((computation, true))
    }

    /// Counts what a computation that is over takes, and makes room for it. One that failed for a reason of ours can still
    /// be looked at, but is computed anew when it is asked for again.
    fn finished(&mut self, computation: &Computation) {
        let Some(entry) = self.entries.get_mut(&computation.id) else { return };
        let status = computation.status();
        let result_bytes = match &status {
            Status::Done { result, .. } => json_bytes(result),
            Status::Running(_) | Status::Failed { .. } => 0,
        };
        entry.bytes = ENTRY_BYTES + 2 * entry.key.0.len() + result_bytes;
        self.bytes += entry.bytes;
        self.clock += 1;
        entry.used = self.clock;
        if let Status::Failed { error, .. } = status
            && (error.code.retryable() || error.code == ErrorCode::Internal)
        {
            self.by_key.remove(&entry.key);
        }
        while self.bytes > self.limit_bytes {
            let over = self.entries.values().filter(|entry| entry.bytes > 0 && entry.computation.id != computation.id);
            let Some(oldest) = over.min_by_key(|entry| entry.used).map(|entry| entry.computation.id) else { return };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: Uuid) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.bytes -= entry.bytes;
        // Another may answer the same since.
        if self.by_key.get(&entry.key) == Some(&id) {
            self.by_key.remove(&entry.key);
        }
    }
}

/// Length as JSON, without writing it.
fn json_bytes(result: &FleetResult) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting does not fail, and all of a result has a form in JSON.
    let _ = serde_json::to_writer(&mut counter, result);
    counter.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::request::{CommonStep, ErrorSplitRequest},
        *,
    };

    fn request(probe: &str) -> FleetRequest {
        FleetRequest::ErrorSplit(ErrorSplitRequest {
            project: "p".into(),
            labels: BTreeMap::new(),
            probe: probe.into(),
            step: CommonStep::Last,
        })
    }

    fn ask(kept: &mut Kept, probe: &str, version: &str) -> (Arc<Computation>, bool) {
        kept.find_or_begin(request(probe), version.into()).unwrap()
    }

    fn end(kept: &mut Kept, computation: &Computation, code: ErrorCode) {
        computation.finish(Err(Error::new(code, "over")));
        kept.finished(computation);
    }

    #[test]
    fn the_same_request_about_the_same_data_is_computed_once() {
        let mut kept = Kept::new(1 << 20);
        let (first, is_new) = ask(&mut kept, "held", "1");
        assert!(is_new);
        // Under way, and over.
        assert_eq!(ask(&mut kept, "held", "1").0.id, first.id);
        end(&mut kept, &first, ErrorCode::Conflict);
        let (again, is_new) = ask(&mut kept, "held", "1");
        assert!(!is_new && again.id == first.id);
        for (probe, version) in [("held", "2"), ("train", "1")] {
            assert!(ask(&mut kept, probe, version).1, "{probe} {version}");
        }
        assert_eq!(kept.find(first.id).map(|it| it.id), Some(first.id));
    }

    #[test]
    fn a_failure_of_ours_is_tried_again_when_it_is_asked_for() {
        let mut kept = Kept::new(1 << 20);
        for code in [ErrorCode::Unavailable, ErrorCode::Internal] {
            let (first, is_new) = ask(&mut kept, "held", "1");
            assert!(is_new);
            end(&mut kept, &first, code);
            assert!(kept.find(first.id).is_some());
        }
    }

    #[test]
    fn the_least_recently_used_make_room() {
        let mut kept = Kept::new(3 * (ENTRY_BYTES + 200));
        let of = |kept: &mut Kept, probe| {
            let (computation, _) = ask(kept, probe, "1");
            end(kept, &computation, ErrorCode::Conflict);
            computation.id
        };
        let (a, b, c) = (of(&mut kept, "a"), of(&mut kept, "b"), of(&mut kept, "c"));
        let running = ask(&mut kept, "running", "1").0.id;
        assert!(kept.find(a).is_some());
        let d = of(&mut kept, "d");
        let held = [a, b, c, d, running].map(|id| kept.find(id).is_some());
        assert_eq!(held, [true, false, true, true, true]);
        assert!(kept.bytes <= kept.limit_bytes);
        assert!(ask(&mut kept, "b", "1").1);
    }

    #[test]
    fn a_single_answer_is_kept_however_large() {
        let mut kept = Kept::new(1);
        for probe in ["a", "b"] {
            let (computation, _) = ask(&mut kept, probe, "1");
            end(&mut kept, &computation, ErrorCode::Conflict);
            assert!(kept.find(computation.id).is_some());
            assert_eq!(kept.entries.len(), 1);
        }
    }

    #[test]
    fn so_many_run_or_wait_and_no_more() {
        let mut kept = Kept::new(1 << 20);
        let running: Vec<_> = (0..MAX_UNFINISHED).map(|it| ask(&mut kept, &it.to_string(), "1").0).collect();
        let refused = kept.find_or_begin(request("one more"), "1".into()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ResourceExhausted);
        // One that is there already is no more.
        assert!(!ask(&mut kept, "0", "1").1);
        end(&mut kept, &running[0], ErrorCode::Conflict);
        assert!(ask(&mut kept, "one more", "1").1);
    }
}
