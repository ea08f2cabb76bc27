//! Snapshots that are still to be read.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{LayerKey, LayerReadingRow, PendingSnapshot, RunId, SnapshotKey},
};

pub(super) fn encode(
    (run_id, snapshot): &(RunId, &PendingSnapshot),
    values: &mut impl Values,
) -> Result<(), StoreError> {
    encode_key(*run_id, snapshot.key.segment, snapshot.key.step, &snapshot.key.layer, values)?;
    values.bytes(snapshot.payload.as_slice())
}

/// The key of the snapshot that a reading is of.
pub(super) fn encode_read(
    (run_id, row): &(RunId, &LayerReadingRow),
    values: &mut impl Values,
) -> Result<(), StoreError> {
    encode_key(*run_id, row.segment, row.step, &row.layer, values)
}

fn encode_key(
    run_id: RunId,
    segment: u32,
    step: u64,
    layer: &LayerKey,
    values: &mut impl Values,
) -> Result<(), StoreError> {
    values.uuid(run_id.0)?;
    values.integer(i64::from(segment))?;
    values.integer(to_i64("snapshots.step", step)?)?;
    values.text(layer.instrument.as_str())?;
    values.text(layer.layer.as_str())
}

pub(super) async fn pending_snapshots(
    backend: &impl Backend,
    run_id: RunId,
) -> Result<Vec<(SnapshotKey, u64)>, StoreError> {
    let select = Statement::new(
        "SELECT segment, step, instrument, layer, CAST(length(payload) AS BIGINT) AS payload_bytes
         FROM pending_snapshots WHERE run_id = $1 ORDER BY segment, step, instrument, layer",
    );
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(run_id)).await?;
    rows.iter()
        .map(|row| {
            let layer = LayerKey { instrument: codec::word(row, "instrument")?, layer: codec::string(row, "layer")? };
            let (segment, step) = (codec::unsigned(row, "segment")?, codec::unsigned(row, "step")?);
            Ok((SnapshotKey { segment, step, layer }, codec::unsigned(row, "payload_bytes")?))
        })
        .collect()
}

pub(super) async fn snapshot_payload(
    backend: &impl Backend,
    run_id: RunId,
    key: &SnapshotKey,
) -> Result<Option<Vec<u8>>, StoreError> {
    let select = Statement::new(
        "SELECT payload FROM pending_snapshots
         WHERE run_id = $1 AND segment = $2 AND step = $3 AND instrument = $4 AND layer = $5",
    );
    let select = select
        .bind(run_id)
        .bind(key.segment)
        .bind(codec::bound_i64(key.step))
        .bind(key.layer.instrument.as_str())
        .bind(key.layer.layer.as_str());
    let row = backend.session(Access::Single).await?.fetch_optional(select).await?;
    row.map(|row| Ok(codec::present("payload", row.bytes("payload")?)?.to_vec())).transpose()
}

pub(super) async fn runs_with_pending_snapshots(backend: &impl Backend) -> Result<Vec<RunId>, StoreError> {
    let select = Statement::new(
        "SELECT run_id FROM runs WHERE NOT deleting AND run_id IN (SELECT run_id FROM pending_snapshots) ORDER BY run_id",
    );
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(codec::run_id).collect()
}
