//! Tokens.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement},
    codec,
    error::StoreError,
    model::{Token, TokenHash, TokenId},
};

pub(super) async fn create_token(backend: &impl Backend, token: &Token, hash: &TokenHash) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO tokens (token_id, hash, name, project, scopes, created_at_us, expires_at_us, revoked_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.token_id.0)
    .bind(hex(hash))
    .bind(token.name.as_str())
    .bind(token.project.as_deref())
    .bind(codec::to_json("scopes", &token.scopes)?)
    .bind(token.created_at_us)
    .bind(token.expires_at_us)
    .bind(token.revoked_at_us);
    let mut tx = backend.session(Access::Write).await?;
    tx.execute(insert).await?;
    tx.commit().await
}

pub(super) async fn tokens(backend: &impl Backend) -> Result<Vec<Token>, StoreError> {
    let mut session = backend.session(Access::Single).await?;
    let rows = session.fetch_all(Statement::new("SELECT * FROM tokens ORDER BY created_at_us, token_id")).await?;
    rows.iter().map(token).collect()
}

pub(super) async fn token_by_hash(backend: &impl Backend, hash: &TokenHash) -> Result<Option<Token>, StoreError> {
    let mut session = backend.session(Access::Single).await?;
    let select = Statement::new("SELECT * FROM tokens WHERE hash = $1").bind(hex(hash));
    session.fetch_optional(select).await?.as_ref().map(token).transpose()
}

pub(super) async fn revoke_token(backend: &impl Backend, token_id: TokenId, now_us: i64) -> Result<bool, StoreError> {
    let update = Statement::new("UPDATE tokens SET revoked_at_us = coalesce(revoked_at_us, $1) WHERE token_id = $2")
        .bind(now_us)
        .bind(token_id.0);
    let mut tx = backend.session(Access::Write).await?;
    let found = tx.execute(update).await?;
    tx.commit().await?;
    Ok(found > 0)
}

fn hex(hash: &TokenHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn token(row: &impl Columns) -> Result<Token, StoreError> {
    Ok(Token {
        token_id: TokenId(codec::uuid(row, "token_id")?),
        name: codec::string(row, "name")?,
        project: row.text("project")?.map(str::to_owned),
        scopes: codec::json(row, "scopes")?,
        created_at_us: codec::signed(row, "created_at_us")?,
        expires_at_us: row.integer("expires_at_us")?,
        revoked_at_us: row.integer("revoked_at_us")?,
    })
}
