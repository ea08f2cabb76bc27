//! The last rows of one (attempt, group, kind) with their dot products.

use crate::dot::dots_of;
use crate::gram::GramRing;

/// Shortest and longest window length, in rows.
pub const WINDOW_LENGTHS: std::ops::RangeInclusive<usize> = 3..=64;

/// Why a window refuses its declaration or a row. The message names the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowError {
    /// No window length was declared.
    #[error("windows: at least one window length is needed")]
    NoLength,
    /// A window length outside 3..=64.
    #[error("windows: length {length} is outside 3..=64")]
    LengthOutOfRange {
        /// The length as declared, rows.
        length: usize,
    },
    /// The same window length twice.
    #[error("windows: length {length} is declared twice")]
    DuplicateLength {
        /// The length as declared, rows.
        length: usize,
    },
    /// Rows without entries.
    #[error("dim: must be at least 1")]
    NoDimension,
    /// A group without parameters.
    #[error("parameter_count: must be at least 1")]
    NoParameters,
    /// A row of another length than declared.
    #[error("row: has {got} entries, {expected} were declared")]
    RowLength {
        /// Entries of the refused row.
        got: usize,
        /// Entries every row must have.
        expected: usize,
    },
    /// A row holding NaN or infinity, or one whose norm overflows float64.
    #[error("row: not finite")]
    NonFinite,
    /// A table of dot products that is not n × n.
    #[error("dots: {got} entries are not {rows} x {rows}")]
    TableShape {
        /// Entries of the table.
        got: usize,
        /// Rows it is said to have.
        rows: usize,
    },
    /// Learning rates were given, but not one for every row.
    #[error("learning_rates: {got} given for {rows} rows")]
    LearningRates {
        /// Learning rates given.
        got: usize,
        /// Rows they belong to.
        rows: usize,
    },
}

/// Checks declared window lengths: at least one, each within 3..=64, none twice. Returns the longest.
pub(crate) fn longest_of(lengths: &[usize]) -> Result<usize, WindowError> {
    for (at, &length) in lengths.iter().enumerate() {
        if !WINDOW_LENGTHS.contains(&length) {
            return Err(WindowError::LengthOutOfRange { length });
        }
        if lengths[..at].contains(&length) {
            return Err(WindowError::DuplicateLength { length });
        }
    }
    lengths.iter().copied().max().ok_or(WindowError::NoLength)
}

/// The newest rows of one stream and the dot products among them, for several window lengths at once.
///
/// One ring of (longest length) + 1 rows of float32: the extra row is the one that leaves the longest window, which the
/// change between consecutive windows needs. Rows are neither centred nor normalised \[source: 2603.28964\].
///
/// Invariant: every Gram entry is computed once, from the decoded float32 rows, accumulated in float64 by one dot
/// product whose order of additions is the same on every processor. A window that saw the same last rows since a
/// restart therefore holds the same bits, however it came by them.
#[derive(Debug, Clone)]
pub struct Window {
    dim: usize,
    lengths: Vec<usize>,
    /// (longest + 1) × dim, by ring slot; the slots are those of `gram`.
    ring: Vec<f32>,
    gram: GramRing,
    /// Products of the arriving row, kept to spare an allocation a step.
    products: Vec<f64>,
}

impl Window {
    /// An empty window over rows of `dim` entries for the given window lengths (rows).
    ///
    /// # Errors
    /// `dim` 0; no length, a length outside 3..=64, or one given twice.
    pub fn new(dim: usize, lengths: &[usize]) -> Result<Self, WindowError> {
        let capacity = longest_of(lengths)? + 1;
        if dim == 0 {
            return Err(WindowError::NoDimension);
        }
        Ok(Self {
            dim,
            lengths: lengths.to_vec(),
            ring: vec![0.0; capacity * dim],
            gram: GramRing::new(capacity),
            products: Vec::with_capacity(capacity),
        })
    }

    /// Takes in the next row, oldest out. Costs one dot product with each row that stays.
    ///
    /// # Errors
    /// A row of another length, or with NaN or infinity, is refused and leaves the window as it was.
    pub fn push(&mut self, row: &[f32]) -> Result<(), WindowError> {
        if row.len() != self.dim {
            return Err(WindowError::RowLength { got: row.len(), expected: self.dim });
        }
        // Without an early exit the check runs in vector registers; a bad row is the exception.
        if !row.iter().fold(true, |finite, x| finite & x.is_finite()) {
            return Err(WindowError::NonFinite);
        }
        let slot = self.gram.next_slot();
        self.ring[slot * self.dim..(slot + 1) * self.dim].copy_from_slice(row);
        let kept = self.gram.rows().min(self.longest());
        // Ages count from the arriving row, which is not in the ring's count yet: hence `age - 1`.
        let rows: Vec<&[f32]> = (0..=kept)
            .map(|age| if age == 0 { slot } else { self.gram.slot(age - 1) })
            .map(|slot| &self.ring[slot * self.dim..(slot + 1) * self.dim])
            .collect();
        self.products.resize(rows.len(), 0.0);
        dots_of(rows[0], &rows, &mut self.products);
        self.gram.push(&self.products);
        Ok(())
    }

    /// Forgets all rows: the next one starts a new window.
    pub fn restart(&mut self) {
        self.gram.clear();
    }

    /// Rows since the restart, saturating at (longest length) + 1.
    pub fn rows(&self) -> usize {
        self.gram.rows()
    }

    /// Entries of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The declared window lengths, rows, in the declared order.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Bytes of the ring of rows: (longest length + 1) · dim · 4, saturating. What a memory limit counts.
    pub fn memory_bytes(dim: usize, lengths: &[usize]) -> usize {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        longest.saturating_add(1).saturating_mul(dim).saturating_mul(size_of::<f32>())
    }

    /// ⟨row of age i, row of age j⟩, age 0 the newest; both below `rows()`.
    pub(crate) fn dot(&self, i: usize, j: usize) -> f64 {
        self.gram.dot(i, j)
    }

    fn longest(&self) -> usize {
        // `new` refuses an empty list.
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}
