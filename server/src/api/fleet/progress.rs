//! How far a computation is, by server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response, Sse, sse};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        refusal::Answer,
        stream::{Slot, Slots},
    },
    computation::{Computation, Status},
};
use crate::{access::Caller, error::Error, state::AppState};

/// A silent stream says something this often, so that proxies keep it and dead listeners are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Someone who listens to a computation.
struct Listener {
    computation: Arc<Computation>,
    changes: watch::Receiver<Status>,
    draining: CancellationToken,
    is_first: bool,
    ended: bool,
    _slot: Slot,
}

/// Tells the progress and then the end. Changes that come faster than they are read are told as one.
pub(super) fn stream(
    state: &AppState,
    caller: Caller,
    slots: Slots,
    computation: &Arc<Computation>,
) -> Answer<Response> {
    let listener = Listener {
        computation: Arc::clone(computation),
        changes: computation.subscribe(),
        draining: state.draining.clone(),
        is_first: true,
        ended: false,
        _slot: slots.take(&state.metrics)?,
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(event), listener))
    });
    let events = events.take_until(Box::pin(Arc::clone(&state.access).ended(caller)));
    let keep_alive = sse::KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    Ok(([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)).into_response())
}

impl Listener {
    async fn next(&mut self) -> Option<sse::Event> {
        if self.ended {
            return None;
        }
        if !std::mem::take(&mut self.is_first) {
            tokio::select! {
                biased;
                () = self.draining.cancelled() => {
                    self.ended = true;
                    return Some(sse::Event::default().event("drain").data("{}"));
                }
                // The computation, which we hold, holds the other end: an error cannot be, and would be the end.
                changed = self.changes.changed() => changed.ok()?,
            }
        }
        let status = self.changes.borrow_and_update().clone();
        self.ended = status.is_over();
        let written = match status {
            Status::Running(steps) => sse::Event::default().event("progress").json_data(steps),
            Status::Done { .. } => sse::Event::default().event("done").json_data(self.computation.view()),
            Status::Failed { .. } => sse::Event::default().event("failed").json_data(self.computation.view()),
        };
        match written {
            Ok(event) => Some(event),
            Err(error) => {
                // All of a computation has a form in JSON.
                let _ = Error::internal(error);
                None
            }
        }
    }
}
