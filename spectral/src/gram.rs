//! The dot products of the newest rows, kept as a ring so that a step costs one row of products and no copying.

/// ⟨row, row⟩ of the newest `capacity` rows, float64. Rows are addressed by age: 0 is the newest.
///
/// Invariant: an entry is computed once, when the younger of its two rows arrives, and never again; every window
/// length reads the same entry.
#[derive(Debug, Clone)]
pub(crate) struct GramRing {
    capacity: usize,
    /// Ring slot of the newest row; meaningful once `rows` > 0.
    newest: usize,
    /// Rows held, at most `capacity`.
    rows: usize,
    /// `capacity` × `capacity` by slot, symmetric.
    dots: Vec<f64>,
}

impl GramRing {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, newest: 0, rows: 0, dots: vec![0.0; capacity * capacity] }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn clear(&mut self) {
        self.rows = 0;
    }

    /// The slot the next row will take: that of the oldest row once the ring is full.
    pub(crate) fn next_slot(&self) -> usize {
        if self.rows == 0 { 0 } else { (self.newest + 1) % self.capacity }
    }

    /// The slot of the row of that age, `age` < rows.
    pub(crate) fn slot(&self, age: usize) -> usize {
        debug_assert!(age < self.rows);
        // Not a remainder: this stands in the innermost loops of a reading, where a division would cost most of it.
        if age <= self.newest { self.newest - age } else { self.newest + self.capacity - age }
    }

    /// Takes in a row by its products: `dots[a]` with the row that will then have age `a`, `dots[0]` with itself.
    /// `dots` holds min(rows + 1, capacity) values.
    pub(crate) fn push(&mut self, dots: &[f64]) {
        let slot = self.next_slot();
        self.newest = slot;
        self.rows = (self.rows + 1).min(self.capacity);
        debug_assert_eq!(dots.len(), self.rows);
        for (age, dot) in dots.iter().enumerate() {
            let other = self.slot(age);
            self.dots[slot * self.capacity + other] = *dot;
            self.dots[other * self.capacity + slot] = *dot;
        }
    }

    /// ⟨row of age i, row of age j⟩.
    pub(crate) fn dot(&self, i: usize, j: usize) -> f64 {
        self.dots[self.slot(i) * self.capacity + self.slot(j)]
    }
}
