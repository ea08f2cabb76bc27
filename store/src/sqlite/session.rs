//! A connection to SQLite in use.

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Sqlite, SqliteConnection, Transaction, pool::PoolConnection, query::Query, sqlite::SqliteArguments,
    sqlite::SqliteRow,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{bulk, values::SqliteValues};
use crate::{
    backend::{Bulk, Session, Statement},
    error::StoreError,
};

/// A connection, inside a transaction or not. The driver rolls back what is dropped, and the pool replaces a connection
/// that this fails on.
pub(crate) enum SqliteSession {
    /// Inside a transaction; with the turn that was waited for before it, which ends with it.
    Transaction(Transaction<'static, Sqlite>, Option<OwnedSemaphorePermit>),
    /// For a single statement.
    Single(PoolConnection<Sqlite>),
}

impl SqliteSession {
    fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Transaction(transaction, _) => transaction,
            Self::Single(connection) => connection,
        }
    }
}

fn query(statement: Statement<'_>) -> Result<Query<'static, Sqlite, SqliteArguments>, StoreError> {
    let (text, arguments) = statement.into_parts();
    let values = SqliteValues::of(arguments)?;
    // Safe: a statement's text is made of constants only.
    Ok(sqlx::query_with(AssertSqlSafe(text), values.into_arguments()))
}

impl Session for SqliteSession {
    type Row = SqliteRow;
    type Values = SqliteValues;

    async fn fetch_all(&mut self, statement: Statement<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        Ok(query(statement)?.fetch_all(self.connection()).await?)
    }

    async fn for_each(
        &mut self,
        statement: Statement<'_>,
        mut each: impl FnMut(&SqliteRow) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut rows = query(statement)?.fetch(self.connection());
        while let Some(row) = rows.try_next().await? {
            each(&row)?;
        }
        Ok(())
    }

    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        Ok(query(statement)?.execute(self.connection()).await?.rows_affected())
    }

    async fn bulk<T: Sync>(
        &mut self,
        bulk: Bulk,
        rows: &[T],
        encode: impl Fn(&T, &mut SqliteValues) -> Result<(), StoreError> + Send + Sync,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        bulk::of(bulk).run(self.connection(), rows, encode).await
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Transaction(transaction, _turn) => Ok(transaction.commit().await?),
            Self::Single(_) => Ok(()),
        }
    }
}
