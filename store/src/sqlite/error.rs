//! What an error of the driver means for whoever asked.

use sqlx::error::{DatabaseError, ErrorKind};

use crate::error::StoreError;

/// Primary result codes that say something about the data and not about the state of the database
/// (<https://www.sqlite.org/rescode.html>).
mod primary_code {
    /// The statement itself is wrong.
    pub(super) const ERROR: i32 = 1;
    /// A text or BLOB is too long.
    pub(super) const TOOBIG: i32 = 18;
    /// A constraint is violated.
    pub(super) const CONSTRAINT: i32 = 19;
    /// The type of a value does not fit its column.
    pub(super) const MISMATCH: i32 = 20;
    /// A parameter does not exist.
    pub(super) const RANGE: i32 = 25;
}

/// What an error that SQLite gave means.
pub(crate) fn of_database(error: &dyn DatabaseError) -> StoreError {
    let message = error.to_string();
    match error.kind() {
        ErrorKind::UniqueViolation => return StoreError::UniqueViolation(message),
        ErrorKind::ForeignKeyViolation | ErrorKind::NotNullViolation | ErrorKind::CheckViolation => {
            return StoreError::Data(message);
        }
        _ => {}
    }
    // The driver gives extended codes, whose low byte is the primary code.
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff);
    match code {
        Some(
            primary_code::ERROR
            | primary_code::TOOBIG
            | primary_code::CONSTRAINT
            | primary_code::MISMATCH
            | primary_code::RANGE,
        ) => StoreError::Data(message),
        // Busy, locked, full, I/O error, corrupt, read-only, …
        _ => StoreError::Unavailable(message),
    }
}
