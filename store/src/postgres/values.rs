//! Values as PostgreSQL keeps them. Rows go in as one array per column, written in the wire format as they come.

use sqlx::{
    Arguments, Encode, Postgres, Row, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo},
};
use uuid::Uuid;

use crate::{
    backend::{Argument, Columns, Values},
    error::StoreError,
};

/// The arguments of a statement.
pub(super) fn arguments(values: Vec<Argument<'_>>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match value {
            Argument::Uuid(value) => arguments.add(value),
            Argument::Integer(value) => arguments.add(value),
            Argument::Text(value) => arguments.add(value.as_deref()),
        };
        added.map_err(|error| StoreError::Data(error.to_string()))?;
    }
    Ok(arguments)
}

/// The type of a column's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Integer,
    Float,
    Text,
    Bytes,
    Uuid,
    Flag,
}

impl Element {
    /// The object id of the type, fixed for all PostgreSQL versions (`pg_type.dat`).
    fn oid(self) -> u32 {
        match self {
            Self::Flag => 16,
            Self::Bytes => 17,
            Self::Integer => 20,
            Self::Text => 25,
            Self::Float => 701,
            Self::Uuid => 2950,
        }
    }

    fn array_type(self) -> PgTypeInfo {
        match self {
            Self::Flag => <Vec<bool> as Type<Postgres>>::type_info(),
            Self::Bytes => <Vec<Vec<u8>> as Type<Postgres>>::type_info(),
            Self::Integer => <Vec<i64> as Type<Postgres>>::type_info(),
            Self::Text => <Vec<String> as Type<Postgres>>::type_info(),
            Self::Float => <Vec<f64> as Type<Postgres>>::type_info(),
            Self::Uuid => <Vec<Uuid> as Type<Postgres>>::type_info(),
        }
    }
}

/// One column of many rows.
struct Array {
    element: Element,
    rows: i32,
    has_null: bool,
    /// Each with its length in front.
    elements: Vec<u8>,
}

impl Array {
    fn push(&mut self, value: Option<&[u8]>) -> Result<(), StoreError> {
        let too_long = |_| StoreError::Data("a value is longer than 2 GiB".to_owned());
        match value {
            Some(bytes) => {
                self.elements.extend_from_slice(&i32::try_from(bytes.len()).map_err(too_long)?.to_be_bytes());
                self.elements.extend_from_slice(bytes);
            }
            None => {
                self.has_null = true;
                self.elements.extend_from_slice(&(-1_i32).to_be_bytes());
            }
        }
        self.rows += 1;
        Ok(())
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        Element::Bytes.array_type()
    }
}

/// The array in its binary format: dimensions, whether it has nulls, the type of its elements, and of its only dimension
/// the length and the first index (`array_recv` in `arrayfuncs.c`).
impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&i32::from(self.has_null).to_be_bytes());
        buffer.extend_from_slice(&self.element.oid().to_be_bytes());
        buffer.extend_from_slice(&self.rows.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&self.elements);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(self.element.array_type())
    }
}

/// The values of many rows, column by column.
pub(crate) struct PostgresValues {
    rows: usize,
    columns: Vec<Array>,
    /// The column of the next value.
    next: usize,
}

impl PostgresValues {
    /// For as many rows.
    pub(super) fn new(rows: usize) -> Self {
        Self { rows, columns: Vec::new(), next: 0 }
    }

    /// The next value is the first of a row.
    pub(super) fn begin_row(&mut self) {
        self.next = 0;
    }

    fn push(&mut self, element: Element, value: Option<&[u8]>) -> Result<(), StoreError> {
        if self.next == self.columns.len() {
            // Most values are 8 bytes behind 4 bytes of length.
            let elements = Vec::with_capacity(self.rows * 12);
            self.columns.push(Array { element, rows: 0, has_null: false, elements });
        }
        let column = &mut self.columns[self.next];
        debug_assert_eq!(column.element, element, "column {}", self.next);
        self.next += 1;
        column.push(value)
    }

    /// As the driver takes them.
    pub(super) fn into_arguments(self) -> Result<PgArguments, StoreError> {
        let mut arguments = PgArguments::default();
        arguments.reserve(self.columns.len(), self.columns.iter().map(|column| column.elements.len() + 24).sum());
        for column in self.columns {
            arguments.add(column).map_err(|error| StoreError::Data(error.to_string()))?;
        }
        Ok(arguments)
    }
}

impl Values for PostgresValues {
    fn integer(&mut self, value: impl Into<Option<i64>>) -> Result<(), StoreError> {
        self.push(Element::Integer, value.into().map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError> {
        self.push(Element::Float, value.into().map(f64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice))
    }

    fn any_float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError> {
        self.float(value)
    }

    fn text<'t>(&mut self, value: impl Into<Option<&'t str>>) -> Result<(), StoreError> {
        self.push(Element::Text, value.into().map(str::as_bytes))
    }

    fn bytes<'b>(&mut self, value: impl Into<Option<&'b [u8]>>) -> Result<(), StoreError> {
        self.push(Element::Bytes, value.into())
    }

    fn uuid(&mut self, value: Uuid) -> Result<(), StoreError> {
        self.push(Element::Uuid, Some(value.as_bytes()))
    }

    fn flag(&mut self, value: impl Into<Option<bool>>) -> Result<(), StoreError> {
        self.push(Element::Flag, value.into().map(|value| [u8::from(value)]).as_ref().map(<[u8; 1]>::as_slice))
    }
}

impl Columns for PgRow {
    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn float(&self, column: &str) -> Result<Option<f64>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn any_float(&self, column: &str) -> Result<Option<f64>, StoreError> {
        self.float(column)
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
