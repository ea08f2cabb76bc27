//! `runs/{run_id}/readings/{instrument}`, as JSON, NDJSON or CSV.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, request::Parts},
    response::{IntoResponse, Response},
};
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{LIVE_ANALYSIS, LayerReadingAt, LayerReadingQuery, Page, Reading, ReadingQuery, Store};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    accept::{self, Format},
    cursor::{Paging, StepPosition},
    layer_choice::LayerChoice,
    layer_reading_view::{self, LayerReadingView},
    layer_schema::ReadingLine,
    openapi::Problems,
    params::{Query, RunPath, path_segment},
    reading_view::{Columns, ReadingView},
    refusal::{Answer, Refusal},
    selection::{self, StreamChoice, Stretch},
    table::{self, RowQuery},
};
use crate::{
    error::{Error, ErrorCode},
    state::AppState,
};

/// A page of readings, and what was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadingList {
    group: String,
    kind: &'static str,
    window: usize,
    analysis: String,
    items: Vec<ReadingView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// A page of readings of a layer, and what was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerReadingList {
    /// `cascade`, `curvature`, `dead_directions` or `learning_cell`.
    instrument: &'static str,
    layer: String,
    analysis: String,
    items: Vec<LayerReadingView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Of the edge, or of a layer instrument.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ReadingPage {
    Edge(ReadingList),
    Layer(LayerReadingList),
}

/// The path segment `{instrument}`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Instrument {
    Edge,
    Layer(LayerInstrument),
}

impl<S: Send + Sync> FromRequestParts<S> for Instrument {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let name = path_segment(parts, state, "instrument").await?;
        if name == "edge" {
            return Ok(Self::Edge);
        }
        name.parse().map(Self::Layer).map_err(|_| {
            let layered: Vec<&str> = LayerInstrument::ALL.iter().map(|instrument| instrument.as_str()).collect();
            let message = format!("there is no instrument {name:?}; there are edge, {}", layered.join(", "));
            Error { field: Some("instrument".into()), ..Error::new(ErrorCode::NotFound, message) }.into()
        })
    }
}

/// Lists the readings of one stream, or of one layer, by segment and step. `group`, `kind` and `window` are for `edge`,
/// `layer` for the others. With `Accept: application/x-ndjson` or `text/csv` the rows come alone, one a line.
#[utoipa::path(get, operation_id = "listReadings", path = "/api/v1/runs/{run_id}/readings/{instrument}", tag = "readings",
    params(("run_id" = String, Path, description = "UUID"),
        ("instrument" = String, Path,
            description = "`edge`, `cascade`, `curvature`, `dead_directions` or `learning_cell`"),
        StreamChoice, LayerChoice, Stretch, Paging),
    responses((status = 200, content((ReadingPage = "application/json"), (ReadingLine = "application/x-ndjson"),
        (String = "text/csv"))), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    instrument: Instrument,
    Query((choice, layer, stretch, paging)): Query<(StreamChoice, LayerChoice, Stretch, Paging)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = accept::negotiate(&headers)?;
    match instrument {
        Instrument::Edge if layer.layer.is_some() => {
            let message = "is for the layer instruments; readings of edge belong to a group, kind and window";
            return Err(Error::invalid("layer", message).into());
        }
        Instrument::Layer(instrument) => {
            if let Some(given) = choice.given() {
                let message = format!("is for edge; readings of {instrument} belong to a layer");
                return Err(Error::invalid(given, message).into());
            }
            if choice.analysis != LIVE_ANALYSIS {
                let other = &choice.analysis;
                let message = format!("{other:?} has no {instrument}: re-analyses read the edge only");
                return Err(Error::invalid("analysis", message).into());
            }
        }
        Instrument::Edge => {}
    }
    let segments = state.store.segments(run_id).await?;
    let mut ranges = stretch.ranges(&segments)?;
    if let Some(position) = paging.position::<StepPosition>()? {
        ranges = selection::behind(&ranges, &segments, position);
    }
    let (store, limit) = (Arc::clone(&state.store), paging.limit);
    match instrument {
        Instrument::Edge => {
            let stream = choice.resolve(&*state.store, run_id, &segments).await?;
            let query = ReadingQuery { run_id, analysis: choice.analysis, stream, ranges, limit };
            edge(store, query, &paging, format).await
        }
        Instrument::Layer(instrument) => {
            let found = layer.find(instrument, &segments);
            let layer = found.ok_or_else(|| layer.unknown(instrument, [&*segments]))?;
            let query = LayerReadingQuery { run_id, layer, ranges, limit };
            of_layer(store, query, choice.analysis, &paging, format).await
        }
    }
}

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";

async fn edge(store: Arc<dyn Store>, query: ReadingQuery, paging: &Paging, format: Format) -> Answer<Response> {
    let view = |reading: &Reading| ReadingView::new(&reading.row, reading.wall_time_us);
    match format {
        Format::Json => {
            let page = query.read(&*store).await?;
            let next_cursor = next_cursor::<ReadingQuery>(&page, paging)?;
            let list = ReadingPage::Edge(ReadingList {
                items: page.items.iter().map(view).collect(),
                group: query.stream.group,
                kind: query.stream.kind.as_str(),
                window: query.stream.window,
                analysis: query.analysis,
                next_cursor,
            });
            Ok(Json(list).into_response())
        }
        Format::NdJson => {
            table::answer(store, query, NDJSON, String::new(), move |row, text| push_line(&view(row), text)).await
        }
        Format::Csv => {
            let columns = Columns::new(query.stream.window);
            let header = columns.header();
            table::answer(store, query, CSV, header, move |row, text| {
                columns.line(row, text);
                Ok(())
            })
            .await
        }
    }
}

async fn of_layer(
    store: Arc<dyn Store>,
    query: LayerReadingQuery,
    analysis: String,
    paging: &Paging,
    format: Format,
) -> Answer<Response> {
    let instrument = query.layer.instrument;
    match format {
        Format::Json => {
            let page = query.read(&*store).await?;
            let next_cursor = next_cursor::<LayerReadingQuery>(&page, paging)?;
            let list = ReadingPage::Layer(LayerReadingList {
                instrument: instrument.as_str(),
                layer: query.layer.layer,
                analysis,
                items: page.items.into_iter().map(LayerReadingView::from).collect(),
                next_cursor,
            });
            Ok(Json(list).into_response())
        }
        Format::NdJson => {
            let line = |row: &LayerReadingAt, text: &mut String| push_line(&LayerReadingView::from(row.clone()), text);
            table::answer(store, query, NDJSON, String::new(), line).await
        }
        Format::Csv => {
            let header = layer_reading_view::csv_header(instrument);
            table::answer(store, query, CSV, header, |row, text| {
                layer_reading_view::csv_line(row, text);
                Ok(())
            })
            .await
        }
    }
}

fn next_cursor<Q: RowQuery>(page: &Page<Q::Row>, paging: &Paging) -> Result<Option<String>, Error> {
    page.items.last().filter(|_| page.more).map(|last| paging.behind(Q::position(last))).transpose()
}

fn push_line(view: &impl Serialize, text: &mut String) -> Result<(), Error> {
    text.push_str(&serde_json::to_string(view).map_err(Error::internal)?);
    text.push('\n');
    Ok(())
}
