//! Values as SQLite keeps them: UUIDs as 16 bytes, truth values as 0 and 1, and words for floats that it would lose.

use sqlx::{Arguments, Encode, Row, Sqlite, Type, sqlite::SqliteArguments, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    backend::{Argument, Columns, Values},
    codec,
    error::StoreError,
};

/// The values of one statement.
#[derive(Default)]
pub(crate) struct SqliteValues(SqliteArguments);

impl SqliteValues {
    /// The arguments of a statement.
    pub(super) fn of(arguments: Vec<Argument<'_>>) -> Result<Self, StoreError> {
        let mut values = Self::default();
        for argument in arguments {
            match argument {
                Argument::Uuid(value) => values.push(value)?,
                Argument::Integer(value) => values.push(value)?,
                Argument::Text(value) => values.push(value.as_deref())?,
            }
        }
        Ok(values)
    }

    fn push<'v, T: Encode<'v, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> Result<(), StoreError> {
        self.0.add(value).map_err(|error| StoreError::Data(error.to_string()))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Makes room.
    pub(super) fn reserve(&mut self, values: usize) {
        self.0.reserve(values, 0);
    }

    /// As the driver takes them.
    pub(super) fn into_arguments(self) -> SqliteArguments {
        self.0
    }
}

impl Values for SqliteValues {
    fn integer(&mut self, value: impl Into<Option<i64>>) -> Result<(), StoreError> {
        self.push(value.into())
    }

    fn float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError> {
        self.push(value.into())
    }

    /// SQLite would turn NaN into null.
    fn any_float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError> {
        let value = value.into();
        match value.and_then(codec::non_finite_word) {
            Some(word) => self.push(word),
            None => self.push(value),
        }
    }

    fn text<'t>(&mut self, value: impl Into<Option<&'t str>>) -> Result<(), StoreError> {
        self.push(value.into())
    }

    fn bytes<'b>(&mut self, value: impl Into<Option<&'b [u8]>>) -> Result<(), StoreError> {
        self.push(value.into())
    }

    fn uuid(&mut self, value: Uuid) -> Result<(), StoreError> {
        self.push(value)
    }

    fn flag(&mut self, value: impl Into<Option<bool>>) -> Result<(), StoreError> {
        self.push(value.into())
    }
}

impl Columns for SqliteRow {
    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn float(&self, column: &str) -> Result<Option<f64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn any_float(&self, column: &str) -> Result<Option<f64>, StoreError> {
        if let Ok(value) = self.try_get::<Option<f64>, _>(column) {
            return Ok(value);
        }
        let word: &str = self.try_get(column)?;
        let value = codec::from_non_finite_word(word);
        value.map(Some).ok_or_else(|| StoreError::Data(format!("column {column} holds {word:?}")))
    }

    fn text(&self, column: &str) -> Result<Option<&str>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, StoreError> {
        Ok(self.try_get(column)?)
    }
}
