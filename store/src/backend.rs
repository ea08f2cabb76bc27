//! What the two databases have in common. All SQL that both understand is in [`crate::sql`], once; a backend brings
//! connections, values in its own encoding, and the few statements in which the dialects differ.

use std::borrow::Cow;

use gradwatch_spectral::layers::LayerInstrument;
use uuid::Uuid;

use crate::{error::StoreError, model::RunId, store::Durability};

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The recorder's transaction. Invariant: it waits for no other session than another commit, so that nothing that
    /// callers ask for keeps the recorder from recording.
    Commit,
    /// Any other transaction that may write. It is rolled back unless it is committed.
    Write,
    /// A transaction that writes what alerts are about. Invariant: however many there are, the recorder, and whoever opens
    /// or changes a run, waits for at most one of them.
    Alerts,
    /// A read-only transaction that sees one state of the database.
    Snapshot,
    /// One statement that only reads.
    Single,
}

/// A database.
pub(crate) trait Backend: Send + Sync + 'static {
    /// Its sessions.
    type Session: Session;
    /// Where its dialect differs.
    const DIALECT: Dialect;

    /// Begins a session.
    fn session(&self, access: Access) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;

    /// See [`crate::Store::durability`].
    fn durability(&self) -> impl Future<Output = Result<Durability, StoreError>> + Send;

    /// See [`crate::Store::close`].
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Pieces of SQL that the databases say differently.
pub(crate) struct Dialect {
    /// Takes the lock of a name ($1); it ends with the transaction. None: writers come one by one.
    pub(crate) lock_name: Option<&'static str>,
    /// Behind a select of `runs`: nobody else changes them until this transaction ends.
    pub(crate) for_update: &'static str,
    /// Behind a select of `candidate`: leaves out the rows that another transaction has.
    pub(crate) skip_locked: &'static str,
    /// Adds one to `commit_seq` and $1 to `last_event_id`; answers both, and whether the commit will be on disk when it
    /// answers (`durable`).
    pub(crate) number_commit: &'static str,
    /// The last reading of each [group, kind, window] of the JSON array $4, of run $1, segment $2, analysis $3.
    pub(crate) latest_readings: &'static str,
    /// A condition on `runs.labels`, around a key and a value.
    pub(crate) has_label: [&'static str; 3],
    /// A condition on `event_type`, around a JSON array of texts.
    pub(crate) type_among: [&'static str; 2],
    /// A condition on `events`, around a JSON array of [segment, from, to].
    pub(crate) in_ranges: [&'static str; 2],
}

/// A connection in use. Invariant: a connection is used again only when its state is known; one that failed, timed out
/// or was given up in the middle of a statement is closed.
pub(crate) trait Session: Send {
    /// Its rows.
    type Row: Columns + Send + Sync;
    /// Its values of many rows.
    type Values: Values + Send;

    /// All rows of a statement.
    fn fetch_all(
        &mut self,
        statement: Statement<'_>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Shows the rows one by one: a million rows of a driver would take far more memory than what is made of them.
    fn for_each(
        &mut self,
        statement: Statement<'_>,
        each: impl FnMut(&Self::Row) -> Result<(), StoreError> + Send,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs a statement; answers how many rows it touched.
    fn execute(&mut self, statement: Statement<'_>) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Runs a statement over many rows; answers what it returns.
    fn bulk<T: Sync>(
        &mut self,
        bulk: Bulk,
        rows: &[T],
        encode: impl Fn(&T, &mut Self::Values) -> Result<(), StoreError> + Send + Sync,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Commits. After an error nobody knows whether the transaction landed.
    fn commit(self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The first row, if there is one.
    fn fetch_optional(
        &mut self,
        statement: Statement<'_>,
    ) -> impl Future<Output = Result<Option<Self::Row>, StoreError>> + Send {
        async { Ok(self.fetch_all(statement).await?.into_iter().next()) }
    }

    /// The one row that a statement always has.
    fn fetch_one(&mut self, statement: Statement<'_>) -> impl Future<Output = Result<Self::Row, StoreError>> + Send {
        async {
            let row = self.fetch_optional(statement).await?;
            row.ok_or_else(|| StoreError::Data("a row that always exists is missing".to_owned()))
        }
    }
}

/// Statements over many rows. Each backend has a text for each; the values of a row come in the order of its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    /// Changes rows of `runs` where epoch and number of the last commit still are the owner's; answers `run_id`.
    ClaimRuns,
    /// Moves marks that stand where they must; answers the key.
    MoveMarks,
    /// Answers `run_id` and `segment` of the segments that exist.
    FindSegments,
    /// Inserts steps.
    InsertSteps,
    /// Inserts readings.
    InsertReadings,
    /// Inserts rollups.
    InsertRollups,
    /// Inserts events.
    InsertEvents,
    /// Replaces follower states that are there; answers their keys.
    UpdateFollowers,
    /// Inserts follower states.
    InsertFollowers,
    /// Inserts names of scalars.
    InsertScalarNames,
    /// Inserts snapshots to be read.
    InsertPendingSnapshots,
    /// Deletes snapshots that were to be read, where they are there.
    DeletePendingSnapshots,
    /// Inserts readings of layers of one instrument.
    InsertLayerReadings(LayerInstrument),
    /// Inserts predictions.
    InsertPredictions,
    /// Deletes predictions, where they are there.
    DeletePredictions,
    /// Inserts blocks of sketches.
    InsertSketchBlocks,
    /// Deletes the blocks of a stream up to one of them, but for those that a running analysis reads.
    DeleteSketchBlocks,
    /// Answers `run_id` and `project` of the runs that are not being deleted, and keeps them from it until the transaction
    /// ends; their recorder waits for nothing.
    HoldRuns,
    /// Inserts cursors of alerts that are not there; answers `run_id` and `lane` of those that were not.
    InsertAlertCursors,
    /// Moves cursors of alerts that stand where they must; answers `run_id` and `lane`.
    MoveAlertCursors,
    /// Inserts alerts, or replaces them.
    PutAlerts,
    /// Deletes alerts that are pending.
    ForgetAlerts,
    /// Inserts notifications, in their order.
    InsertNotifications,
    /// Marks notifications as silenced or not.
    SilenceNotifications,
    /// Deletes notifications; answers their ids.
    TakeNotifications,
}

/// A constant text, or several put together, with its arguments `$1`, `$2`, ….
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    text: Cow<'static, str>,
    arguments: Vec<Argument<'a>>,
}

impl<'a> Statement<'a> {
    /// Begins with a text.
    pub(crate) fn new(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), arguments: Vec::new() }
    }

    /// Gives the next argument its value.
    pub(crate) fn bind(mut self, value: impl Into<Argument<'a>>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// Appends a text. Invariant: only constants ever get into the text of a statement; what comes from outside is an
    /// argument.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Appends a place for an argument, with its value.
    pub(crate) fn push_bind(&mut self, value: impl Into<Argument<'a>>) -> &mut Self {
        self.arguments.push(value.into());
        let place = format!("${}", self.arguments.len());
        self.text.to_mut().push_str(&place);
        self
    }

    /// Text and arguments.
    pub(crate) fn into_parts(self) -> (Cow<'static, str>, Vec<Argument<'a>>) {
        (self.text, self.arguments)
    }
}

/// A value of a statement.
#[derive(Debug)]
pub(crate) enum Argument<'a> {
    /// A UUID.
    Uuid(Option<Uuid>),
    /// A number.
    Integer(Option<i64>),
    /// A text.
    Text(Option<Cow<'a, str>>),
}

impl From<RunId> for Argument<'_> {
    fn from(value: RunId) -> Self {
        Self::Uuid(Some(value.0))
    }
}

impl From<Uuid> for Argument<'_> {
    fn from(value: Uuid) -> Self {
        Self::Uuid(Some(value))
    }
}

impl From<Option<Uuid>> for Argument<'_> {
    fn from(value: Option<Uuid>) -> Self {
        Self::Uuid(value)
    }
}

impl From<i64> for Argument<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Argument<'_> {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<Option<i64>> for Argument<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for Argument<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(Cow::Borrowed(value)))
    }
}

impl From<String> for Argument<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(Cow::Owned(value)))
    }
}

impl<'a> From<Option<&'a str>> for Argument<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(Cow::Borrowed))
    }
}

/// A row that was read, by the names of its columns.
pub(crate) trait Columns {
    /// A number.
    fn integer(&self, column: &str) -> Result<Option<i64>, StoreError>;
    /// A finite float.
    fn float(&self, column: &str) -> Result<Option<f64>, StoreError>;
    /// A float that may be NaN or infinite.
    fn any_float(&self, column: &str) -> Result<Option<f64>, StoreError>;
    /// A text.
    fn text(&self, column: &str) -> Result<Option<&str>, StoreError>;
    /// Bytes.
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, StoreError>;
    /// A UUID.
    fn uuid(&self, column: &str) -> Result<Option<Uuid>, StoreError>;
    /// A truth value.
    fn flag(&self, column: &str) -> Result<Option<bool>, StoreError>;
}

/// Takes the values of a row to be written, one after the other.
pub(crate) trait Values {
    /// A number.
    fn integer(&mut self, value: impl Into<Option<i64>>) -> Result<(), StoreError>;
    /// A finite float.
    fn float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError>;
    /// A float that may be NaN or infinite.
    fn any_float(&mut self, value: impl Into<Option<f64>>) -> Result<(), StoreError>;
    /// A text.
    fn text<'t>(&mut self, value: impl Into<Option<&'t str>>) -> Result<(), StoreError>;
    /// Bytes.
    fn bytes<'b>(&mut self, value: impl Into<Option<&'b [u8]>>) -> Result<(), StoreError>;
    /// A UUID.
    fn uuid(&mut self, value: Uuid) -> Result<(), StoreError>;
    /// A truth value.
    fn flag(&mut self, value: impl Into<Option<bool>>) -> Result<(), StoreError>;
}
