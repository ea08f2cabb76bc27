//! What models said on probe batches.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, finite, to_i64},
    error::StoreError,
    lineage::SegmentRange,
    model::{PredictionRow, RunId},
};

pub(super) fn encode((run_id, row): &(RunId, &PredictionRow), values: &mut impl Values) -> Result<(), StoreError> {
    for (field, numbers) in [("predictions.values", &row.values), ("predictions.targets", &row.targets)] {
        numbers.iter().try_for_each(|&number| finite(field, number.into()).map(drop))?;
    }
    values.uuid(run_id.0)?;
    values.integer(i64::from(row.segment))?;
    values.integer(to_i64("predictions.step", row.step)?)?;
    values.text(row.probe.as_str())?;
    values.bytes(codec::float32s_to_blob(&row.values).as_slice())?;
    values.bytes(codec::float32s_to_blob(&row.targets).as_slice())
}

/// The key of predictions that are kept no longer.
pub(super) fn encode_dropped(
    (run_id, (segment, step, probe)): &(RunId, &(u32, u64, String)),
    values: &mut impl Values,
) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.integer(i64::from(*segment))?;
    values.integer(to_i64("dropped_predictions.step", *step)?)?;
    values.text(probe.as_str())
}

pub(super) async fn kept_predictions(
    backend: &impl Backend,
    run_id: RunId,
) -> Result<Vec<(u32, u64, String, u64)>, StoreError> {
    let select = Statement::new(
        "SELECT segment, step, probe, CAST(length(predictions.\"values\") + length(targets) AS BIGINT) AS value_bytes
         FROM predictions WHERE run_id = $1 ORDER BY segment, step, probe",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id)).await?;
    rows.iter()
        .map(|row| {
            let (segment, step) = (codec::unsigned(row, "segment")?, codec::unsigned(row, "step")?);
            Ok((segment, step, codec::string(row, "probe")?, codec::unsigned(row, "value_bytes")?))
        })
        .collect()
}

pub(super) async fn predictions(
    backend: &impl Backend,
    run_id: RunId,
    probe: &str,
    ranges: &[SegmentRange],
) -> Result<Vec<PredictionRow>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut found = Vec::new();
    for range in ranges {
        let select = Statement::new(
            "SELECT * FROM predictions WHERE run_id = $1 AND probe = $2 AND segment = $3 AND step BETWEEN $4 AND $5
             ORDER BY step",
        );
        let select = select
            .bind(run_id)
            .bind(probe)
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step));
        for row in &snapshot.fetch_all(select).await? {
            found.push(PredictionRow {
                segment: range.segment,
                step: codec::unsigned(row, "step")?,
                probe: probe.to_owned(),
                values: numbers(row, "values")?,
                targets: numbers(row, "targets")?,
            });
        }
    }
    Ok(found)
}

fn numbers(row: &impl Columns, column: &str) -> Result<Vec<f32>, StoreError> {
    codec::float32s_from_blob(column, codec::present(column, row.bytes(column)?)?)
}
