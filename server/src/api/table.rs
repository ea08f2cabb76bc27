//! Rows by segment and step, read page by page and streamed as a table.

use std::{future::Future, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use gradwatch_store::{
    LayerReadingAt, LayerReadingQuery, Page, Reading, ReadingQuery, Store, StoreError, lineage::SegmentRange,
};

use super::{cursor::StepPosition, refusal::Answer, selection};
use crate::error::Error;

/// Rows held in memory at once while a table is streamed.
const STREAM_PAGE: usize = 500;

/// A question that is answered by rows, in the order of its ranges and by step.
pub(crate) trait RowQuery: Send + Sync + 'static {
    /// What it asks for.
    type Row: Send + Sync + 'static;

    fn ranges(&mut self) -> &mut Vec<SegmentRange>;
    fn limit(&mut self) -> &mut usize;
    fn position(row: &Self::Row) -> StepPosition;
    fn read(&self, store: &dyn Store) -> impl Future<Output = Result<Page<Self::Row>, StoreError>> + Send;
}

macro_rules! row_query {
    ($query:ident, $row:ident, $read:ident) => {
        impl RowQuery for $query {
            type Row = $row;

            fn ranges(&mut self) -> &mut Vec<SegmentRange> {
                &mut self.ranges
            }

            fn limit(&mut self) -> &mut usize {
                &mut self.limit
            }

            fn position($row { row, .. }: &$row) -> StepPosition {
                StepPosition { segment: row.segment, step: row.step }
            }

            async fn read(&self, store: &dyn Store) -> Result<Page<$row>, StoreError> {
                if self.ranges.is_empty() {
                    return Ok(Page { items: Vec::new(), more: false });
                }
                store.$read(self).await
            }
        }
    };
}

row_query!(ReadingQuery, Reading, readings);
row_query!(LayerReadingQuery, LayerReadingAt, layer_readings);

/// Streams rows page by page, so that a long table never stands in memory whole. The first page is read before the
/// answer begins: what is wrong with the query is still answered as a problem document. A failure behind it can only
/// cut the answer off.
pub(crate) async fn answer<Q, F>(
    store: Arc<dyn Store>,
    mut query: Q,
    content_type: &'static str,
    header: String,
    line: F,
) -> Answer<Response>
where
    Q: RowQuery,
    F: Fn(&Q::Row, &mut String) -> Result<(), Error> + Send + 'static,
{
    let limit = *query.limit();
    *query.limit() = limit.min(STREAM_PAGE);
    let first = query.read(&*store).await?;
    let start = Table { store, query, left: limit, text: header, line, page: Some(first) };
    let chunks = stream::try_unfold(start, |mut table| async move {
        let chunk = table.next().await?;
        Ok::<_, Error>(chunk.map(|chunk| (chunk, table)))
    });
    let mut response = Body::from_stream(chunks).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

struct Table<Q: RowQuery, F> {
    store: Arc<dyn Store>,
    query: Q,
    /// Rows that may still be given.
    left: usize,
    /// Text that goes before the next page.
    text: String,
    line: F,
    /// The page to be written; `None` when all are.
    page: Option<Page<Q::Row>>,
}

impl<Q: RowQuery, F: Fn(&Q::Row, &mut String) -> Result<(), Error>> Table<Q, F> {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(rows) = self.page.take() else { return Ok(None) };
        let mut text = std::mem::take(&mut self.text);
        for row in &rows.items {
            (self.line)(row, &mut text)?;
        }
        self.left = self.left.saturating_sub(rows.items.len());
        if let Some(last) = rows.items.last()
            && rows.more
            && self.left > 0
        {
            let rest = selection::rest(self.query.ranges(), Q::position(last)).unwrap_or_default();
            *self.query.ranges() = rest;
            *self.query.limit() = self.left.min(STREAM_PAGE);
            self.page = Some(self.query.read(&*self.store).await?);
        }
        Ok(Some(Bytes::from(text)))
    }
}
