//! What is known of the attempts of a run, and the comparison with what the server has of them.

use std::collections::BTreeSet;

use gradwatch_client::Uuid;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    job::{DIM, PARAMETERS, SKETCH_SEED, WINDOW},
    on_disk::OnDisk,
    process::Heard,
};
use crate::{
    job::{TENSOR, loss},
    offline::{Expected, Offline, Row, assert_readings},
    rest::Rest,
    updates::{exact_sketches, walk},
};

/// One run: what its processes were, one after the other, each resuming an earlier one.
pub(super) struct KilledRun {
    pub(super) run_id: Uuid,
    pub(super) seed: u64,
    pub(super) attempts: Vec<Launched>,
    /// Its last process ended as jobs end.
    pub(super) ended: bool,
}

/// One process.
pub(super) struct Launched {
    pub(super) attempt_id: Uuid,
    pub(super) from_step: u64,
    pub(super) heard: Heard,
    /// What its spool held when it had ended.
    pub(super) on_disk: OnDisk,
    /// Its disk was full at times: then memory is all there is, and it may run out or end with the process.
    pub(super) disk_was_full: bool,
}

/// Between the step that an attempt began behind and its last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkpoint {
    pub(super) attempt_id: Uuid,
    pub(super) from_step: u64,
    pub(super) last_step: u64,
}

/// What was found of some runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub(super) attempts: u64,
    pub(super) frames: u64,
    pub(super) acknowledged: u64,
    pub(super) from_disk: u64,
    pub(super) ended_in_memory: u64,
    pub(super) most_ended_in_memory: u64,
    pub(super) given_up: u64,
    pub(super) torn: u64,
}

impl Launched {
    /// How many frames it is known to have handed over.
    fn submitted(&self) -> u64 {
        self.heard.submitted_step.map_or(0, |step| step - self.from_step)
    }

    /// Whether anything of it has to be there.
    fn must_be_there(&self) -> bool {
        self.heard.settled > 0 || !self.on_disk.frames.is_empty()
    }
}

impl KilledRun {
    /// Where the newest checkpoint may be: in an attempt that got so far. One that ended without a disk and without a server
    /// is known to nobody, and a server refuses whoever resumes it.
    pub(super) fn newest_checkpoint(&self) -> Option<Checkpoint> {
        self.attempts.iter().rev().find_map(|attempt| {
            let last_step =
                attempt.heard.submitted_step.filter(|_| !attempt.disk_was_full || attempt.must_be_there())?;
            Some(Checkpoint { attempt_id: attempt.attempt_id, from_step: attempt.from_step, last_step })
        })
    }

    /// Everything that was acknowledged, and everything that was on disk, is stored, once, with the values that the job
    /// computed.
    pub(super) async fn assert_stored(&self, rest: &Rest, found: &mut Found) {
        let path = format!("/api/v1/runs/{}", self.run_id);
        let (status, body) = rest.call(Method::GET, &path, "").await;
        if status == StatusCode::NOT_FOUND {
            assert!(!self.attempts.iter().any(Launched::must_be_there), "{path} is missing: {body}");
            return;
        }
        let run: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        let segments = rest.get(&format!("{path}/segments")).await;
        let segments = segments["items"].as_array().expect("items");
        let mut given_up = 0;
        for attempt in &self.attempts {
            let of_attempt = |it: &&Value| it["attempt_id"] == attempt.attempt_id.to_string();
            match segments.iter().find(of_attempt) {
                Some(segment) => given_up += self.assert_attempt(rest, attempt, &segment["segment"], found).await,
                None => assert!(!attempt.must_be_there(), "attempt {} of {path} is missing", attempt.attempt_id),
            }
        }
        found.given_up += given_up;
        let refused = self.attempts.iter().find_map(|attempt| attempt.heard.refused.as_ref());
        assert_eq!(refused, None, "{path}");
        let count = |name: &str| run["counters"][name].as_u64();
        assert_eq!((count("rejected"), count("incomplete")), (Some(0), Some(0)), "{run}");
        // More where frames were given up behind the last one that is stored.
        let disk_was_full = self.attempts.iter().any(|attempt| attempt.disk_was_full);
        let told = count("dropped").unwrap_or_else(|| panic!("{run}"));
        assert!(told == given_up || disk_was_full && told > given_up, "{given_up} frames were given up: {run}");
        // On a full disk, without a server, nobody can be told of the end.
        let last = self.attempts.last().expect("a run has attempts");
        if self.ended && !last.disk_was_full {
            assert_eq!(run["state"], "finished", "{run}; its last process: {:?}, {:?}", last.heard, last.on_disk);
        }
    }

    /// Answers how many frames were given up.
    async fn assert_attempt(&self, rest: &Rest, attempt: &Launched, segment: &Value, found: &mut Found) -> u64 {
        let path = |what: &str| format!("/api/v1/runs/{}/{what}?segment={segment}&limit=10000", self.run_id);
        let at = format!("run {} segment {segment}, attempt {}", self.run_id, attempt.attempt_id);
        let seqs = assert_steps(attempt, &rest.all(&path("steps")).await, &at);
        let on_disk = &attempt.on_disk;
        let lost: Vec<&u64> = on_disk.frames.keys().filter(|seq| !seqs.contains(seq)).collect();
        assert!(lost.is_empty(), "{at}: frames {lost:?} were on disk and never arrived; {:?}", attempt.heard);
        let stored = seqs.len() as u64;
        assert!(stored >= attempt.heard.settled, "{at}: {stored} frames are stored; {:?}", attempt.heard);

        let last_seq = seqs.last().copied().unwrap_or(0);
        let given_up: Vec<u64> = (1..last_seq).filter(|seq| !seqs.contains(seq)).collect();
        assert!(attempt.disk_was_full || given_up.is_empty(), "{at}: frames {given_up:?} were given up");
        // One more than was heard of: it may have been killed before it said so.
        assert!(last_seq <= attempt.submitted() + 1, "{at}: {last_seq} frames of {}", attempt.submitted());
        let readings = rest.all(&path("readings/edge")).await;
        if attempt.disk_was_full {
            // Of an attempt that another one has replaced no event says where a window lost its rows.
            let steps: Vec<Option<u64>> = readings.iter().map(|reading| reading["step"].as_u64()).collect();
            assert_eq!(steps, seqs.iter().map(|seq| Some(attempt.from_step + seq)).collect::<Vec<_>>(), "{at}");
        } else {
            assert_readings(&readings, &self.expected(attempt, last_seq));
        }

        let ended_in_memory = attempt.submitted().saturating_sub(last_seq);
        found.attempts += 1;
        found.frames += stored;
        found.acknowledged += attempt.heard.settled;
        found.from_disk += on_disk.frames.keys().filter(|&&seq| seq > attempt.heard.settled).count() as u64;
        found.ended_in_memory += ended_in_memory;
        found.most_ended_in_memory = found.most_ended_in_memory.max(ended_in_memory);
        found.torn += on_disk.torn;
        given_up.len() as u64
    }

    /// The readings of an attempt's first frames, computed from the job's parameters.
    fn expected(&self, attempt: &Launched, frames: u64) -> Vec<Expected> {
        let steps = attempt.from_step..=attempt.from_step + frames;
        let parameters: Vec<Vec<f32>> = steps.map(|step| walk(self.seed, step, PARAMETERS)).collect();
        let sketches = exact_sketches(&parameters, TENSOR, DIM, SKETCH_SEED);
        let row = |(base_step, sketch)| Row { step: base_step + 1, base_step, sketch };
        let rows: Vec<Row> = (attempt.from_step..).zip(sketches).map(row).collect();
        Offline::compute(&rows, &[WINDOW], PARAMETERS).readings.remove(0)
    }
}

/// Every row is a frame that the job made, none is there twice. Answers their seqs.
fn assert_steps(attempt: &Launched, steps: &[Value], at: &str) -> BTreeSet<u64> {
    let mut seqs = BTreeSet::new();
    for row in steps {
        let seq = row["seqs"][0].as_str().and_then(|seq| seq.parse::<u64>().ok());
        let seq = seq.unwrap_or_else(|| panic!("{at}: {row}"));
        let step = attempt.from_step + seq;
        assert_eq!(row["step"], step, "{at}: {row}");
        assert_eq!(row["scalars"]["loss"].as_f64().map(f64::to_bits), Some(loss(step).to_bits()), "{at}: {row}");
        assert_eq!(row["complete"], true, "{at}: {row}");
        assert!(attempt.on_disk.frames.get(&seq).is_none_or(|on_disk| *on_disk == step), "{at}: {row}");
        assert!(seqs.insert(seq), "{at}: stored twice: {row}");
    }
    seqs
}
