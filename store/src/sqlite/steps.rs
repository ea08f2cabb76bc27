//! Steps, and the scalars in them.

use futures_util::TryStreamExt as _;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore,
    bulk::{Bulk, Values},
    codec::{self, FloatOrWord, bound_i64, to_i64},
};
use crate::{
    error::StoreError,
    model::{RunId, StepRow},
    query::{Page, SeriesPoint, SeriesQuery, StepQuery},
};

static INSERT_STEPS: Bulk = Bulk::new(
    "INSERT INTO steps (run_id, segment, step, seqs, wall_time_us, received_at_us, learning_rate, weight_decay, phase,
                        complete, scalars, nonfinite_payloads) VALUES",
    12,
    "",
);

pub(super) async fn insert(connection: &mut SqliteConnection, rows: &[(RunId, &StepRow)]) -> Result<(), StoreError> {
    INSERT_STEPS
        .run(connection, rows, |(run_id, row), values| {
            values.push(run_id.0.as_bytes().as_slice())?;
            values.push(row.segment)?;
            values.push(to_i64("steps.step", row.step)?)?;
            values.push(codec::to_json("steps.seqs", &row.seqs)?)?;
            values.push(row.wall_time_us)?;
            values.push(row.received_at_us)?;
            push_float_or_word(values, row.learning_rate)?;
            push_float_or_word(values, row.weight_decay)?;
            values.push(row.phase)?;
            values.push(row.complete)?;
            values.push(codec::scalars_to_json(&row.scalars)?)?;
            let payloads = (!row.nonfinite_payloads.is_empty()).then_some(&row.nonfinite_payloads);
            values.push(payloads.map(|payloads| codec::to_json("steps.nonfinite_payloads", payloads)).transpose()?)
        })
        .await?;
    Ok(())
}

fn push_float_or_word(values: &mut Values, value: Option<f64>) -> Result<(), StoreError> {
    match value.map(FloatOrWord::from) {
        None => values.push(None::<f64>),
        Some(FloatOrWord::Float(value)) => values.push(value),
        Some(FloatOrWord::Word(word)) => values.push(word),
    }
}

fn step(row: &SqliteRow) -> Result<StepRow, StoreError> {
    Ok(StepRow {
        segment: codec::unsigned(row, "segment")?,
        step: codec::unsigned(row, "step")?,
        seqs: codec::json(row, "seqs")?,
        wall_time_us: row.try_get("wall_time_us")?,
        received_at_us: row.try_get("received_at_us")?,
        learning_rate: codec::float_or_word(row, "learning_rate")?,
        weight_decay: codec::float_or_word(row, "weight_decay")?,
        phase: codec::unsigned(row, "phase")?,
        complete: row.try_get("complete")?,
        scalars: codec::scalars_from_json(row.try_get("scalars")?)?,
        nonfinite_payloads: codec::json_or_null(row, "nonfinite_payloads")?.unwrap_or_default(),
    })
}

pub(super) async fn steps(store: &SqliteStore, query: &StepQuery) -> Result<Page<StepRow>, StoreError> {
    let mut snapshot = store.readers.begin().await?;
    let mut items = Vec::new();
    for range in &query.ranges {
        // One more than wanted tells whether there are more.
        let wanted = query.limit.saturating_add(1) - items.len();
        let rows = sqlx::query(
            "SELECT * FROM steps WHERE run_id = ? AND segment = ? AND step BETWEEN ? AND ? ORDER BY step LIMIT ?",
        )
        .bind(query.run_id.0.as_bytes().as_slice())
        .bind(range.segment)
        .bind(bound_i64(range.from_step))
        .bind(bound_i64(range.to_step))
        .bind(codec::size_i64(wanted))
        .fetch_all(&mut *snapshot)
        .await?;
        for row in &rows {
            items.push(step(row)?);
        }
        if items.len() > query.limit {
            break;
        }
    }
    let more = items.len() > query.limit;
    items.truncate(query.limit);
    Ok(Page { items, more })
}

pub(super) async fn series(
    store: &SqliteStore,
    query: &SeriesQuery,
    name: &str,
) -> Result<Vec<SeriesPoint>, StoreError> {
    let mut snapshot = store.readers.begin().await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        // A stream, because a million rows of the driver would take far more memory than their points.
        let mut rows = sqlx::query(
            "SELECT step, scalars FROM steps WHERE run_id = ? AND segment = ? AND step BETWEEN ? AND ? ORDER BY step",
        )
        .bind(query.run_id.0.as_bytes().as_slice())
        .bind(range.segment)
        .bind(bound_i64(range.from_step))
        .bind(bound_i64(range.to_step))
        .fetch(&mut *snapshot);
        while let Some(row) = rows.try_next().await? {
            if let Some(value) = codec::scalar_from_json(row.try_get("scalars")?, name)? {
                points.push(SeriesPoint { segment: range.segment, step: codec::unsigned(&row, "step")?, value });
            }
        }
    }
    Ok(points)
}

pub(super) async fn scalar_names(store: &SqliteStore, run_id: RunId) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar("SELECT name FROM scalar_names WHERE run_id = ? ORDER BY name")
        .bind(run_id.0.as_bytes().as_slice())
        .fetch_all(&store.readers)
        .await?)
}
