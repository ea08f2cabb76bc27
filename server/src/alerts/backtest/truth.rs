//! Whether anything that a truth looks at was ever recorded.

use std::sync::Arc;

use gradwatch_rules::{
    evaluator::{ActiveRule, Inputs, RunEvaluator, RunFacts},
    language::Condition,
};

use crate::alerts::evaluation::input::Chunk;

/// What a truth looks at, in the values of a step.
#[derive(Debug)]
pub(super) struct Evidence {
    columns: Vec<usize>,
    /// Any of it was there.
    pub(super) is_there: bool,
}

impl Evidence {
    /// Of a truth, in what is read for it and the rules together. What happens can always be looked for.
    pub(super) fn new(truth: &ActiveRule, facts: &RunFacts, inputs: &Inputs) -> Self {
        if matches!(*truth.rule.condition, Condition::Event(_)) {
            return Self { columns: Vec::new(), is_there: true };
        }
        let alone = RunEvaluator::new(Arc::new(vec![truth.clone()]), facts);
        let wanted = alone.map(|alone| columns(alone.inputs())).unwrap_or_default();
        let all = columns(inputs).into_iter().enumerate();
        let columns = all.filter(|(_, column)| wanted.contains(column)).map(|(at, _)| at).collect();
        Self { columns, is_there: false }
    }

    pub(super) fn look(&mut self, chunk: &Chunk) {
        self.is_there =
            self.is_there || chunk.values().any(|values| self.columns.iter().any(|at| values[*at].is_some()));
    }
}

/// What stands at each place of the values of a step.
fn columns(inputs: &Inputs) -> Vec<String> {
    let mut columns = Vec::new();
    for (stream, metrics) in &inputs.streams {
        // The forms for debugging hold all of the values.
        columns.extend(metrics.iter().map(|metric| format!("{stream:?} {metric}")));
    }
    for (layer, fields) in &inputs.layers {
        columns.extend(fields.iter().map(|field| format!("{layer:?} {field}")));
    }
    columns.extend(inputs.scalars.iter().map(|scalar| format!("scalar {scalar}")));
    columns
}
