//! What only earlier readings tell.

use serde::{Deserialize, Serialize};

use super::LearningCellReading;

/// How much an order may grow and still count as propagated.
const GROWTH: f64 = 0.1;

/// The earlier readings of one layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The first moment order that there was.
    first_order: Option<f64>,
}

impl History {
    /// Fills `moment_propagation`: order(t) ≤ order(0) + 0.1, order(0) that of the first reading which has an order
    /// \[ours\]; that one itself satisfies it. Null without an order.
    pub fn complete(&mut self, reading: &mut LearningCellReading) {
        reading.moment_propagation =
            reading.moment_order.map(|order| order <= *self.first_order.get_or_insert(order) + GROWTH);
    }
}
