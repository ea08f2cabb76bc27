//! Events.

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{Event, EventRow, RunCommit, RunId},
    query::{EventQuery, Page},
};

/// An event with its run and the id it was given.
pub(super) type Numbered<'a> = (RunId, u64, &'a EventRow);

/// The events of all runs with the ids they were given.
pub(super) fn numbered<'a>(runs: &'a [RunCommit], event_ids: &[Vec<u64>]) -> Vec<Numbered<'a>> {
    runs.iter()
        .zip(event_ids)
        .flat_map(|(run, ids)| run.events.iter().zip(ids).map(|(event, id)| (run.run_id, *id, event)))
        .collect()
}

pub(super) fn encode((run_id, event_id, event): &Numbered<'_>, values: &mut impl Values) -> Result<(), StoreError> {
    values.integer(to_i64("events.event_id", *event_id)?)?;
    values.uuid(run_id.0)?;
    values.text(event.event_type.as_str())?;
    values.integer(i64::from(event.segment))?;
    values.integer(event.step.map(|step| to_i64("events.step", step)).transpose()?)?;
    values.integer(event.at_us)?;
    values.text(event.group.as_deref())?;
    values.text(event.kind.map(|kind| kind.as_str()))?;
    values.integer(event.window.map(codec::size_i64))?;
    values.text(event.from.as_deref())?;
    values.text(event.to.as_deref())?;
    values.text(codec::to_json("events.evidence", &event.evidence)?.as_str())
}

/// A row of `events` with the `project` of its run.
pub(super) fn event(row: &impl Columns) -> Result<Event, StoreError> {
    let string_or_null = |column: &str| Ok::<_, StoreError>(row.text(column)?.map(str::to_owned));
    Ok(Event {
        event_id: codec::unsigned(row, "event_id")?,
        run_id: codec::run_id(row)?,
        project: codec::string(row, "project")?,
        row: EventRow {
            event_type: codec::string(row, "event_type")?,
            segment: codec::unsigned(row, "segment")?,
            step: codec::unsigned_or_null(row, "step")?,
            at_us: codec::signed(row, "at_us")?,
            group: string_or_null("group_name")?,
            kind: row.text("kind")?.map(|_| codec::word(row, "kind")).transpose()?,
            window: codec::unsigned_or_null(row, "window")?,
            from: string_or_null("from_regime")?,
            to: string_or_null("to_regime")?,
            evidence: codec::json(row, "evidence")?,
        },
    })
}

pub(super) async fn events<B: Backend>(backend: &B, query: &EventQuery) -> Result<Page<Event>, StoreError> {
    // CROSS JOIN keeps SQLite from starting with the runs: the order of events is what every page follows.
    let mut select = Statement::new(
        "SELECT events.*, runs.project FROM events CROSS JOIN runs
         WHERE runs.run_id = events.run_id AND NOT runs.deleting",
    );
    if let Some(run_id) = query.run_id {
        select.push(" AND events.run_id = ").push_bind(run_id);
    }
    if let Some(project) = &query.project {
        select.push(" AND runs.project = ").push_bind(project.as_str());
    }
    if !query.types.is_empty() {
        let [before, behind] = B::DIALECT.type_among;
        select.push(" AND ").push(before).push_bind(codec::to_json("types", &query.types)?).push(behind);
    }
    if let Some(group) = &query.group {
        select.push(" AND group_name = ").push_bind(group.as_str());
    }
    if let Some(ranges) = &query.ranges {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|range| (range.segment, codec::bound_i64(range.from_step), codec::bound_i64(range.to_step)))
            .collect();
        let [before, behind] = B::DIALECT.in_ranges;
        select.push(" AND ").push(before).push_bind(codec::to_json("ranges", &ranges)?).push(behind);
    }
    let (behind, direction) = if query.newest_first { ("<", "DESC") } else { (">", "ASC") };
    if let Some(after) = query.after {
        select.push(" AND event_id ").push(behind).push(" ").push_bind(codec::bound_i64(after));
    }
    select.push(" ORDER BY event_id ").push(direction);
    select.push(" LIMIT ").push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = backend.session(Access::Single).await?.fetch_all(select).await?;
    let items = found.iter().take(query.limit).map(event).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}
