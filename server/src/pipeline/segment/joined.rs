//! A step as all its shards tell it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gradwatch_spectral::edge::EdgeTerms;
use gradwatch_store::StreamSpec;

use crate::pipeline::frame::{Frame, Payload, Prediction, TermsOf};

/// The frames of one step, by shard, and what they say together: learning rates, weight decay and scalars are those of
/// the lowest shard that sends them, wall time and phase those of the lowest shard there is.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) step: u64,
    pub(super) wall_time_us: i64,
    pub(super) phase: u32,
    pub(super) learning_rate: Option<f64>,
    pub(super) weight_decay: Option<f64>,
    pub(super) scalars: BTreeMap<String, f64>,
    /// By layer, of the lowest shard that sends one.
    pub(super) snapshots: BTreeMap<usize, Vec<u8>>,
    /// By probe batch, likewise.
    pub(super) predictions: BTreeMap<String, Prediction>,
    /// What happened, whichever shard says so.
    pub(super) happened: BTreeSet<String>,
    /// By window, of the lowest shard that sends them.
    edge_terms: BTreeMap<TermsOf, EdgeTerms>,
    group_learning_rates: BTreeMap<usize, f64>,
    group_weight_decays: BTreeMap<usize, f64>,
    frames: Vec<(u32, Frame)>,
}

/// One shard's part of a group's row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) shard: u32,
    pub(crate) phase: u32,
    pub(crate) payload: &'a Payload,
}

impl Joined {
    /// Adds the frame of the next higher shard.
    pub(super) fn add(&mut self, shard: u32, mut frame: Frame) {
        if self.frames.is_empty() {
            (self.step, self.wall_time_us, self.phase) = (frame.step, frame.wall_time_us, frame.phase);
            self.scalars = std::mem::take(&mut frame.scalars);
            self.group_learning_rates = std::mem::take(&mut frame.group_learning_rates);
            self.group_weight_decays = std::mem::take(&mut frame.group_weight_decays);
        } else {
            for (name, value) in std::mem::take(&mut frame.scalars) {
                self.scalars.entry(name).or_insert(value);
            }
            for (group, eta) in std::mem::take(&mut frame.group_learning_rates) {
                self.group_learning_rates.entry(group).or_insert(eta);
            }
            for (group, omega) in std::mem::take(&mut frame.group_weight_decays) {
                self.group_weight_decays.entry(group).or_insert(omega);
            }
        }
        for snapshot in std::mem::take(&mut frame.snapshots) {
            self.snapshots.entry(snapshot.layer).or_insert(snapshot.payload);
        }
        for prediction in std::mem::take(&mut frame.predictions) {
            self.predictions.entry(prediction.probe.clone()).or_insert(prediction);
        }
        for (window, terms) in std::mem::take(&mut frame.edge_terms) {
            self.edge_terms.entry(window).or_insert(terms);
        }
        self.happened.extend(std::mem::take(&mut frame.happened));
        self.learning_rate = self.learning_rate.or(frame.learning_rate);
        self.weight_decay = self.weight_decay.or(frame.weight_decay);
        self.frames.push((shard, frame));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// seq by shard.
    pub(super) fn seqs(&self, shard_count: u32) -> Vec<Option<u64>> {
        let mut seqs = vec![None; shard_count as usize];
        for (shard, frame) in &self.frames {
            seqs[*shard as usize] = Some(frame.seq);
        }
        seqs
    }

    /// eta of a group; unknown when it is not a number that readings could be computed with.
    pub(super) fn learning_rate_of(&self, group: usize) -> Option<f64> {
        self.group_learning_rates.get(&group).copied().or(self.learning_rate).filter(|eta| eta.is_finite())
    }

    /// omega of a group; likewise.
    pub(super) fn weight_decay_of(&self, group: usize) -> Option<f64> {
        self.group_weight_decays.get(&group).copied().or(self.weight_decay).filter(|omega| omega.is_finite())
    }

    /// What the job sends of the edge of a window.
    pub(super) fn edge_terms_of(&self, window: TermsOf) -> Option<&EdgeTerms> {
        self.edge_terms.get(&window)
    }

    /// The parts of each row, in the order in which the shards name them; the number is that of the (group, kind) in the
    /// order of the spec. A shard that owns nothing of a group has no part in its rows.
    pub(super) fn rows<'a>(&'a self, spec: &StreamSpec) -> Vec<(usize, Vec<Part<'a>>)> {
        let mut rows: Vec<(usize, Vec<Part<'a>>)> = Vec::new();
        let mut row_of = BTreeMap::new();
        for (shard, frame) in &self.frames {
            for payload in &frame.payloads {
                let Some(kind) = spec.kinds.iter().position(|kind| *kind == payload.kind) else {
                    unreachable!("ingest checks kinds against the spec");
                };
                let stream = payload.group * spec.kinds.len() + kind;
                let row = *row_of.entry(stream).or_insert_with(|| {
                    rows.push((stream, Vec::new()));
                    rows.len() - 1
                });
                rows[row].1.push(Part { shard: *shard, phase: frame.phase, payload });
            }
        }
        rows
    }
}

/// seq by shard of a step that every shard took part in.
pub(super) fn whole(seqs: &[Option<u64>]) -> Option<Arc<[u64]>> {
    seqs.iter().copied().collect()
}
