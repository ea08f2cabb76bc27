//! Kept rows of windows.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, bound_i64, to_i64},
    error::StoreError,
    model::{RunId, SketchBlock, SketchBlockInfo, SketchExtent, SketchStream},
};

pub(super) fn encode((run_id, block): &(RunId, &SketchBlock), values: &mut impl Values) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.text(block.stream.group.as_str())?;
    values.text(block.stream.kind.as_str())?;
    values.integer(i64::from(block.stream.segment))?;
    values.integer(to_i64("sketches.first_step", block.first_step)?)?;
    values.integer(to_i64("sketches.last_step", block.last_step)?)?;
    values.integer(i64::from(block.rows))?;
    values.bytes(block.payload.as_slice())
}

/// The last block of a stream that is kept no longer.
pub(super) fn encode_dropped(
    (run_id, (stream, first_step)): &(RunId, &(SketchStream, u64)),
    values: &mut impl Values,
) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.text(stream.group.as_str())?;
    values.text(stream.kind.as_str())?;
    values.integer(i64::from(stream.segment))?;
    values.integer(to_i64("dropped_sketches.first_step", *first_step)?)
}

/// Shown row by row, because a run may have many short blocks.
pub(super) async fn sketch_extents(
    backend: &impl Backend,
    run_id: RunId,
    rows_per_extent: u64,
) -> Result<Vec<SketchExtent>, StoreError> {
    let select = Statement::new(
        "SELECT segment, group_name, kind, first_step, row_count, CAST(length(payload) AS BIGINT) AS payload_bytes
         FROM sketch_blocks WHERE run_id = $1 ORDER BY group_name, kind, segment, first_step",
    );
    let mut extents: Vec<SketchExtent> = Vec::new();
    let each = |row: &_| {
        let (first_step, rows, bytes) = (
            codec::unsigned(row, "first_step")?,
            codec::unsigned::<u64>(row, "row_count")?,
            codec::unsigned::<u64>(row, "payload_bytes")?,
        );
        let stream = stream(row)?;
        match extents.last_mut().filter(|last| last.stream == stream && last.rows + rows <= rows_per_extent) {
            Some(last) => {
                last.last_block = first_step;
                last.rows += rows;
                last.bytes += bytes;
            }
            None => extents.push(SketchExtent { stream, last_block: first_step, rows, bytes }),
        }
        Ok(())
    };
    backend.session(Access::Single).await?.for_each(select.bind(run_id), each).await?;
    Ok(extents)
}

fn stream(row: &impl Columns) -> Result<SketchStream, StoreError> {
    Ok(SketchStream {
        segment: codec::unsigned(row, "segment")?,
        group: codec::string(row, "group_name")?,
        kind: codec::word(row, "kind")?,
    })
}

pub(super) async fn sketch_index(
    backend: &impl Backend,
    run_id: RunId,
    stream: &SketchStream,
) -> Result<Vec<SketchBlockInfo>, StoreError> {
    let select = Statement::new(
        "SELECT first_step, last_step, row_count, CAST(length(payload) AS BIGINT) AS payload_bytes
         FROM sketch_blocks WHERE run_id = $1 AND group_name = $2 AND kind = $3 AND segment = $4 ORDER BY first_step",
    );
    let select = select.bind(run_id).bind(stream.group.as_str()).bind(stream.kind.as_str()).bind(stream.segment);
    let rows = backend.session(Access::Single).await?.fetch_all(select).await?;
    rows.iter()
        .map(|row| {
            Ok(SketchBlockInfo {
                first_step: codec::unsigned(row, "first_step")?,
                last_step: codec::unsigned(row, "last_step")?,
                rows: codec::unsigned(row, "row_count")?,
                bytes: codec::unsigned(row, "payload_bytes")?,
            })
        })
        .collect()
}

pub(super) async fn sketch_blocks(
    backend: &impl Backend,
    run_id: RunId,
    stream: &SketchStream,
    (first, last): (u64, u64),
) -> Result<Vec<SketchBlock>, StoreError> {
    let select = Statement::new(
        "SELECT * FROM sketch_blocks WHERE run_id = $1 AND group_name = $2 AND kind = $3 AND segment = $4
           AND first_step BETWEEN $5 AND $6
         ORDER BY first_step",
    );
    let select = select
        .bind(run_id)
        .bind(stream.group.as_str())
        .bind(stream.kind.as_str())
        .bind(stream.segment)
        .bind(bound_i64(first))
        .bind(bound_i64(last));
    let rows = backend.session(Access::Single).await?.fetch_all(select).await?;
    rows.iter()
        .map(|row| {
            Ok(SketchBlock {
                stream: stream.clone(),
                first_step: codec::unsigned(row, "first_step")?,
                last_step: codec::unsigned(row, "last_step")?,
                rows: codec::unsigned(row, "row_count")?,
                payload: codec::present("payload", row.bytes("payload")?)?.to_vec(),
            })
        })
        .collect()
}
