//! Reading one snapshot: what needs the store, and the work of the instrument.

use std::sync::Arc;

use gradwatch_spectral::layers::{LayerReading, Reason};
use gradwatch_store::{
    FollowerKey, LayerReadingQuery, LayerSpec, RunId, SnapshotKey, StepQuery, StoreError, lineage::SegmentRange,
};

use super::{decode, follow::LayerFollower};
use crate::pipeline::{Shared, load::PAGE};

/// A snapshot to be read. It works on nothing of the run's owner, which goes on meanwhile.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) run_id: RunId,
    pub(crate) key: SnapshotKey,
    /// What the layer was declared as; none when the segment does not say.
    pub(crate) layer: Option<LayerSpec>,
    /// Of its step, if it is known.
    pub(crate) wall_time_us: Option<i64>,
    /// A new follower, where the owner has none of this layer.
    pub(crate) follower: Option<LayerFollower>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Read(Box<ReadSnapshot>),
    /// It does not wait in the store any more.
    Gone(SnapshotKey),
    /// The store does not answer; it has to be tried again.
    Unavailable(SnapshotKey),
}

/// A snapshot with its reading, not followed yet.
#[derive(Debug)]
pub(crate) struct ReadSnapshot {
    pub(crate) key: SnapshotKey,
    pub(crate) reading: LayerReading,
    pub(crate) wall_time_us: Option<i64>,
    /// Brought up to the layer's last stored reading.
    pub(crate) follower: Option<LayerFollower>,
}

impl Job {
    pub(crate) async fn run(self, shared: &Shared) -> Outcome {
        let (run_id, key) = (self.run_id, self.key.clone());
        match self.read(shared).await {
            Ok(Some(read)) => Outcome::Read(Box::new(read)),
            Ok(None) => {
                tracing::warn!(%run_id, ?key, "a snapshot that was to be read is gone");
                Outcome::Gone(key)
            }
            Err(error) => {
                tracing::warn!(%run_id, ?key, %error, "a snapshot cannot be read yet");
                Outcome::Unavailable(key)
            }
        }
    }

    async fn read(mut self, shared: &Shared) -> Result<Option<ReadSnapshot>, StoreError> {
        if self.wall_time_us.is_none() {
            self.wall_time_us = self.wall_time(shared).await?;
        }
        let follower = match self.follower.take() {
            Some(follower) => Some(self.up_to_date(follower, shared).await?),
            None => None,
        };
        // Invariant (promise 7): however many runs have snapshots waiting, and however long each of them is, only as many
        // are in memory as can soon be read.
        let slot = Arc::clone(&shared.snapshot_slots).acquire_owned().await;
        let slot = slot.map_err(|closed| StoreError::Unavailable(closed.to_string()))?;
        let Some(payload) = shared.store.snapshot_payload(self.run_id, &self.key).await? else { return Ok(None) };
        let Self { run_id, key, layer, wall_time_us, .. } = self;
        let failed = LayerReading::refused(key.layer.instrument, Reason::Failed);
        let Some(layer) = layer else {
            tracing::error!(%run_id, ?key, "a snapshot of a layer that was not declared");
            return Ok(Some(ReadSnapshot { key, reading: failed, wall_time_us, follower }));
        };
        // Invariant (promise 11): a panic of an instrument costs the one reading.
        let read = move || {
            // As long as the payload, also when nobody waits for the reading any more.
            let _slot = slot;
            decode::reading(&layer, &payload)
        };
        let reading = shared.snapshot_pool.run(read).await;
        let reading = reading.unwrap_or_else(|panicked| {
            tracing::error!(%run_id, ?key, cause = panicked.0, "panic while reading a snapshot");
            failed
        });
        Ok(Some(ReadSnapshot { key, reading, wall_time_us, follower }))
    }

    async fn wall_time(&self, shared: &Shared) -> Result<Option<i64>, StoreError> {
        let ranges = self.range(self.key.step, self.key.step);
        let page = shared.store.steps(&StepQuery { run_id: self.run_id, ranges, limit: 1 }).await?;
        Ok(page.items.first().map(|step| step.wall_time_us))
    }

    /// Invariant (promise 3): a follower comes back to the same bits, from its last saved state and the readings stored
    /// behind it.
    async fn up_to_date(&self, mut follower: LayerFollower, shared: &Shared) -> Result<LayerFollower, StoreError> {
        let layer = &self.key.layer;
        let saved = shared.store.follower_snapshots(self.run_id, self.key.segment).await?;
        let mut from_step = match saved.iter().find(|it| it.key == FollowerKey::Layer(layer.clone())) {
            Some(saved) if follower.restore(&saved.state) => saved.step + 1,
            _ => 0,
        };
        while from_step < self.key.step {
            let query = LayerReadingQuery {
                run_id: self.run_id,
                layer: layer.clone(),
                ranges: self.range(from_step, self.key.step - 1),
                limit: PAGE,
            };
            let page = shared.store.layer_readings(&query).await?;
            from_step = page.items.last().map_or(from_step, |item| item.row.step + 1);
            let follow = move || {
                for mut item in page.items {
                    follower.follow(item.row.step, &mut item.row.reading);
                }
                follower
            };
            let followed = shared.snapshot_pool.run(follow).await;
            follower = followed.map_err(|panicked| StoreError::Unavailable(panicked.0))?;
            if !page.more {
                break;
            }
        }
        Ok(follower)
    }

    fn range(&self, from_step: u64, to_step: u64) -> Vec<SegmentRange> {
        vec![SegmentRange { segment: self.key.segment, from_step, to_step }]
    }
}
