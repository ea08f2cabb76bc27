//! Statements over many rows. Each statement costs a hop to the driver's thread, and each text a compilation: so rows
//! go in chunks of 64, and the remainder in chunks of 32, 16, …, which keeps the number of different texts small.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use sqlx::{AssertSqlSafe, SqliteConnection, sqlite::SqliteRow};

use super::values::SqliteValues;
use crate::{
    backend::Bulk,
    bulk_columns::bulk_columns,
    error::StoreError,
    layer_table::{self, PerInstrument},
};

/// Rows of the largest chunk: 2^6.
const LARGEST_CHUNK_LOG2: usize = 6;

/// SQLite's limit of parameters in one statement (`SQLITE_MAX_VARIABLE_NUMBER`).
const MAX_PARAMETERS: usize = 32_766;

/// The statement over many rows that is meant.
pub(super) fn of(bulk: Bulk) -> &'static Rows {
    match bulk {
        Bulk::ClaimRuns => &CLAIM_RUNS,
        Bulk::MoveMarks => &MOVE_MARKS,
        Bulk::FindSegments => &FIND_SEGMENTS,
        Bulk::InsertSteps => &INSERT_STEPS,
        Bulk::InsertReadings => &INSERT_READINGS,
        Bulk::InsertRollups => &INSERT_ROLLUPS,
        Bulk::InsertEvents => &INSERT_EVENTS,
        Bulk::UpdateFollowers => &UPDATE_FOLLOWERS,
        Bulk::InsertFollowers => &INSERT_FOLLOWERS,
        Bulk::InsertScalarNames => &INSERT_SCALAR_NAMES,
        Bulk::InsertPendingSnapshots => &INSERT_PENDING_SNAPSHOTS,
        Bulk::DeletePendingSnapshots => &DELETE_PENDING_SNAPSHOTS,
        Bulk::InsertLayerReadings(instrument) => INSERT_LAYER_READINGS.get(instrument, || {
            let head = format!("{} VALUES", layer_table::insert(instrument));
            Rows { head: head.into(), ..Rows::new("", layer_table::column_count(instrument), "") }
        }),
        Bulk::InsertPredictions => &INSERT_PREDICTIONS,
        Bulk::DeletePredictions => &DELETE_PREDICTIONS,
        Bulk::InsertSketchBlocks => &INSERT_SKETCH_BLOCKS,
        Bulk::DeleteSketchBlocks => &DELETE_SKETCH_BLOCKS,
        Bulk::HoldRuns => &HOLD_RUNS,
        Bulk::InsertAlertCursors => &INSERT_ALERT_CURSORS,
        Bulk::MoveAlertCursors => &MOVE_ALERT_CURSORS,
        Bulk::PutAlerts => &PUT_ALERTS,
        Bulk::ForgetAlerts => &FORGET_ALERTS,
        Bulk::InsertNotifications => &INSERT_NOTIFICATIONS,
        Bulk::SilenceNotifications => &SILENCE_NOTIFICATIONS,
        Bulk::TakeNotifications => &TAKE_NOTIFICATIONS,
    }
}

static CLAIM_RUNS: Rows = Rows::new(
    "UPDATE runs SET
         owner_commits = claim.column4,
         state = coalesce(claim.column5, state),
         regime = coalesce(claim.column6, regime),
         last_step = coalesce(claim.column7, last_step),
         last_seen_us = coalesce(claim.column8, last_seen_us),
         steps_count = steps_count + claim.column9,
         rejected_count = rejected_count + claim.column10,
         dropped_count = dropped_count + claim.column11,
         incomplete_count = incomplete_count + claim.column12,
         nonfinite_count = nonfinite_count + claim.column13,
         skipped_count = skipped_count + claim.column14
     FROM (VALUES",
    14,
    ") AS claim
     WHERE runs.run_id = claim.column1 AND runs.owner_epoch = claim.column2 AND runs.owner_commits = claim.column3
       AND NOT runs.deleting
     RETURNING run_id",
);

static MOVE_MARKS: Rows = Rows::new(
    "UPDATE shard_marks SET committed_seq = move.column5, keep_from_seq = move.column6 FROM (VALUES",
    6,
    ") AS move
     WHERE shard_marks.run_id = move.column1 AND shard_marks.segment = move.column2
       AND shard_marks.shard = move.column3 AND shard_marks.committed_seq = move.column4
     RETURNING run_id, segment, shard",
);

static FIND_SEGMENTS: Rows =
    Rows::new("SELECT run_id, segment FROM segments WHERE (run_id, segment) IN (VALUES", 2, ")");

static UPDATE_FOLLOWERS: Rows = Rows::new(
    "UPDATE follower_snapshots SET step = new.column6, state = new.column7 FROM (VALUES",
    7,
    ") AS new
     WHERE follower_snapshots.run_id = new.column1 AND follower_snapshots.segment = new.column2
       AND follower_snapshots.group_name = new.column3 AND follower_snapshots.kind = new.column4
       AND follower_snapshots.window = new.column5
     RETURNING run_id, segment, group_name, kind, window",
);

static INSERT_STEPS: Rows = Rows::new(concat!("INSERT INTO steps (", bulk_columns!(steps), ") VALUES"), 12, "");

static INSERT_READINGS: Rows =
    Rows::new(concat!("INSERT INTO edge_readings (", bulk_columns!(edge_readings), ") VALUES"), 58, "");

static INSERT_ROLLUPS: Rows = Rows::new(concat!("INSERT INTO rollups (", bulk_columns!(rollups), ") VALUES"), 14, "");

static INSERT_EVENTS: Rows = Rows::new(concat!("INSERT INTO events (", bulk_columns!(events), ") VALUES"), 12, "");

static INSERT_FOLLOWERS: Rows =
    Rows::new(concat!("INSERT INTO follower_snapshots (", bulk_columns!(follower_snapshots), ") VALUES"), 7, "");

static INSERT_SCALAR_NAMES: Rows =
    Rows::new(concat!("INSERT INTO scalar_names (", bulk_columns!(scalar_names), ") VALUES"), 2, "");

static INSERT_PENDING_SNAPSHOTS: Rows =
    Rows::new(concat!("INSERT INTO pending_snapshots (", bulk_columns!(pending_snapshots), ") VALUES"), 6, "");

static DELETE_PENDING_SNAPSHOTS: Rows =
    Rows::new("DELETE FROM pending_snapshots WHERE (run_id, segment, step, instrument, layer) IN (VALUES", 5, ")");

static INSERT_LAYER_READINGS: PerInstrument<Rows> = PerInstrument::new();

static INSERT_PREDICTIONS: Rows =
    Rows::new(concat!("INSERT INTO predictions (", bulk_columns!(predictions), ") VALUES"), 6, "");

static DELETE_PREDICTIONS: Rows =
    Rows::new("DELETE FROM predictions WHERE (run_id, segment, step, probe) IN (VALUES", 4, ")");

static INSERT_SKETCH_BLOCKS: Rows =
    Rows::new(concat!("INSERT INTO sketch_blocks (", bulk_columns!(sketch_blocks), ") VALUES"), 8, "");

static DELETE_SKETCH_BLOCKS: Rows = Rows::new(
    "DELETE FROM sketch_blocks WHERE rowid IN (SELECT kept.rowid FROM (VALUES",
    5,
    ") AS old CROSS JOIN sketch_blocks AS kept
     WHERE kept.run_id = old.column1 AND kept.group_name = old.column2 AND kept.kind = old.column3
       AND (kept.segment, kept.first_step) <= (old.column4, old.column5)
       AND NOT EXISTS (SELECT 1 FROM analyses WHERE analyses.run_id = kept.run_id AND analyses.state = 'running'
                                                AND kept.first_step <= analyses.pinned_to_step))",
);

static HOLD_RUNS: Rows = Rows::new("SELECT run_id, project FROM runs WHERE NOT deleting AND run_id IN (VALUES", 1, ")");

static INSERT_ALERT_CURSORS: Rows = Rows::new(
    concat!("INSERT INTO alert_cursors (", bulk_columns!(alert_cursors), ") VALUES"),
    8,
    "ON CONFLICT (run_id, lane) DO NOTHING RETURNING run_id, lane",
);

static MOVE_ALERT_CURSORS: Rows = Rows::new(
    "UPDATE alert_cursors SET segment = new.column3, step = new.column4, event_id = new.column5, number = new.column6,
         run_owner_epoch = new.column7, run_owner_commits = new.column8
     FROM (VALUES",
    8,
    ") AS new
     WHERE alert_cursors.run_id = new.column1 AND alert_cursors.lane = new.column2
       AND alert_cursors.number = new.column6 - 1
     RETURNING run_id, lane",
);

static PUT_ALERTS: Rows =
    Rows::new(concat!("INSERT INTO alerts (", bulk_columns!(alerts), ") VALUES"), 26, bulk_columns!(update_alert));

static FORGET_ALERTS: Rows = Rows::new("DELETE FROM alerts WHERE state = 'pending' AND alert_id IN (VALUES", 1, ")");

static INSERT_NOTIFICATIONS: Rows =
    Rows::new(concat!("INSERT INTO alert_notifications (", bulk_columns!(alert_notifications), ") VALUES"), 6, "");

static SILENCE_NOTIFICATIONS: Rows = Rows::new(
    "UPDATE alert_notifications SET silenced = new.column2 FROM (VALUES",
    2,
    ") AS new WHERE notification_id = new.column1",
);

static TAKE_NOTIFICATIONS: Rows =
    Rows::new("DELETE FROM alert_notifications WHERE notification_id IN (VALUES", 1, ") RETURNING notification_id");

/// A statement with a list of rows in its middle: `head (?,…),(?,…) tail`.
pub(super) struct Rows {
    head: Cow<'static, str>,
    columns: usize,
    tail: &'static str,
    /// The texts for 1, 2, 4, … rows.
    texts: OnceLock<Vec<Arc<str>>>,
}

impl Rows {
    /// A statement whose rows have `columns` values.
    const fn new(head: &'static str, columns: usize, tail: &'static str) -> Self {
        assert!(columns << LARGEST_CHUNK_LOG2 <= MAX_PARAMETERS, "a chunk has too many parameters");
        Self { head: Cow::Borrowed(head), columns, tail, texts: OnceLock::new() }
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
        encode: impl Fn(&T, &mut SqliteValues) -> Result<(), StoreError>,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut returned = Vec::new();
        let mut rest = rows;
        while !rest.is_empty() {
            // The greatest power of two that is left, at most the largest chunk.
            let chunk_log2 = (rest.len().ilog2() as usize).min(LARGEST_CHUNK_LOG2);
            let (chunk, behind) = rest.split_at(1 << chunk_log2);
            rest = behind;
            let mut values = SqliteValues::default();
            values.reserve(chunk.len() * self.columns);
            for row in chunk {
                encode(row, &mut values)?;
            }
            debug_assert_eq!(values.count(), chunk.len() * self.columns, "{}", self.head);
            // Safe: head and tail are constants of this crate, the rest is question marks.
            let statement = sqlx::query_with(AssertSqlSafe(self.text(chunk_log2)), values.into_arguments());
            returned.extend(statement.fetch_all(&mut *connection).await?);
        }
        Ok(returned)
    }
}
