//! How a re-analysis gets on, by server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response, Sse, sse},
};
use futures_util::{Stream, StreamExt, stream};
use gradwatch_store::{AnalysisState, RunId, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AnalysisView, NamePath, known};
use crate::{
    access::Caller,
    api::{
        openapi::Problems,
        params::{Query, RunPath},
        refusal::Answer,
        stream::{Slot, Slots},
    },
    state::AppState,
};

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows a re-analysis: a `progress` message with the analysis as it stands now and whenever it got on, until one says
/// that it is done or has failed. A `deleted` message says that it is gone, a `drain` message that the server shuts down.
#[utoipa::path(get, operation_id = "followAnalysis", path = "/api/v1/runs/{run_id}/analyses/{name}/progress",
    tag = "analyses",
    params(("run_id" = String, Path, description = "UUID"), ("name" = String, Path, description = "As it was given")),
    responses((status = 200, body = String, content_type = "text/event-stream"), Problems))]
pub(crate) async fn follow(
    State(state): State<AppState>,
    caller: Caller,
    RunPath(run_id): RunPath,
    NamePath(name): NamePath,
    Extension(slots): Extension<Slots>,
    Query(()): Query<()>,
) -> Answer<Response> {
    // What changes from here on is seen.
    let changes = state.reanalysis.changes();
    known(&*state.store, run_id, &name).await?;
    let slot = slots.take(&state.metrics)?;
    let ended = Box::pin(state.access.ended(caller));
    let follower = Follower {
        store: state.store,
        draining: state.draining,
        run_id,
        name,
        changes,
        told: None,
        ended: false,
        _slot: slot,
    };
    let keep_alive = sse::KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(follower.into_stream().take_until(ended)).keep_alive(keep_alive).into_response())
}

struct Follower {
    store: Arc<dyn Store>,
    draining: CancellationToken,
    run_id: RunId,
    name: String,
    changes: watch::Receiver<u64>,
    told: Option<AnalysisView>,
    ended: bool,
    _slot: Slot,
}

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> + Send {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if self.ended {
                return None;
            }
            if self.draining.is_cancelled() {
                self.ended = true;
                return Some(sse::Event::default().event("drain").data("{}"));
            }
            self.changes.mark_unchanged();
            match self.store.analysis(self.run_id, &self.name).await {
                Ok(Some(analysis)) => {
                    let view = AnalysisView::from(&analysis);
                    self.ended = analysis.state != AnalysisState::Running;
                    if self.told.as_ref() != Some(&view) {
                        // Texts and numbers always have a JSON form.
                        let data = serde_json::to_string(&view).unwrap_or_default();
                        self.told = Some(view);
                        return Some(sse::Event::default().event("progress").data(data));
                    }
                }
                Ok(None) => {
                    self.ended = true;
                    return Some(sse::Event::default().event("deleted").data("{}"));
                }
                // Whoever follows looks again, and is told then.
                Err(error) => {
                    tracing::warn!(%error, "progress of a re-analysis cannot be read");
                    return None;
                }
            }
            tokio::select! {
                () = self.draining.cancelled() => {}
                woken = self.changes.changed() => self.ended |= woken.is_err(),
            }
        }
    }
}
