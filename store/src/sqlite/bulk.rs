//! Statements over many rows. Each statement costs a hop to the driver's thread, and each text a compilation: so rows
//! go in chunks of 64, and the remainder in chunks of 32, 16, …, which keeps the number of different texts small.

use std::sync::{Arc, OnceLock};

use sqlx::{
    Arguments, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::error::StoreError;

/// Rows of the largest chunk: 2^6.
const LARGEST_CHUNK_LOG2: usize = 6;

/// SQLite's limit of parameters in one statement (`SQLITE_MAX_VARIABLE_NUMBER`).
const MAX_PARAMETERS: usize = 32_766;

/// A statement with a list of rows in its middle: `head (?,…),(?,…) tail`.
pub(super) struct Bulk {
    head: &'static str,
    columns: usize,
    tail: &'static str,
    /// The texts for 1, 2, 4, … rows.
    texts: OnceLock<Vec<Arc<str>>>,
}

/// The values of one chunk.
#[derive(Default)]
pub(super) struct Values(SqliteArguments);

impl Values {
    /// Adds the next value of a row.
    pub(super) fn push<'a, T: Encode<'a, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> Result<(), StoreError> {
        self.0.add(value).map_err(|error| StoreError::Data(error.to_string()))
    }
}

impl Bulk {
    /// A statement whose rows have `columns` values.
    pub(super) const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        assert!(columns << LARGEST_CHUNK_LOG2 <= MAX_PARAMETERS, "a chunk has too many parameters");
        Self { head, columns, tail, texts: OnceLock::new() }
    }

    fn text(&self, chunk_log2: usize) -> Arc<str> {
        let texts = self.texts.get_or_init(|| {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            (0..=LARGEST_CHUNK_LOG2)
                .map(|log2| format!("{} {} {}", self.head, vec![row.as_str(); 1 << log2].join(","), self.tail).into())
                .collect()
        });
        texts[chunk_log2].clone()
    }

    /// Runs the statement over all rows; answers what it returns.
    pub(super) async fn run<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        mut encode: impl FnMut(&T, &mut Values) -> Result<(), StoreError>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut returned = Vec::new();
        let mut rest = rows;
        while !rest.is_empty() {
            // The greatest power of two that is left, at most the largest chunk.
            let chunk_log2 = (rest.len().ilog2() as usize).min(LARGEST_CHUNK_LOG2);
            let (chunk, behind) = rest.split_at(1 << chunk_log2);
            rest = behind;
            let mut values = Values::default();
            values.0.reserve(chunk.len() * self.columns, 0);
            for row in chunk {
                encode(row, &mut values)?;
            }
            debug_assert_eq!(values.0.len(), chunk.len() * self.columns, "{}", self.head);
            // Safe: head and tail are constants of this crate, the rest is question marks.
            let statement = sqlx::query_with(AssertSqlSafe(self.text(chunk_log2)), values.0);
            returned.extend(statement.fetch_all(&mut *connection).await?);
        }
        Ok(returned)
    }
}
