//! Events.

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteStore,
    bulk::Bulk,
    codec::{self, to_i64},
};
use crate::{
    error::StoreError,
    model::{Event, EventRow, RunCommit},
    query::{EventQuery, Page},
};

static INSERT_EVENTS: Bulk = Bulk::new(
    "INSERT INTO events (event_id, run_id, event_type, segment, step, at_us, group_name, kind, window, from_regime,
                         to_regime, evidence) VALUES",
    12,
    "",
);

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    runs: &[RunCommit],
    event_ids: &[Vec<u64>],
) -> Result<(), StoreError> {
    let rows: Vec<_> = runs
        .iter()
        .zip(event_ids)
        .flat_map(|(run, ids)| run.events.iter().zip(ids).map(|(event, id)| (run.run_id, *id, event)))
        .collect();
    INSERT_EVENTS
        .run(connection, &rows, |(run_id, event_id, event), values| {
            values.push(to_i64("events.event_id", *event_id)?)?;
            values.push(run_id.0.as_bytes().as_slice())?;
            values.push(event.event_type.as_str())?;
            values.push(event.segment)?;
            values.push(event.step.map(|step| to_i64("events.step", step)).transpose()?)?;
            values.push(event.at_us)?;
            values.push(event.group.as_deref())?;
            values.push(event.kind.map(|kind| kind.as_str()))?;
            values.push(event.window.map(codec::size_i64))?;
            values.push(event.from.as_deref())?;
            values.push(event.to.as_deref())?;
            values.push(codec::to_json("events.evidence", &event.evidence)?)
        })
        .await?;
    Ok(())
}

/// A row of `events` with the `project` of its run.
pub(super) fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    let kind: Option<&str> = row.try_get("kind")?;
    Ok(Event {
        event_id: codec::unsigned(row, "event_id")?,
        run_id: codec::run_id(row)?,
        project: row.try_get("project")?,
        row: EventRow {
            event_type: row.try_get("event_type")?,
            segment: codec::unsigned(row, "segment")?,
            step: codec::unsigned_or_null(row, "step")?,
            at_us: row.try_get("at_us")?,
            group: row.try_get("group_name")?,
            kind: kind.map(|_| codec::word(row, "kind")).transpose()?,
            window: codec::unsigned_or_null(row, "window")?,
            from: row.try_get("from_regime")?,
            to: row.try_get("to_regime")?,
            evidence: codec::json(row, "evidence")?,
        },
    })
}

pub(super) async fn events(store: &SqliteStore, query: &EventQuery) -> Result<Page<Event>, StoreError> {
    // CROSS JOIN keeps SQLite from starting with the runs: the order of events is what every page follows.
    let mut sql = QueryBuilder::<Sqlite>::new(
        "SELECT events.*, runs.project FROM events CROSS JOIN runs ON runs.run_id = events.run_id
         WHERE runs.deleting = 0",
    );
    if let Some(run_id) = query.run_id {
        sql.push(" AND events.run_id = ").push_bind(run_id.0.as_bytes().as_slice());
    }
    if let Some(project) = &query.project {
        sql.push(" AND runs.project = ").push_bind(project);
    }
    if !query.types.is_empty() {
        sql.push(" AND event_type IN (SELECT value FROM json_each(")
            .push_bind(codec::to_json("types", &query.types)?)
            .push("))");
    }
    if let Some(group) = &query.group {
        sql.push(" AND group_name = ").push_bind(group);
    }
    if let Some(ranges) = &query.ranges {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|range| (range.segment, codec::bound_i64(range.from_step), codec::bound_i64(range.to_step)))
            .collect();
        sql.push(" AND EXISTS (SELECT 1 FROM json_each(").push_bind(codec::to_json("ranges", &ranges)?).push(
            ") AS range WHERE events.segment = range.value ->> 0
                 AND (events.step IS NULL OR events.step BETWEEN range.value ->> 1 AND range.value ->> 2))",
        );
    }
    let (behind, direction) = if query.newest_first { ("<", "DESC") } else { (">", "ASC") };
    if let Some(after) = query.after {
        sql.push(" AND event_id ").push(behind).push(" ").push_bind(codec::bound_i64(after));
    }
    sql.push(" ORDER BY event_id ").push(direction);
    sql.push(" LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = sql.build().fetch_all(&store.readers).await?;
    let items = found.iter().take(query.limit).map(event).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}
