//! The edge instrument over a live stream of rows.

use super::instrument::Instrument;
use super::{EdgeParams, EdgeReading, PositionRule};
use crate::window::{Window, WindowError};

/// Readings of one (attempt, group, kind), for several window lengths over one ring of rows.
///
/// Invariant: what `push` answers is a function of the last (longest length) + 1 rows since the restart alone. After a
/// server restart it is enough to `refill` those rows; the next `push` gives the bits an undisturbed stream would give.
#[derive(Debug)]
pub struct EdgeStream {
    window: Window,
    /// One a window length, in the declared order.
    instruments: Vec<Instrument>,
}

impl EdgeStream {
    /// A stream of rows of `dim` entries, for window lengths in rows, over a group of `parameter_count` parameters.
    /// `sketched` says the rows are sketches of dimension `dim` and not the updates themselves.
    ///
    /// # Errors
    /// `dim` or `parameter_count` 0; no length, a length outside 3..=64, or one given twice.
    pub fn new(dim: usize, lengths: &[usize], parameter_count: u64, sketched: bool) -> Result<Self, WindowError> {
        let window = Window::new(dim, lengths)?;
        if parameter_count == 0 {
            return Err(WindowError::NoParameters);
        }
        let sketch_dim = sketched.then_some(dim as u64);
        let instruments =
            lengths.iter().map(|&window| Instrument::new(EdgeParams { window, parameter_count, sketch_dim })).collect();
        Ok(Self { window, instruments })
    }

    /// The same, with k* found by another rule than `mass`.
    #[must_use]
    pub fn with_position_rule(mut self, rule: PositionRule) -> Self {
        self.instruments.iter_mut().for_each(|instrument| instrument.set_rule(rule));
        self
    }

    /// Forgets all rows: the next one starts a new, warming window.
    pub fn restart(&mut self) {
        self.window.restart();
        self.instruments.iter_mut().for_each(Instrument::forget_previous);
    }

    /// Takes in a row and answers one reading a window length, in the declared order. `learning_rate` is that of the
    /// newest row. `norm_z` and the gap flow are left none: they depend on more history and are filled by
    /// [`Followers`](crate::followers::Followers); what the job sends of the edge itself comes with
    /// [`EdgeReading::add_terms`].
    ///
    /// # Errors
    /// A row of another length, or with NaN or infinity, is refused and leaves the stream as it was.
    pub fn push(&mut self, row: &[f32], learning_rate: Option<f64>) -> Result<Vec<EdgeReading>, WindowError> {
        self.window.push(row)?;
        let (window, rows) = (&self.window, self.window.rows());
        Ok(self
            .instruments
            .iter_mut()
            .map(|instrument| instrument.read(rows, learning_rate, |i, j| window.dot(i, j)))
            .collect())
    }

    /// Takes in a row without a reading, to refill the window after a restart of the server.
    ///
    /// # Errors
    /// As for `push`.
    pub fn refill(&mut self, row: &[f32]) -> Result<(), WindowError> {
        self.window.push(row)?;
        self.instruments.iter_mut().for_each(Instrument::forget_previous);
        Ok(())
    }

    /// Rows since the restart, saturating at (longest length) + 1.
    pub fn rows(&self) -> usize {
        self.window.rows()
    }
}
