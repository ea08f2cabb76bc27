//! What keeps notifications back.

use super::begin;
use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::Silence,
};

fn silence(row: &impl Columns) -> Result<Silence, StoreError> {
    Ok(Silence {
        silence_id: codec::uuid(row, "silence_id")?,
        project: row.text("project")?.map(str::to_owned),
        matchers: codec::json(row, "matchers")?,
        starts_at_us: codec::signed(row, "starts_at_us")?,
        ends_at_us: codec::signed(row, "ends_at_us")?,
        comment: codec::json(row, "comment")?,
        created_by: codec::string(row, "created_by")?,
        created_at_us: codec::signed(row, "created_at_us")?,
    })
}

pub(in crate::sql) async fn silences(backend: &impl Backend, ending_after_us: i64) -> Result<Vec<Silence>, StoreError> {
    let select = Statement::new("SELECT * FROM alert_silences WHERE ends_at_us > $1 ORDER BY starts_at_us, silence_id");
    let rows = backend.session(Access::Single).await?.fetch_all(select.bind(ending_after_us)).await?;
    rows.iter().map(silence).collect()
}

pub(in crate::sql) async fn put_silence(backend: &impl Backend, silence: &Silence) -> Result<(), StoreError> {
    let upsert = Statement::new(
        "INSERT INTO alert_silences (silence_id, project, matchers, starts_at_us, ends_at_us, comment, created_by,
                                     created_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (silence_id) DO UPDATE SET project = excluded.project, matchers = excluded.matchers,
             starts_at_us = excluded.starts_at_us, ends_at_us = excluded.ends_at_us, comment = excluded.comment,
             created_by = excluded.created_by, created_at_us = excluded.created_at_us",
    );
    let upsert = upsert
        .bind(silence.silence_id)
        .bind(silence.project.as_deref())
        .bind(codec::to_json("matchers", &silence.matchers)?)
        .bind(silence.starts_at_us)
        .bind(silence.ends_at_us)
        .bind(codec::to_json("comment", &silence.comment)?)
        .bind(silence.created_by.as_str())
        .bind(silence.created_at_us);
    let mut tx = begin(backend).await?;
    tx.execute(upsert).await?;
    tx.commit().await
}
