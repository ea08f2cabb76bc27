//! A connection to PostgreSQL in use.

use std::{pin::pin, time::Duration};

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres,
    error::DatabaseError,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::{runtime::Handle, time::timeout};

use super::{
    bulk, error,
    values::{PostgresValues, arguments},
};
use crate::{
    backend::{Bulk, Session, Statement},
    error::StoreError,
};

/// How long an answer may take. The database gives a statement up earlier by itself (see [`super::open`]); this is for
/// one that hangs or cannot be reached.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows in one statement: more than this, and the database would put the arrays on disk while it reads them.
const ROWS_PER_STATEMENT: usize = 2_048;

/// A connection, inside a transaction or not. Invariant: it goes back to the pool only when its state is known. One
/// that was given up while it waited for an answer, or that failed otherwise than by an answer, is closed.
pub(crate) struct PostgresSession {
    /// Taken when the session is dropped.
    connection: Option<PoolConnection<Postgres>>,
    in_transaction: bool,
    /// An answer is outstanding, was lost, or said that the connection is no good any more.
    waiting: bool,
}

impl PostgresSession {
    /// Outside a transaction.
    pub(super) async fn acquire(pool: &PgPool) -> Result<Self, StoreError> {
        let connection = Some(pool.acquire().await?);
        Ok(Self { connection, in_transaction: false, waiting: false })
    }

    /// Inside a transaction.
    pub(super) async fn begin(pool: &PgPool, begin: &'static str) -> Result<Self, StoreError> {
        let mut session = Self::acquire(pool).await?;
        session.command(begin).await?;
        session.in_transaction = true;
        Ok(session)
    }

    async fn command(&mut self, command: &'static str) -> Result<(), StoreError> {
        let connection = self.start()?;
        let answer = timeout(ANSWER_TIMEOUT, sqlx::raw_sql(command).execute(connection)).await;
        self.answered(answer)?;
        Ok(())
    }

    /// From here until [`Self::answered`] the state of the connection is unknown.
    fn start(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.waiting = true;
        self.connection.as_deref_mut().ok_or_else(|| StoreError::Unavailable("the session has ended".to_owned()))
    }

    fn answered<T>(&mut self, answer: Answer<T>) -> Result<T, StoreError> {
        match answer {
            Ok(Ok(answer)) => {
                self.waiting = false;
                Ok(answer)
            }
            Ok(Err(failure)) => {
                // An error that the database answered with leaves the connection in a known state, unless it is about
                // the connection itself.
                let is_known = |answer: &dyn DatabaseError| !error::is_of_connection(answer.code().as_deref());
                self.waiting = !failure.as_database_error().is_some_and(is_known);
                Err(failure.into())
            }
            Err(_) => {
                let message = format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
                Err(StoreError::Unavailable(message))
            }
        }
    }
}

type Answer<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;

fn query(statement: Statement<'_>) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
    let (text, values) = statement.into_parts();
    // Safe: a statement's text is made of constants only.
    Ok(sqlx::query_with(AssertSqlSafe(text), arguments(values)?))
}

impl Session for PostgresSession {
    type Row = PgRow;
    type Values = PostgresValues;

    async fn fetch_all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, StoreError> {
        let query = query(statement)?;
        let answer = timeout(ANSWER_TIMEOUT, query.fetch_all(self.start()?)).await;
        self.answered(answer)
    }

    async fn for_each(
        &mut self,
        statement: Statement<'_>,
        mut each: impl FnMut(&PgRow) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let query = query(statement)?;
        let ended = {
            let mut rows = pin!(query.fetch(self.start()?));
            loop {
                match timeout(ANSWER_TIMEOUT, rows.try_next()).await {
                    Ok(Ok(Some(row))) => each(&row)?,
                    ended => break ended,
                }
            }
        };
        self.answered(ended)?;
        Ok(())
    }

    async fn execute(&mut self, statement: Statement<'_>) -> Result<u64, StoreError> {
        let query = query(statement)?;
        let answer = timeout(ANSWER_TIMEOUT, query.execute(self.start()?)).await;
        Ok(self.answered(answer)?.rows_affected())
    }

    async fn bulk<T: Sync>(
        &mut self,
        bulk: Bulk,
        rows: &[T],
        encode: impl Fn(&T, &mut PostgresValues) -> Result<(), StoreError> + Send + Sync,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut returned = Vec::new();
        for chunk in rows.chunks(ROWS_PER_STATEMENT) {
            let mut values = PostgresValues::new(chunk.len());
            for row in chunk {
                values.begin_row();
                encode(row, &mut values)?;
            }
            let query = sqlx::query_with(bulk::text(bulk), values.into_arguments()?);
            let answer = timeout(ANSWER_TIMEOUT, query.fetch_all(self.start()?)).await;
            returned.extend(self.answered(answer)?);
        }
        Ok(returned)
    }

    async fn commit(mut self) -> Result<(), StoreError> {
        self.command("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }
}

impl Drop for PostgresSession {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        match Handle::try_current() {
            Ok(runtime) if !self.waiting => drop(runtime.spawn(give_back(connection, self.in_transaction))),
            // The database sees the socket close, and rolls back.
            _ => drop(connection.detach()),
        }
    }
}

/// Invariant: a connection that does not answer leaves the pool; it never keeps a place in it.
async fn give_back(mut connection: PoolConnection<Postgres>, in_transaction: bool) {
    if in_transaction {
        let rolled_back = timeout(ANSWER_TIMEOUT, sqlx::raw_sql("ROLLBACK").execute(&mut *connection)).await;
        if !matches!(rolled_back, Ok(Ok(_))) {
            drop(connection.detach());
            return;
        }
    }
    // Asks whether the connection is still there; without an answer it is closed.
    let _ = timeout(ANSWER_TIMEOUT, connection.return_to_pool()).await;
}
