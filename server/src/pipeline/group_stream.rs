//! The window of one (attempt, group, kind) and the rows that enter it.

use std::collections::VecDeque;

use gradwatch_spectral::{
    edge::{EdgeReading, EdgeStream},
    encoding::{DecodeError, NonFiniteCounts, decode_f16, decode_f32},
    window::WindowError,
};
use gradwatch_store::{Kind, StreamSpec};

use super::frame::{Body, Payload};

/// What a payload does to its window besides its readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// `base_step` is not the previous row's step.
    Hole { expected_base_step: u64, base_step: u64 },
    /// The number of steps in a row changed.
    Interval { from: u64, to: u64 },
    /// The client raised its phase counter.
    Phase { from: u32, to: u32 },
}

impl Restart {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Hole { .. } => "hole",
            Self::Interval { .. } => "interval",
            Self::Phase { .. } => "phase",
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) step: u64,
    pub(crate) phase: u32,
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
    /// seq of each row the windows could need again: the last (longest window + 1).
    seqs: VecDeque<u64>,
    rows_kept: usize,
    /// The window began where the rows themselves say so, not where a refill happened to begin.
    began_by_itself: bool,
    scratch: Vec<f32>,
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
            seqs: VecDeque::new(),
            rows_kept,
            began_by_itself: false,
            scratch,
        })
    }

    pub(crate) fn is(&self, group: usize, kind: Kind) -> bool {
        self.group == group && self.kind == kind
    }

    pub(crate) fn group(&self) -> usize {
        self.group
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The oldest frame that a refill of these windows needs.
    pub(crate) fn keep_from_seq(&self) -> Option<u64> {
        self.seqs.front().copied()
    }

    /// Whether it holds every row that it would hold had its owner never changed.
    pub(crate) fn is_whole(&self) -> bool {
        self.began_by_itself || self.seqs.len() == self.rows_kept
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
        self.seqs.clear();
        self.began_by_itself = false;
    }

    /// Takes in a payload. `refill` says that its row was settled before: it only fills the window.
    ///
    /// Invariant: a row continues its window iff it starts where the previous row ended, spans as many steps, and is
    /// of the same phase; a row with NaN or infinity never enters and the window starts again.
    pub(crate) fn accept(
        &mut self,
        place: Place,
        payload: &Payload,
        learning_rate: Option<f64>,
        refill: bool,
    ) -> Result<Row, DecodeError> {
        let counts = match &payload.body {
            Body::F32(bytes) => decode_f32(bytes, &mut self.scratch)?,
            Body::F16 { scale, values } => decode_f16(*scale, values, &mut self.scratch)?,
            Body::NonFinite(counts) => *counts,
        };
        if !counts.is_empty() {
            self.restart();
            return Ok(Row { non_finite: Some(counts), ..Row::default() });
        }
        let row = LastRow { step: place.step, interval: place.step - payload.base_step, phase: place.phase };
        let restart = self.last_row.and_then(|last| discontinuity(last, row, payload.base_step));
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
        if self.seqs.len() == self.rows_kept {
            self.seqs.pop_front();
        }
        self.seqs.push_back(place.seq);
        Ok(Row { restart, non_finite: None, readings })
    }
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
