//! Steps, and the scalars in them.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, to_i64},
    error::StoreError,
    model::{RunId, StepRow},
    query::{Page, SeriesPoint, SeriesQuery, StepQuery},
};

pub(super) fn encode((run_id, row): &(RunId, &StepRow), values: &mut impl Values) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.integer(i64::from(row.segment))?;
    values.integer(to_i64("steps.step", row.step)?)?;
    values.text(codec::to_json("steps.seqs", &row.seqs)?.as_str())?;
    values.integer(row.wall_time_us)?;
    values.integer(row.received_at_us)?;
    values.any_float(row.learning_rate)?;
    values.any_float(row.weight_decay)?;
    values.integer(i64::from(row.phase))?;
    values.flag(row.complete)?;
    values.text(codec::scalars_to_json(&row.scalars)?.as_str())?;
    let payloads = (!row.nonfinite_payloads.is_empty()).then_some(&row.nonfinite_payloads);
    let payloads = payloads.map(|payloads| codec::to_json("steps.nonfinite_payloads", payloads)).transpose()?;
    values.text(payloads.as_deref())
}

fn step(row: &impl Columns) -> Result<StepRow, StoreError> {
    Ok(StepRow {
        segment: codec::unsigned(row, "segment")?,
        step: codec::unsigned(row, "step")?,
        seqs: codec::json(row, "seqs")?,
        wall_time_us: codec::signed(row, "wall_time_us")?,
        received_at_us: codec::signed(row, "received_at_us")?,
        learning_rate: row.any_float("learning_rate")?,
        weight_decay: row.any_float("weight_decay")?,
        phase: codec::unsigned(row, "phase")?,
        complete: codec::present("complete", row.flag("complete")?)?,
        scalars: codec::scalars_from_json(codec::text(row, "scalars")?)?,
        nonfinite_payloads: codec::json_or_null(row, "nonfinite_payloads")?.unwrap_or_default(),
    })
}

pub(super) async fn steps(backend: &impl Backend, query: &StepQuery) -> Result<Page<StepRow>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut items = Vec::new();
    for range in &query.ranges {
        // One more than wanted tells whether there are more.
        let wanted = query.limit.saturating_add(1) - items.len();
        let select = Statement::new(
            "SELECT * FROM steps WHERE run_id = $1 AND segment = $2 AND step BETWEEN $3 AND $4 ORDER BY step LIMIT $5",
        );
        let select = select
            .bind(query.run_id)
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step))
            .bind(codec::size_i64(wanted));
        for row in &snapshot.fetch_all(select).await? {
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
    backend: &impl Backend,
    query: &SeriesQuery,
    name: &str,
) -> Result<Vec<SeriesPoint>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut points = Vec::new();
    for range in &query.ranges {
        let select = Statement::new(
            "SELECT step, scalars FROM steps
             WHERE run_id = $1 AND segment = $2 AND step BETWEEN $3 AND $4 ORDER BY step",
        );
        let select = select
            .bind(query.run_id)
            .bind(range.segment)
            .bind(bound_i64(range.from_step))
            .bind(bound_i64(range.to_step));
        snapshot
            .for_each(select, |row| {
                if let Some(value) = codec::scalar_from_json(codec::text(row, "scalars")?, name)? {
                    points.push(SeriesPoint { segment: range.segment, step: codec::unsigned(row, "step")?, value });
                }
                Ok(())
            })
            .await?;
    }
    Ok(points)
}

pub(super) async fn scalar_names(backend: &impl Backend, run_id: RunId) -> Result<Vec<String>, StoreError> {
    let select = Statement::new("SELECT name FROM scalar_names WHERE run_id = $1 ORDER BY name");
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id)).await?;
    rows.iter().map(|row| codec::string(row, "name")).collect()
}
