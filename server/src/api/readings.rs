//! `runs/{run_id}/readings/{instrument}`, as JSON, NDJSON or CSV.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use gradwatch_store::{Page, Reading, ReadingQuery, Store};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    accept::{self, Format},
    cursor::{Paging, StepPosition},
    openapi::Problems,
    params::{Query, RunPath, path_segment},
    reading_view::{Columns, ReadingView},
    refusal::{Answer, Refusal},
    selection::{self, StreamChoice, Stretch},
};
use crate::{
    error::{Error, ErrorCode},
    state::AppState,
};

/// Rows held in memory at once while a table is streamed.
const STREAM_PAGE: usize = 500;

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

/// The path segment `{instrument}`: `edge` is the only instrument there is.
#[derive(Debug)]
pub(crate) struct EdgePath;

impl<S: Send + Sync> FromRequestParts<S> for EdgePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let instrument = path_segment(parts, state, "instrument").await?;
        if instrument == "edge" {
            return Ok(Self);
        }
        let error = Error::new(ErrorCode::NotFound, format!("there is no instrument {instrument:?}; only edge"));
        Err(Error { field: Some("instrument".into()), ..error }.into())
    }
}

/// Lists the readings of one stream, by segment and step. With `Accept: application/x-ndjson` or `text/csv` the rows
/// come alone, one a line.
#[utoipa::path(get, operation_id = "listReadings", path = "/api/v1/runs/{run_id}/readings/{instrument}", tag = "readings",
    params(("run_id" = String, Path, description = "UUID"), ("instrument" = String, Path, description = "`edge`"),
        StreamChoice, Stretch, Paging),
    responses((status = 200, content((ReadingList = "application/json"), (ReadingView = "application/x-ndjson"),
        (String = "text/csv"))), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    RunPath(run_id): RunPath,
    EdgePath: EdgePath,
    Query((choice, stretch, paging)): Query<(StreamChoice, Stretch, Paging)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let format = accept::negotiate(&headers)?;
    let segments = state.store.segments(run_id).await?;
    let stream = choice.resolve(&*state.store, run_id, &segments).await?;
    let mut ranges = stretch.ranges(&segments)?;
    if let Some(position) = paging.position::<StepPosition>()? {
        ranges = selection::behind(&ranges, &segments, position);
    }
    let query = ReadingQuery { run_id, analysis: choice.analysis, stream, ranges, limit: paging.limit };
    match format {
        Format::Json => json(&*state.store, query, &paging).await.map(IntoResponse::into_response),
        Format::NdJson => table(state.store, query, "application/x-ndjson", String::new(), ndjson_line).await,
        Format::Csv => {
            let columns = Columns::new(query.stream.window);
            let header = columns.header();
            table(state.store, query, "text/csv; charset=utf-8", header, move |reading, text| {
                columns.line(reading, text);
                Ok(())
            })
            .await
        }
    }
}

async fn json(store: &dyn Store, query: ReadingQuery, paging: &Paging) -> Answer<Json<ReadingList>> {
    let page = page(store, &query).await?;
    let next_cursor = match page.items.last() {
        Some(Reading { row, .. }) if page.more => {
            Some(paging.behind(StepPosition { segment: row.segment, step: row.step })?)
        }
        _ => None,
    };
    let items = page.items.iter().map(|reading| ReadingView::new(&reading.row, reading.wall_time_us));
    Ok(Json(ReadingList {
        items: items.collect(),
        group: query.stream.group,
        kind: query.stream.kind.as_str(),
        window: query.stream.window,
        analysis: query.analysis,
        next_cursor,
    }))
}

fn ndjson_line(reading: &Reading, text: &mut String) -> Result<(), Error> {
    let view = ReadingView::new(&reading.row, reading.wall_time_us);
    text.push_str(&serde_json::to_string(&view).map_err(Error::internal)?);
    text.push('\n');
    Ok(())
}

async fn page(store: &dyn Store, query: &ReadingQuery) -> Result<Page<Reading>, Error> {
    if query.ranges.is_empty() {
        return Ok(Page { items: Vec::new(), more: false });
    }
    Ok(store.readings(query).await?)
}

/// Streams rows page by page, so that a long table never stands in memory whole. The first page is read before the
/// answer begins: what is wrong with the query is still answered as a problem document. A failure behind it can only
/// cut the answer off.
async fn table<F>(
    store: Arc<dyn Store>,
    mut query: ReadingQuery,
    content_type: &'static str,
    header: String,
    line: F,
) -> Answer<Response>
where
    F: Fn(&Reading, &mut String) -> Result<(), Error> + Send + 'static,
{
    let limit = query.limit;
    query.limit = limit.min(STREAM_PAGE);
    let first = page(&*store, &query).await?;
    let start = Table { store, query, left: limit, text: header, line, page: Some(first) };
    let chunks = stream::try_unfold(start, |mut table| async move {
        let chunk = table.next().await?;
        Ok::<_, Error>(chunk.map(|chunk| (chunk, table)))
    });
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

struct Table<F> {
    store: Arc<dyn Store>,
    query: ReadingQuery,
    /// Rows that may still be given.
    left: usize,
    /// Text that goes before the next page.
    text: String,
    line: F,
    /// The page to be written; `None` when all are.
    page: Option<Page<Reading>>,
}

impl<F: Fn(&Reading, &mut String) -> Result<(), Error>> Table<F> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(rows) = self.page.take() else { return Ok(None) };
        let mut text = std::mem::take(&mut self.text);
        for reading in &rows.items {
            (self.line)(reading, &mut text)?;
        }
        self.left = self.left.saturating_sub(rows.items.len());
        if let Some(Reading { row, .. }) = rows.items.last()
            && rows.more
            && self.left > 0
        {
            let position = StepPosition { segment: row.segment, step: row.step };
            self.query.ranges = selection::rest(&self.query.ranges, position).unwrap_or_default();
            self.query.limit = self.left.min(STREAM_PAGE);
            self.page = Some(page(&*self.store, &self.query).await?);
        }
        Ok(Some(Bytes::from(text)))
    }
}
