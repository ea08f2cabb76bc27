//! What follows one stream's readings, or one segment's scalars: detectors and open rollup buckets. Both depend on the
//! whole past, so their state is saved now and then in the transaction that settles the reading it has seen last, and
//! brought up to date after a restart from the readings stored behind it.

use std::collections::BTreeMap;

use gradwatch_spectral::{
    detectors::{Detection, DetectorConfig, Regime},
    edge::EdgeReading,
    followers::Followers,
};
use gradwatch_store::{FollowerKey, FollowerSnapshot, RollupRow, RunCommit, StreamKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::rollup::{EdgeRollups, Rollup};

/// A state is saved every so many readings: at most as many are read back to bring it up to date. The first reading
/// saves one too, which fixes the detectors' configuration for the segment.
const SNAPSHOT_EVERY: u32 = 256;

/// Raised when the meaning of a saved state changes. An older state is not used: its stream is followed anew.
const SNAPSHOT_VERSION: u8 = 3;

/// What one reading led to.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    pub(crate) detections: Vec<Detection>,
    pub(crate) rollups: Vec<RollupRow>,
    pub(crate) snapshot: Option<FollowerSnapshot>,
}

/// Detectors and rollups of one (group, kind, window) of a segment.
#[derive(Debug)]
pub(crate) struct StreamFollower {
    segment: u32,
    stream: StreamKey,
    state: StreamState,
    since_snapshot: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct StreamState {
    followers: Followers,
    rollups: EdgeRollups,
}

impl StreamFollower {
    /// `reports_spike` is for one of a stream's windows only: the norm does not depend on the window.
    pub(crate) fn new(segment: u32, stream: StreamKey, config: &DetectorConfig, reports_spike: bool) -> Self {
        let followers = Followers::new(stream.window, config);
        let followers = if reports_spike { followers } else { followers.without_spike() };
        Self {
            segment,
            stream,
            state: StreamState { followers, rollups: EdgeRollups::new() },
            since_snapshot: first_due(),
        }
    }

    /// Continues from a saved state; the readings stored behind it must then be followed again.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> bool {
        match decode::<StreamState>(bytes) {
            Some(state) if state.rollups.fits() => {
                self.state = state;
                self.since_snapshot = 0;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn stream(&self) -> &StreamKey {
        &self.stream
    }

    pub(crate) fn regime(&self) -> Regime {
        self.state.followers.regime()
    }

    /// Takes in the next reading and completes it. Invariant (promise 3): the state is a function of the readings
    /// alone, in their order, so following the stored ones again gives the same bits. That a window was restarted is
    /// read off the reading itself (it has one row) for the same reason.
    pub(crate) fn follow(&mut self, step: u64, reading: &mut EdgeReading) -> Followed {
        let detections = self.state.followers.follow(step, reading);
        let mut rollups = Vec::new();
        self.state.rollups.push(&self.stream, self.segment, step, reading, &mut rollups);
        let snapshot = due(&mut self.since_snapshot).then(|| FollowerSnapshot {
            segment: self.segment,
            key: FollowerKey::Stream(self.stream.clone()),
            step,
            state: encode(&self.state),
        });
        Followed { detections, rollups, snapshot }
    }
}

/// Rollups of the scalars of a segment.
#[derive(Debug)]
pub(crate) struct ScalarFollower {
    segment: u32,
    rollups: BTreeMap<String, Rollup>,
    since_snapshot: u32,
}

impl ScalarFollower {
    pub(crate) fn new(segment: u32) -> Self {
        Self { segment, rollups: BTreeMap::new(), since_snapshot: first_due() }
    }

    /// Continues from a saved state; the steps stored behind it must then be followed again.
    pub(crate) fn restore(&mut self, bytes: &[u8]) -> bool {
        let Some(rollups) = decode(bytes) else { return false };
        self.rollups = rollups;
        self.since_snapshot = 0;
        true
    }

    /// How many scalars there are.
    pub(crate) fn names(&self) -> usize {
        self.rollups.len()
    }

    /// Whether it has come before.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.rollups.contains_key(name)
    }

    /// Takes in the scalars of the next step.
    pub(crate) fn follow(&mut self, step: u64, scalars: &BTreeMap<String, f64>) -> Followed {
        let mut rollups = Vec::new();
        for (name, &value) in scalars {
            if !self.rollups.contains_key(name) {
                self.rollups.insert(name.clone(), Rollup::default());
            }
            if let Some(rollup) = self.rollups.get_mut(name) {
                rollup.push_rows(&format!("scalar.{name}"), None, self.segment, (step, value), &mut rollups);
            }
        }
        let snapshot = due(&mut self.since_snapshot).then(|| FollowerSnapshot {
            segment: self.segment,
            key: FollowerKey::Scalars,
            step,
            state: encode(&self.rollups),
        });
        Followed { detections: Vec::new(), rollups, snapshot }
    }
}

/// Only the newest state of what is followed is of use.
pub(super) fn keep_latest(commit: &mut RunCommit, snapshot: Option<FollowerSnapshot>) {
    if let Some(snapshot) = snapshot {
        commit.followers.retain(|it| (it.segment, &it.key) != (snapshot.segment, &snapshot.key));
        commit.followers.push(snapshot);
    }
}

/// Where the count to the next saved state begins: the first reading saves one.
pub(super) fn first_due() -> u32 {
    SNAPSHOT_EVERY - 1
}

pub(super) fn due(since_snapshot: &mut u32) -> bool {
    *since_snapshot += 1;
    let due = *since_snapshot >= SNAPSHOT_EVERY;
    if due {
        *since_snapshot = 0;
    }
    due
}

pub(super) fn encode<T: Serialize>(state: &T) -> Vec<u8> {
    let mut bytes = vec![SNAPSHOT_VERSION];
    match postcard::to_allocvec(state) {
        Ok(encoded) => bytes.extend(encoded),
        // Cannot happen for these types; an empty state is refused on the way back and followed anew.
        Err(error) => tracing::error!(%error, "follower state cannot be encoded"),
    }
    bytes
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&version, encoded) = bytes.split_first()?;
    (version == SNAPSHOT_VERSION).then(|| postcard::from_bytes(encoded).ok()).flatten()
}
