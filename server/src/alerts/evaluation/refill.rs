//! Fills the windows of an evaluator that begins in the middle of a run.

use std::collections::BTreeMap;

use gradwatch_rules::evaluator::{RunEvaluator, StepInput};
use gradwatch_store::{RunId, Store, StoreError, ValuesQuery, ValuesSource};

use super::{
    input::{CHUNK_STEPS, sources, width},
    lane::{Interrupted, beside},
    line::{Line, Place},
};
use crate::pipeline::Pipeline;

/// The distance of a term's last two values says how old it may become.
const LEAST_VALUES: usize = 2;

/// A step of which some values are needed.
struct Kept {
    place: Place,
    received_at_us: i64,
    /// By their columns: of many columns that come at different steps each step has few.
    values: Vec<(usize, f64)>,
}

/// Gives an evaluator the last values that its terms look at, up to a place, oldest first.
///
/// Invariant: its windows are then those of an evaluator that has seen the whole line.
pub(super) async fn refill(
    (store, pipeline): (&dyn Store, &Pipeline),
    run_id: RunId,
    line: &Line,
    through: Place,
    mut evaluator: RunEvaluator,
) -> Result<RunEvaluator, Interrupted> {
    let inputs = evaluator.inputs().clone();
    let width = width(&inputs);
    let wanted = inputs.look_back.max(LEAST_VALUES);
    // By their ranks on the line.
    let mut kept: BTreeMap<(usize, u64), Kept> = BTreeMap::new();
    let known = if inputs.scalars.is_empty() { Vec::new() } else { store.scalar_names(run_id).await? };
    // A scalar that was never sent is not looked for in the whole history.
    let is_sought: Vec<bool> = inputs.scalars.iter().map(|name| known.contains(name)).collect();
    let steps = (ValuesSource::Steps(inputs.scalars.clone()), is_sought, width - inputs.scalars.len());
    let mut column = 0;
    let mut all = vec![steps];
    for (source, columns) in sources(&inputs) {
        all.push((source, vec![true; columns], column));
        column += columns;
    }
    for (source, is_sought, column) in all {
        let is_steps = matches!(source, ValuesSource::Steps(_));
        let mut missing: Vec<usize> = is_sought.iter().map(|sought| if *sought { wanted } else { 0 }).collect();
        // Also without any scalar: when the last step came is known from its row.
        let mut needs_a_row = is_steps;
        let mut place = Some(through);
        let mut limit = wanted;
        while let Some(through) = place
            && (needs_a_row || missing.iter().any(|count| *count > 0))
        {
            let ranges = line.between(None, through);
            let query = ValuesQuery { run_id, source: source.clone(), ranges, backwards: true, limit };
            let rows = store.values(&query).await?;
            // The newest come last, and count first.
            for row in rows.iter().rev() {
                let needed = |(index, value): (usize, &Option<f64>)| value.is_some() && missing[index] > 0;
                if !needs_a_row && !row.values.iter().enumerate().any(needed) {
                    continue;
                }
                needs_a_row = false;
                let place = (row.segment, row.step);
                let empty = || Kept { place, received_at_us: 0, values: Vec::new() };
                let kept = kept.entry(line.rank(place)).or_insert_with(empty);
                kept.received_at_us = kept.received_at_us.max(row.received_at_us);
                for (index, value) in row.values.iter().enumerate() {
                    if let Some(value) = value
                        && missing[index] > 0
                    {
                        missing[index] -= 1;
                        kept.values.push((column + index, *value));
                    }
                }
            }
            let oldest = rows.first().filter(|_| rows.len() >= limit);
            place = oldest.and_then(|row| line.before((row.segment, row.step)));
            limit = CHUNK_STEPS;
        }
    }
    let job = move || {
        let mut values = vec![None; width];
        for kept in kept.values() {
            values.fill(None);
            kept.values.iter().for_each(|(column, value)| values[*column] = Some(*value));
            evaluator.refill(&StepInput {
                segment: kept.place.0,
                step: kept.place.1,
                received_at_us: kept.received_at_us,
                values: &values,
                events: &[],
            });
        }
        evaluator
    };
    beside(pipeline, job).await
}

/// The last place before which rules have nothing to say: all steps up to it were received before `active_from_us`. None:
/// they have something to say from the first step behind `after` on.
pub(super) async fn last_before(
    store: &dyn Store,
    run_id: RunId,
    line: &Line,
    (after, through): (Option<Place>, Place),
    active_from_us: i64,
) -> Result<Option<Place>, StoreError> {
    let query = |ranges, backwards, limit| ValuesQuery {
        run_id,
        source: ValuesSource::Steps(Vec::new()),
        ranges,
        backwards,
        limit,
    };
    let first = store.values(&query(line.between(after, through), false, 1)).await?;
    if first.first().is_none_or(|row| row.received_at_us >= active_from_us) {
        return Ok(None);
    }
    let mut place = Some(through);
    let mut limit = 256;
    while let Some(through) = place {
        let rows = store.values(&query(line.between(after, through), true, limit)).await?;
        if let Some(row) = rows.iter().rfind(|row| row.received_at_us < active_from_us) {
            return Ok(Some((row.segment, row.step)));
        }
        place = rows.first().and_then(|row| line.before((row.segment, row.step)));
        limit = CHUNK_STEPS;
    }
    Ok(None)
}
