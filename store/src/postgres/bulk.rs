//! Statements over many rows: one argument for each column, an array.

use gradwatch_spectral::layers::LayerInstrument;

use crate::{
    backend::Bulk,
    bulk_columns::bulk_columns,
    layer_table::{self, PerInstrument},
};

/// The text of a statement.
pub(super) fn text(bulk: Bulk) -> &'static str {
    match bulk {
        Bulk::ClaimRuns => CLAIM_RUNS,
        Bulk::MoveMarks => MOVE_MARKS,
        Bulk::FindSegments => FIND_SEGMENTS,
        Bulk::InsertSteps => INSERT_STEPS,
        Bulk::InsertReadings => INSERT_READINGS,
        Bulk::InsertRollups => INSERT_ROLLUPS,
        Bulk::InsertEvents => INSERT_EVENTS,
        Bulk::UpdateFollowers => UPDATE_FOLLOWERS,
        Bulk::InsertFollowers => INSERT_FOLLOWERS,
        Bulk::InsertScalarNames => INSERT_SCALAR_NAMES,
        Bulk::InsertPendingSnapshots => INSERT_PENDING_SNAPSHOTS,
        Bulk::DeletePendingSnapshots => DELETE_PENDING_SNAPSHOTS,
        Bulk::InsertLayerReadings(instrument) => {
            INSERT_LAYER_READINGS.get(instrument, || insert_layer_readings(instrument))
        }
        Bulk::InsertPredictions => INSERT_PREDICTIONS,
        Bulk::DeletePredictions => DELETE_PREDICTIONS,
        Bulk::InsertSketchBlocks => INSERT_SKETCH_BLOCKS,
        Bulk::DeleteSketchBlocks => DELETE_SKETCH_BLOCKS,
        Bulk::HoldRuns => HOLD_RUNS,
        Bulk::InsertAlertCursors => INSERT_ALERT_CURSORS,
        Bulk::MoveAlertCursors => MOVE_ALERT_CURSORS,
        Bulk::PutAlerts => PUT_ALERTS,
        Bulk::ForgetAlerts => FORGET_ALERTS,
        Bulk::InsertNotifications => INSERT_NOTIFICATIONS,
        Bulk::SilenceNotifications => SILENCE_NOTIFICATIONS,
        Bulk::TakeNotifications => TAKE_NOTIFICATIONS,
    }
}

const CLAIM_RUNS: &str = "
    UPDATE runs SET
        owner_commits = claim.commit_number,
        state = coalesce(claim.state, runs.state),
        regime = coalesce(claim.regime, runs.regime),
        last_step = coalesce(claim.last_step, runs.last_step),
        last_seen_us = coalesce(claim.last_seen_us, runs.last_seen_us),
        steps_count = runs.steps_count + claim.steps,
        rejected_count = runs.rejected_count + claim.rejected,
        dropped_count = runs.dropped_count + claim.dropped,
        incomplete_count = runs.incomplete_count + claim.incomplete,
        nonfinite_count = runs.nonfinite_count + claim.nonfinite,
        skipped_count = runs.skipped_count + claim.skipped
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         AS claim (run_id, owner_epoch, after_commit, commit_number, state, regime, last_step, last_seen_us, steps,
                   rejected, dropped, incomplete, nonfinite, skipped)
    WHERE runs.run_id = claim.run_id AND runs.owner_epoch = claim.owner_epoch
      AND runs.owner_commits = claim.after_commit AND NOT runs.deleting
    RETURNING runs.run_id";

const MOVE_MARKS: &str = "
    UPDATE shard_marks SET committed_seq = move.to_seq, keep_from_seq = move.keep_from_seq
    FROM unnest($1, $2, $3, $4, $5, $6) AS move (run_id, segment, shard, from_seq, to_seq, keep_from_seq)
    WHERE shard_marks.run_id = move.run_id AND shard_marks.segment = move.segment AND shard_marks.shard = move.shard
      AND shard_marks.committed_seq = move.from_seq
    RETURNING shard_marks.run_id, shard_marks.segment, shard_marks.shard";

const FIND_SEGMENTS: &str = "
    SELECT segments.run_id, segments.segment
    FROM segments JOIN unnest($1, $2) AS wanted (run_id, segment) USING (run_id, segment)";

const UPDATE_FOLLOWERS: &str = "
    UPDATE follower_snapshots AS old SET step = new.step, state = new.state
    FROM unnest($1, $2, $3, $4, $5, $6, $7) AS new (run_id, segment, group_name, kind, \"window\", step, state)
    WHERE old.run_id = new.run_id AND old.segment = new.segment AND old.group_name = new.group_name
      AND old.kind = new.kind AND old.\"window\" = new.\"window\"
    RETURNING old.run_id, old.segment, old.group_name, old.kind, old.\"window\"";

const INSERT_STEPS: &str = concat!(
    "INSERT INTO steps (",
    bulk_columns!(steps),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
);

const INSERT_READINGS: &str = concat!(
    "INSERT INTO edge_readings (",
    bulk_columns!(edge_readings),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
         $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38,
         $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56,
         $57, $58)"
);

const INSERT_ROLLUPS: &str = concat!(
    "INSERT INTO rollups (",
    bulk_columns!(rollups),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
);

const INSERT_EVENTS: &str = concat!(
    "INSERT INTO events (",
    bulk_columns!(events),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
);

const INSERT_FOLLOWERS: &str = concat!(
    "INSERT INTO follower_snapshots (",
    bulk_columns!(follower_snapshots),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7)"
);

const INSERT_SCALAR_NAMES: &str = concat!(
    "INSERT INTO scalar_names (",
    bulk_columns!(scalar_names),
    ") SELECT * FROM unnest(
         $1, $2)"
);

const INSERT_PENDING_SNAPSHOTS: &str = concat!(
    "INSERT INTO pending_snapshots (",
    bulk_columns!(pending_snapshots),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6)"
);

const DELETE_PENDING_SNAPSHOTS: &str = "
    DELETE FROM pending_snapshots AS old
    USING unnest($1, $2, $3, $4, $5) AS done (run_id, segment, step, instrument, layer)
    WHERE old.run_id = done.run_id AND old.segment = done.segment AND old.step = done.step
      AND old.instrument = done.instrument AND old.layer = done.layer";

static INSERT_LAYER_READINGS: PerInstrument<String> = PerInstrument::new();

fn insert_layer_readings(instrument: LayerInstrument) -> String {
    let places: Vec<_> = (1..=layer_table::column_count(instrument)).map(|place| format!("${place}")).collect();
    format!("{} SELECT * FROM unnest({})", layer_table::insert(instrument), places.join(", "))
}

const INSERT_PREDICTIONS: &str = concat!(
    "INSERT INTO predictions (",
    bulk_columns!(predictions),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6)"
);

const DELETE_PREDICTIONS: &str = "
    DELETE FROM predictions AS old
    USING unnest($1, $2, $3, $4) AS dropped (run_id, segment, step, probe)
    WHERE old.run_id = dropped.run_id AND old.segment = dropped.segment AND old.step = dropped.step
      AND old.probe = dropped.probe";

const INSERT_SKETCH_BLOCKS: &str = concat!(
    "INSERT INTO sketch_blocks (",
    bulk_columns!(sketch_blocks),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8)"
);

const DELETE_SKETCH_BLOCKS: &str = "
    DELETE FROM sketch_blocks AS kept
    USING unnest($1, $2, $3, $4, $5) AS old (run_id, group_name, kind, segment, first_step)
    WHERE kept.run_id = old.run_id AND kept.group_name = old.group_name AND kept.kind = old.kind
      AND (kept.segment, kept.first_step) <= (old.segment, old.first_step)
      AND NOT EXISTS (SELECT 1 FROM analyses WHERE analyses.run_id = kept.run_id AND analyses.state = 'running'
                                               AND kept.first_step <= analyses.pinned_to_step)";

/// Neither holds up a commit nor waits for one: commits change no key. Whoever deletes a run locks it whole.
const HOLD_RUNS: &str = "
    SELECT runs.run_id, runs.project FROM runs JOIN unnest($1) AS wanted (run_id) USING (run_id)
    WHERE NOT runs.deleting ORDER BY runs.run_id FOR KEY SHARE OF runs";

const INSERT_ALERT_CURSORS: &str = concat!(
    "INSERT INTO alert_cursors (",
    bulk_columns!(alert_cursors),
    ") SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (run_id, lane) DO NOTHING RETURNING run_id, lane"
);

const MOVE_ALERT_CURSORS: &str = "
    UPDATE alert_cursors AS old SET segment = new.segment, step = new.step, event_id = new.event_id,
        number = new.number, run_owner_epoch = new.run_owner_epoch, run_owner_commits = new.run_owner_commits
    FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)
         AS new (run_id, lane, segment, step, event_id, number, run_owner_epoch, run_owner_commits)
    WHERE old.run_id = new.run_id AND old.lane = new.lane AND old.number = new.number - 1
    RETURNING old.run_id, old.lane";

const PUT_ALERTS: &str = concat!(
    "INSERT INTO alerts (",
    bulk_columns!(alerts),
    ") SELECT * FROM unnest(
         $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
         $21, $22, $23, $24, $25, $26) ",
    bulk_columns!(update_alert)
);

const FORGET_ALERTS: &str = "
    DELETE FROM alerts USING unnest($1) AS old (alert_id)
    WHERE alerts.alert_id = old.alert_id AND alerts.state = 'pending'";

/// Numbers are given in the order of the rows.
const INSERT_NOTIFICATIONS: &str = concat!(
    "INSERT INTO alert_notifications (",
    bulk_columns!(alert_notifications),
    ") SELECT ",
    bulk_columns!(alert_notifications),
    " FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS new (",
    bulk_columns!(alert_notifications),
    ", place) ORDER BY place"
);

const SILENCE_NOTIFICATIONS: &str = "
    UPDATE alert_notifications AS old SET silenced = new.silenced
    FROM unnest($1, $2) AS new (notification_id, silenced) WHERE old.notification_id = new.notification_id";

const TAKE_NOTIFICATIONS: &str = "
    DELETE FROM alert_notifications AS old USING unnest($1) AS taken (notification_id)
    WHERE old.notification_id = taken.notification_id
    RETURNING old.notification_id";
