//! Snapshots of layers in the owner's hands: what waits, what was read, and what follows it.

use gradwatch_spectral::detectors::Detection;
use gradwatch_store::{EventRow, LayerKey, LayerReadingRow, RunCommit, SnapshotKey};
use tokio::sync::watch;

use super::RunOwner;
use crate::{
    config::Config,
    pipeline::{
        followed::keep_latest,
        snapshots::{Job, LayerFollower, ReadSnapshot},
    },
};

impl RunOwner {
    /// The next snapshot to be read, if there is one and none is being read.
    pub(crate) fn next_snapshot(&mut self, config: &Config) -> Option<Job> {
        let next = self.backlog.next(self.in_flight.landed())?;
        let key = next.key;
        let segment = self.segments.iter().find(|segment| segment.segment == key.segment);
        let layer = segment.and_then(|it| it.spec.layers.iter().find(|layer| layer.key() == key.layer)).cloned();
        let follower = if self.layer_followers.contains_key(&(key.segment, key.layer.clone())) {
            None
        } else {
            // A configuration that was validated has detectors for every project.
            let detectors = config.detectors_of(&self.project).unwrap_or_else(|_| config.detectors.clone());
            Some(LayerFollower::new(key.segment, key.layer.clone(), &detectors))
        };
        Some(Job { run_id: self.run_id, key, layer, wall_time_us: next.wall_time_us, follower })
    }

    /// It could not be read for now.
    pub(crate) fn put_back_snapshot(&mut self, key: &SnapshotKey) {
        self.backlog.put_back(key);
    }

    /// It is not there any more.
    pub(crate) fn forget_snapshot(&mut self, key: &SnapshotKey) {
        self.backlog.done(key);
    }

    /// Follows the number of the last commit that is in the store.
    pub(crate) fn landings(&self) -> watch::Receiver<u64> {
        self.in_flight.landings()
    }

    /// Takes in what the steps of a commit brought.
    pub(super) fn admit(&mut self, commit: &mut RunCommit) {
        let skipped_at = self.backlog.admit(commit, self.commits + 1);
        self.layer_wall_times.extend(skipped_at);
        self.predictions.admit(commit);
        self.sketches.admit(commit);
    }

    /// Puts the reading of a snapshot into a commit.
    ///
    /// Invariant: a reading and the end of its waiting are one transaction, so that a crash neither loses nor doubles it.
    /// One that does not wait here (it was skipped, or read for an earlier owner whose commit landed) changes nothing.
    pub(super) fn take_reading(&mut self, read: ReadSnapshot, now_us: i64, commit: &mut RunCommit) {
        let ReadSnapshot { key, mut reading, wall_time_us, follower } = read;
        let place = (key.segment, key.layer.clone());
        if let Some(follower) = follower {
            self.layer_followers.entry(place.clone()).or_insert(follower);
        }
        let Some(follower) = self.layer_followers.get_mut(&place) else {
            // Read for an earlier owner, which had a follower. It is read again.
            self.backlog.put_back(&key);
            return;
        };
        if !self.backlog.done(&key) {
            return;
        }
        let SnapshotKey { segment, step, layer } = key;
        let (detections, snapshot) = follower.follow(step, &mut reading);
        keep_latest(commit, snapshot);
        // A superseded attempt's late snapshots are read, and fire nothing.
        if self.live_to_step.get(&segment).is_some_and(|&last| step <= last) {
            commit.events.extend(detections.iter().map(|it| detection_event(it, segment, &layer, now_us)));
        }
        self.layer_wall_times.push(wall_time_us);
        commit.layer_readings.push(LayerReadingRow { layer, segment, step, reading });
    }

    /// Lets go of what follows layers of attempts that are over. Only while all commits are in the store: it comes back
    /// from there.
    pub(super) fn release_layer_followers(&mut self) {
        if self.in_flight.is_none() {
            let newest = self.newest_segment();
            let Self { layer_followers, backlog, .. } = self;
            layer_followers.retain(|(segment, _), _| Some(*segment) == newest || backlog.holds(*segment));
        }
    }
}

fn detection_event(detection: &Detection, segment: u32, layer: &LayerKey, now_us: i64) -> EventRow {
    let mut evidence = serde_json::to_value(&detection.evidence).unwrap_or_default();
    evidence["instrument"] = layer.instrument.as_str().into();
    EventRow {
        group: Some(layer.layer.clone()),
        from: detection.from.map(|regime| regime.as_str().to_owned()),
        to: detection.to.map(|regime| regime.as_str().to_owned()),
        ..EventRow::new(detection.detector.as_str(), segment, Some(detection.step), now_us, evidence)
    }
}
