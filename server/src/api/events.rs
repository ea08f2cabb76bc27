//! `runs/{run_id}/events` and `events`.

use std::collections::HashMap;

use axum::{Json, extract::State};
use gradwatch_store::{
    Event, EventQuery, EventRow, Kind, RunId, Segment, Store, StoreError,
    lineage::{self, SegmentRange},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    cursor::{EventPosition, Paging},
    openapi::Problems,
    params::{FromParams, Params, Query, RunPath},
    refusal::Answer,
    selection::{self, SegmentChoice, Stretch},
    time::Time,
};
use crate::{error::Error, state::AppState};

/// Something that happened to a run.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Grows in the order of recording; a 64-bit number, as text.
    event_id: String,
    /// UUID.
    run_id: String,
    project: String,
    /// Such as `edge.regime`, `window.restarted`, `run.lossy`.
    #[serde(rename = "type")]
    event_type: String,
    segment: u32,
    /// Null for what belongs to no step.
    step: Option<u64>,
    /// By the server's clock.
    at: Time,
    /// The group that it concerns, or the layer of a layer instrument's detector.
    group: Option<String>,
    kind: Option<&'static str>,
    window: Option<usize>,
    /// For a transition: the regime left.
    from: Option<String>,
    /// For a transition: the regime entered.
    to: Option<String>,
    /// Why. Of a layer instrument's detector: `instrument` as well.
    #[schema(value_type = Object)]
    evidence: Value,
}

impl EventView {
    pub(crate) fn new(event_id: u64, run_id: RunId, project: &str, row: EventRow) -> Self {
        Self {
            event_id: event_id.to_string(),
            run_id: run_id.to_string(),
            project: project.to_owned(),
            event_type: row.event_type,
            segment: row.segment,
            step: row.step,
            at: Time(row.at_us),
            group: row.group,
            kind: row.kind.map(Kind::as_str),
            window: row.window,
            from: row.from,
            to: row.to,
            evidence: row.evidence,
        }
    }
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self::new(event.event_id, event.run_id, &event.project, event.row)
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    items: Vec<EventView>,
    /// Where the next page starts; null at the end. A page may hold fewer items than `limit` although there are more.
    next_cursor: Option<String>,
}

/// Which events. Unlike readings, events are not narrowed to one stream unless asked to.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventFilter {
    /// Only of these types, such as `edge.regime`; repeated or separated by commas.
    #[param(value_type = Option<Vec<String>>)]
    types: Vec<String>,
    /// Only of this group, or this layer.
    #[param(value_type = Option<String>)]
    group: Option<String>,
    /// Only of this kind: `update` or `gradient`.
    #[param(value_type = Option<String>)]
    kind: Option<Kind>,
    /// Only of this window length.
    #[param(value_type = Option<u64>)]
    window: Option<usize>,
    /// `live`.
    #[param(value_type = Option<String>, default = "live")]
    #[expect(dead_code, reason = "checked on arrival; the live analysis records all events")]
    analysis: String,
    /// Only events recorded behind this `event_id`. Not together with `sort=-event_id`.
    #[param(value_type = Option<String>)]
    after: Option<u64>,
    /// `event_id` (oldest first) or `-event_id` (newest first).
    #[param(value_type = Option<String>, rename = "sort", default = "event_id")]
    newest_first: bool,
}

impl FromParams for EventFilter {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        let filter = Self {
            types: params.list("types")?,
            group: params.one("group")?,
            kind: params.parsed("kind")?,
            window: params.parsed("window")?,
            analysis: selection::live_analysis(params)?,
            after: params.parsed("after")?,
            newest_first: match params.one("sort")?.as_deref() {
                None | Some("event_id") => false,
                Some("-event_id") => true,
                Some(_) => return Err(Error::invalid("sort", "must be event_id or -event_id")),
            },
        };
        if filter.after.is_some() && filter.newest_first {
            return Err(Error::invalid("after", "asks for later events and needs sort=event_id"));
        }
        Ok(filter)
    }
}

/// Of which project.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProjectFilter {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    pub(crate) project: Option<String>,
}

impl FromParams for ProjectFilter {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self { project: params.project()? })
    }
}

impl EventFilter {
    fn query(&self, paging: &Paging) -> Result<EventQuery, Error> {
        let after = paging.position::<EventPosition>()?.map(|position| position.event_id).or(self.after);
        Ok(EventQuery {
            run_id: None,
            project: None,
            types: self.types.clone(),
            group: self.group.clone(),
            ranges: None,
            after,
            newest_first: self.newest_first,
            limit: paging.limit,
        })
    }

    fn keeps(&self, row: &EventRow) -> bool {
        self.kind.is_none_or(|kind| row.kind == Some(kind))
            && self.window.is_none_or(|window| row.window == Some(window))
    }
}

/// Lists the events of a run, in the order of recording.
#[utoipa::path(get, operation_id = "listEventsOfRun", path = "/api/v1/runs/{run_id}/events", tag = "events",
    params(("run_id" = String, Path, description = "UUID"), EventFilter, Stretch, Paging),
    responses((status = 200, body = EventList), Problems))]
pub(crate) async fn of_run(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    Query((filter, stretch, paging)): Query<(EventFilter, Stretch, Paging)>,
) -> Answer<Json<EventList>> {
    let segments = state.store.segments(run_id).await?;
    let mut query = filter.query(&paging)?;
    query.run_id = Some(run_id);
    if !stretch.is_everything() {
        let ranges = stretch.ranges(&segments)?;
        if ranges.is_empty() {
            return Ok(Json(EventList { items: Vec::new(), next_cursor: None }));
        }
        query.ranges = Some(ranges);
    }
    Ok(Json(page(&*state.store, query, &filter, None, &paging).await?))
}

/// Lists the events of all runs, in the order of recording.
#[utoipa::path(get, operation_id = "listEvents", path = "/api/v1/events", tag = "events", params(ProjectFilter, EventFilter, Stretch, Paging),
    responses((status = 200, body = EventList), Problems))]
pub(crate) async fn of_all(
    State(state): State<AppState>,
    Query((project, filter, stretch, paging)): Query<(ProjectFilter, EventFilter, Stretch, Paging)>,
) -> Answer<Json<EventList>> {
    let mut query = filter.query(&paging)?;
    query.project = project.project;
    let line = (!stretch.is_everything()).then(|| Line { stretch, live: HashMap::new() });
    Ok(Json(page(&*state.store, query, &filter, line, &paging).await?))
}

/// Pages read from the store for one answer, at most.
const MAX_SCANS: usize = 20;
/// Events read at once when only some of them will be kept.
const SCAN_EVENTS: usize = 500;

/// Reads events until a page is full. What the store cannot select by is filtered here, so a page may come out short;
/// its cursor then stands behind what was looked at.
async fn page(
    store: &dyn Store,
    mut query: EventQuery,
    filter: &EventFilter,
    mut line: Option<Line>,
    paging: &Paging,
) -> Result<EventList, Error> {
    if line.is_some() || filter.kind.is_some() || filter.window.is_some() {
        query.limit = query.limit.max(SCAN_EVENTS);
    }
    let mut items = Vec::new();
    let mut more = true;
    for _ in 0..MAX_SCANS {
        let scanned = store.events(&query).await?;
        more = scanned.more;
        for event in scanned.items {
            if items.len() == paging.limit {
                more = true;
                break;
            }
            query.after = Some(event.event_id);
            let on_line = match &mut line {
                Some(line) => line.keeps(store, &event).await?,
                None => true,
            };
            if on_line && filter.keeps(&event.row) {
                items.push(event.into());
            }
        }
        if !more || items.len() == paging.limit {
            break;
        }
    }
    let next_cursor = match query.after {
        Some(event_id) if more => Some(paging.behind(EventPosition { event_id })?),
        _ => None,
    };
    Ok(EventList { items, next_cursor })
}

/// Steps and segments asked for, over many runs.
struct Line {
    stretch: Stretch,
    /// The live ranges of the runs met so far; `None` for a run that was deleted meanwhile.
    live: HashMap<RunId, Option<Vec<SegmentRange>>>,
}

impl Line {
    async fn keeps(&mut self, store: &dyn Store, event: &Event) -> Result<bool, Error> {
        let Stretch { segment, from_step, to_step } = self.stretch;
        let whole = SegmentRange { segment: event.row.segment, from_step, to_step };
        match segment {
            SegmentChoice::All => Ok(holds(&whole, &event.row)),
            SegmentChoice::One(number) => Ok(event.row.segment == number && holds(&whole, &event.row)),
            SegmentChoice::Live => {
                if !self.live.contains_key(&event.run_id) {
                    let live = match store.segments(event.run_id).await {
                        Ok(segments) => Some(self.live_ranges(&segments)),
                        Err(StoreError::UnknownRun(_)) => None,
                        Err(error) => return Err(error.into()),
                    };
                    self.live.insert(event.run_id, live);
                }
                let ranges = self.live.get(&event.run_id).and_then(Option::as_ref);
                Ok(ranges.is_some_and(|ranges| ranges.iter().any(|range| holds(range, &event.row))))
            }
        }
    }

    fn live_ranges(&self, segments: &[Segment]) -> Vec<SegmentRange> {
        lineage::live(segments, self.stretch.from_step, self.stretch.to_step)
    }
}

/// An event without a step belongs to its segment whole.
fn holds(range: &SegmentRange, row: &EventRow) -> bool {
    row.segment == range.segment && row.step.is_none_or(|step| (range.from_step..=range.to_step).contains(&step))
}
