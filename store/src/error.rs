//! What can go wrong in a store, and what an error of the driver means for whoever asked.

use crate::model::RunId;

/// An error of the store. The server's error vocabulary maps each to a status once.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such run.
    #[error("run {0} is unknown")]
    UnknownRun(RunId),
    /// The run is being deleted.
    #[error("run {0} is being deleted")]
    RunDeleting(RunId),
    /// The declaration contradicts what an earlier one fixed, or the run's history.
    #[error("{field}: {message}")]
    Conflict {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Another process writes this (attempt, shard).
    #[error("writer_id: another process already writes shard {shard} of attempt {attempt}")]
    SecondWriter {
        /// The attempt.
        attempt: String,
        /// The shard.
        shard: u32,
    },
    /// A mark or an owner epoch was not what the commit expected: an earlier commit landed, or another owner took the
    /// run. The transaction was rolled back whole.
    #[error("run {0}: its mark or owner changed under the commit")]
    OwnershipLost(RunId),
    /// A row that exists was to be stored again. Always a bug; the transaction was rolled back whole.
    #[error("unique violation: {0}")]
    UniqueViolation(String),
    /// The data cannot be stored, now or later. The transaction was rolled back whole.
    #[error("data refused by the database: {0}")]
    Data(String),
    /// The database cannot be reached or is busy; trying again can help. Whether a commit landed is unknown.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// Settings of the database are weaker than an acknowledgement promises.
    #[error("durability: {0}")]
    Durability(String),
    /// The database cannot be used as it is: another address, a newer schema.
    #[error("database: {0}")]
    Database(String),
    /// The data directory is in use, cannot be created, or holds a newer schema.
    #[error("data directory: {0}")]
    DataDir(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => match database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                Some(database) => crate::postgres::error::of_database(database),
                None => crate::sqlite::error::of_database(database.as_ref()),
            },
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. } => Self::Data(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
