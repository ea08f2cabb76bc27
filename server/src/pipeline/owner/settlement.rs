//! What a batch of work ends in: one numbered commit, and whom it frees and tells once it is there.

use std::sync::Arc;

use gradwatch_store::{RunCommit, RunCounters, RunPatch, RunState};

use super::RunOwner;
use crate::{
    pipeline::budget::Permit,
    recorder::{MarkAdvance, Settlement},
};

impl RunOwner {
    /// Changes of the run's own row that follow from what happened.
    pub(super) fn note_changes(&mut self, now_us: i64, commit: &mut RunCommit) {
        for step in &commit.steps {
            for name in step.scalars.keys() {
                if !self.scalar_names.contains(name) {
                    self.scalar_names.insert(name.clone());
                    commit.scalar_names.push(name.clone());
                }
            }
        }
        let newest = self.newest_segment().and_then(|newest| self.attempts.get(&newest));
        if let Some(regime) = newest.map(|held| held.owner.regime())
            && regime != self.regime
        {
            self.regime = regime;
            commit.patch.regime = Some(regime);
        }
        // Only the newest attempt says where the run stands.
        if commit.patch.last_step.is_some() {
            commit.patch.last_step = newest.and_then(|held| held.owner.last_step());
        }
        let heard_us = self.pulse.last_heard_us().unwrap_or(self.last_seen_us);
        // Heartbeats alone are written down no more often than it takes to tell a stall from a crash.
        let stale_us = i64::try_from(self.liveness.heartbeat_ms.saturating_mul(3_000)).unwrap_or(i64::MAX);
        let speaks = !commit.marks.is_empty() || commit.patch.state.is_some_and(|state| state != RunState::Crashed);
        if speaks || heard_us - self.last_seen_us > stale_us {
            self.last_seen_us = if speaks { now_us } else { heard_us };
            commit.patch.last_seen_us = Some(self.last_seen_us);
        }
    }

    /// Invariant: an owner's commits are numbered without a gap, so that one whose answer was lost never lands twice.
    pub(super) fn settlement(&mut self, mut commit: RunCommit, permits: Vec<Permit>) -> Option<Settlement> {
        let empty = commit.marks.is_empty()
            && commit.events.is_empty()
            && commit.layer_readings.is_empty()
            && commit.patch == RunPatch { counters: RunCounters::default(), ..RunPatch::default() };
        if empty {
            return None;
        }
        commit.after_commit = self.commits;
        self.commits += 1;
        commit.commit_number = self.commits;
        let advances = commit.marks.iter().filter_map(|mark| {
            let shard = self.attempts.get(&mark.segment)?.owner.shard(mark.shard)?;
            Some(MarkAdvance {
                mark: Arc::clone(&shard.mark),
                committed_seq: mark.to_seq,
                keep_from_seq: mark.keep_from_seq,
            })
        });
        Some(Settlement {
            advances: advances.collect(),
            layer_wall_times: std::mem::take(&mut self.layer_wall_times),
            project: Arc::clone(&self.project),
            live_to_step: Arc::clone(&self.live_to_step),
            commit,
            permits,
            in_flight: self.in_flight.begin(),
            done: std::mem::take(&mut self.finished),
        })
    }
}
