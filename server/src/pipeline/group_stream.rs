//! The window of one (attempt, group, kind) and the rows that enter it.

use std::{collections::VecDeque, sync::Arc};

use gradwatch_spectral::{
    edge::{EdgeReading, EdgeStream},
    encoding::{NonFiniteCounts, decode_f16, decode_f32},
    window::WindowError,
};
use gradwatch_store::{Kind, StreamSpec};

use super::{frame::Body, segment::Part};

/// What a payload does to its window besides its readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// `base_step` is not the previous row's step.
    Hole { expected_base_step: u64, base_step: u64 },
    /// The number of steps in a row changed.
    Interval { from: u64, to: u64 },
    /// The client raised its phase counter.
    Phase { from: u32, to: u32 },
    /// Two shards do not mean the same row.
    Disagreement { field: &'static str, shards: [u32; 2], values: [u64; 2] },
}

impl Restart {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Hole { .. } => "hole",
            Self::Interval { .. } => "interval",
            Self::Phase { .. } => "phase",
            Self::Disagreement { .. } => "disagreement",
        }
    }
}

/// What a payload led to.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) restart: Option<Restart>,
    pub(crate) non_finite: Option<NonFiniteCounts>,
    /// One a window length, in the declared order; empty while refilling.
    pub(crate) readings: Vec<EdgeReading>,
}

/// Where a row stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// By shard: which frames it comes from.
    pub(crate) seqs: Arc<[u64]>,
    pub(crate) step: u64,
}

#[derive(Clone, Copy, Debug)]
struct LastRow {
    step: u64,
    interval: u64,
    phase: u32,
}

/// The window of one (attempt, group, kind).
#[derive(Debug)]
pub(crate) struct GroupStream {
    group: usize,
    kind: Kind,
    edge: EdgeStream,
    last_row: Option<LastRow>,
    /// The rows that the windows could need again: the last (longest window + 1).
    places: VecDeque<Place>,
    rows_kept: usize,
    /// The window began where the rows themselves say so, not where a refill happened to begin.
    began_by_itself: bool,
    /// Rows are being left out, which was told when it began.
    leaves_out: bool,
    scratch: Vec<f32>,
    /// Empty as long as one shard brings all.
    sum: Vec<f64>,
}

impl GroupStream {
    pub(crate) fn new(spec: &StreamSpec, group: usize, kind: Kind) -> Result<Self, WindowError> {
        let parameter_count = spec.groups[group].parameter_count();
        let edge = EdgeStream::new(spec.sketch_dim, &spec.window_lengths, parameter_count, true)?;
        let rows_kept = spec.window_lengths.iter().max().map_or(0, |longest| longest + 1);
        let scratch = vec![0.0; spec.sketch_dim];
        Ok(Self {
            group,
            kind,
            edge,
            last_row: None,
            places: VecDeque::new(),
            rows_kept,
            began_by_itself: false,
            leaves_out: false,
            scratch,
            sum: Vec::new(),
        })
    }

    pub(crate) fn group(&self) -> usize {
        self.group
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The oldest row that a refill of these windows needs.
    pub(crate) fn oldest(&self) -> Option<&Place> {
        self.places.front()
    }

    /// Whether it holds every row that it would hold had its owner never changed.
    pub(crate) fn is_whole(&self) -> bool {
        self.began_by_itself || self.places.len() == self.rows_kept
    }

    /// The row that entered last, as it entered.
    pub(crate) fn newest(&self) -> &[f32] {
        &self.scratch
    }

    /// Whether that row was the first of its window.
    pub(crate) fn began_with_newest(&self) -> bool {
        self.edge.rows() == 1
    }

    /// Starts the window again because the rows themselves say so.
    pub(crate) fn restart(&mut self) {
        self.forget();
        self.began_by_itself = true;
    }

    /// Forgets all rows, as if there had been others before.
    pub(crate) fn forget(&mut self) {
        self.edge.restart();
        self.last_row = None;
        self.places.clear();
        self.began_by_itself = false;
    }

    /// Starts the window again because a row of it is left out; true unless the row before it was left out as well.
    pub(crate) fn leave_out(&mut self) -> bool {
        self.restart();
        !std::mem::replace(&mut self.leaves_out, true)
    }

    /// Goes on with rows being left out, as an owner before told.
    pub(crate) fn go_on_leaving_out(&mut self) {
        self.leaves_out = true;
    }

    /// Takes in a row, by the parts that the shards have of it. `refill` says that it was settled before: it only fills
    /// the window.
    ///
    /// Invariant: a row continues its window iff it starts where the previous row ended, spans as many steps, and is
    /// of the same phase; a row with NaN or infinity never enters and the window starts again.
    pub(crate) fn accept(
        &mut self,
        place: &Place,
        parts: &[Part<'_>],
        learning_rate: Option<f64>,
        refill: bool,
    ) -> Row {
        let Some(first) = parts.first() else { return Row::default() };
        if let Some(disagreement) = disagreement(parts) {
            let news = self.leave_out();
            return Row { restart: news.then_some(disagreement), ..Row::default() };
        }
        self.leaves_out = false;
        let counts = self.add_up(parts);
        if !counts.is_empty() {
            self.restart();
            return Row { non_finite: Some(counts), ..Row::default() };
        }
        let base_step = first.payload.base_step;
        let row = LastRow { step: place.step, interval: place.step - base_step, phase: first.phase };
        let restart = self.last_row.and_then(|last| discontinuity(last, row, base_step));
        if restart.is_some() {
            self.restart();
        }
        let pushed = if refill {
            self.edge.refill(&self.scratch).map(|()| Vec::new())
        } else {
            self.edge.push(&self.scratch, learning_rate)
        };
        // The row has the declared length and is finite, which is all a window asks for.
        let readings = pushed.unwrap_or_else(|error| unreachable!("{error}"));
        self.last_row = Some(row);
        if self.places.len() == self.rows_kept {
            self.places.pop_front();
        }
        self.places.push_back(place.clone());
        Row { restart, non_finite: None, readings }
    }

    /// Leaves the sum of the parts in `scratch`, unless one of them, or the sum itself, is not finite.
    ///
    /// Invariant: parts are decoded and summed in float64 in the order of the shards, which is theirs in `parts`, and
    /// rounded once. What one shard brings alone is not touched.
    fn add_up(&mut self, parts: &[Part<'_>]) -> NonFiniteCounts {
        let mut counts = NonFiniteCounts::default();
        for (index, part) in parts.iter().enumerate() {
            let decoded = match &part.payload.body {
                Body::F32(bytes) => decode_f32(bytes, &mut self.scratch),
                Body::F16 { scale, values } => decode_f16(*scale, values, &mut self.scratch),
                Body::NonFinite(counts) => Ok(*counts),
            };
            // Ingest has checked length and scale.
            let one = decoded.unwrap_or_else(|error| unreachable!("{error}"));
            counts.nan += one.nan;
            counts.positive_infinity += one.positive_infinity;
            counts.negative_infinity += one.negative_infinity;
            if parts.len() == 1 || !counts.is_empty() {
                continue;
            }
            if index == 0 {
                self.sum.clear();
                self.sum.extend(self.scratch.iter().map(|&value| f64::from(value)));
            } else {
                self.sum.iter_mut().zip(&self.scratch).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        if parts.len() > 1 && counts.is_empty() {
            for (row, sum) in self.scratch.iter_mut().zip(&mut self.sum) {
                *row = *sum as f32;
                *sum = f64::from(*row);
            }
            // Finite parts may add up to more than float32 holds.
            counts = NonFiniteCounts::of(&self.sum);
        }
        counts
    }
}

/// Whether the parts are parts of one row.
fn disagreement(parts: &[Part<'_>]) -> Option<Restart> {
    let (first, others) = parts.split_first()?;
    others.iter().find_map(|other| {
        let shards = [first.shard, other.shard];
        let (base_step, other_base_step) = (first.payload.base_step, other.payload.base_step);
        if base_step != other_base_step {
            Some(Restart::Disagreement { field: "base_step", shards, values: [base_step, other_base_step] })
        } else if first.phase != other.phase {
            let values = [first.phase.into(), other.phase.into()];
            Some(Restart::Disagreement { field: "phase", shards, values })
        } else {
            None
        }
    })
}

fn discontinuity(last: LastRow, row: LastRow, base_step: u64) -> Option<Restart> {
    if base_step != last.step {
        Some(Restart::Hole { expected_base_step: last.step, base_step })
    } else if row.interval != last.interval {
        Some(Restart::Interval { from: last.interval, to: row.interval })
    } else if row.phase != last.phase {
        Some(Restart::Phase { from: last.phase, to: row.phase })
    } else {
        None
    }
}
