//! Tokens.

use sqlx::{Row, sqlite::SqliteRow};

use super::{SqliteStore, codec};
use crate::{
    error::StoreError,
    model::{Token, TokenHash, TokenId},
};

pub(super) async fn create_token(store: &SqliteStore, token: &Token, hash: &TokenHash) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "INSERT INTO tokens (token_id, hash, name, project, scopes, created_at_us, expires_at_us, revoked_at_us)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(token.token_id.0.as_bytes().as_slice())
    .bind(hash.as_slice())
    .bind(&token.name)
    .bind(token.project.as_deref())
    .bind(codec::to_json("scopes", &token.scopes)?)
    .bind(token.created_at_us)
    .bind(token.expires_at_us)
    .bind(token.revoked_at_us)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

pub(super) async fn tokens(store: &SqliteStore) -> Result<Vec<Token>, StoreError> {
    let rows = sqlx::query("SELECT * FROM tokens ORDER BY created_at_us, token_id").fetch_all(&store.readers).await?;
    rows.iter().map(token).collect()
}

pub(super) async fn token_by_hash(store: &SqliteStore, hash: &TokenHash) -> Result<Option<Token>, StoreError> {
    sqlx::query("SELECT * FROM tokens WHERE hash = ?")
        .bind(hash.as_slice())
        .fetch_optional(&store.readers)
        .await?
        .as_ref()
        .map(token)
        .transpose()
}

pub(super) async fn revoke_token(store: &SqliteStore, token_id: TokenId, now_us: i64) -> Result<bool, StoreError> {
    let mut tx = store.begin().await?;
    let found = sqlx::query("UPDATE tokens SET revoked_at_us = coalesce(revoked_at_us, ?) WHERE token_id = ?")
        .bind(now_us)
        .bind(token_id.0.as_bytes().as_slice())
        .execute(&mut *tx)
        .await?
        .rows_affected();
    tx.commit().await?;
    Ok(found > 0)
}

fn token(row: &SqliteRow) -> Result<Token, StoreError> {
    Ok(Token {
        token_id: TokenId(codec::uuid(row, "token_id")?),
        name: row.try_get("name")?,
        project: row.try_get("project")?,
        scopes: codec::json(row, "scopes")?,
        created_at_us: row.try_get("created_at_us")?,
        expires_at_us: row.try_get("expires_at_us")?,
        revoked_at_us: row.try_get("revoked_at_us")?,
    })
}
