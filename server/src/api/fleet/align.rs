//! Where the clock of a run is at zero.

use gradwatch_store::{EventQuery, LIVE_ANALYSIS, SeriesMetric, SeriesQuery, Store};

use super::{
    super::series,
    condition::Condition,
    members::{LeftOutRun, Member},
    request::Align,
};
use crate::error::Error;

/// Events read at once.
const PAGE: usize = 500;

/// The step of a run that stands at zero, or why there is none.
pub(super) async fn zero(store: &dyn Store, align: &Align, member: &Member) -> Result<Result<u64, LeftOutRun>, Error> {
    let (found, reason, detail) = match align {
        Align::Step => return Ok(Ok(0)),
        Align::Event(event_type) => {
            let detail = format!("no {event_type} on the live line");
            (first_event(store, event_type, member).await?, "no_event", detail)
        }
        Align::Condition(condition) => {
            let detail = format!("{condition} never held on the live line");
            (first_met(store, condition, member).await?, "condition_never_met", detail)
        }
    };
    Ok(found.ok_or_else(|| member.left_out(reason, detail)))
}

/// The lowest step with such an event. Events are kept in the order of recording, which need not be that of steps.
async fn first_event(store: &dyn Store, event_type: &str, member: &Member) -> Result<Option<u64>, Error> {
    let mut query = EventQuery {
        run_id: Some(member.run_id),
        project: None,
        types: vec![event_type.to_owned()],
        group: None,
        ranges: Some(member.live.clone()),
        after: None,
        newest_first: false,
        limit: PAGE,
    };
    let mut first = None;
    loop {
        let page = store.events(&query).await?;
        let steps = page.items.iter().filter_map(|event| event.row.step);
        first = first.into_iter().chain(steps).min();
        query.after = page.items.last().map(|event| event.event_id);
        if !page.more {
            return Ok(first);
        }
    }
}

/// The first step at which a condition holds.
async fn first_met(store: &dyn Store, condition: &Condition, member: &Member) -> Result<Option<u64>, Error> {
    // The live line is in the order of steps, and so are its parts.
    for ranges in series::parts(&member.live) {
        let query = SeriesQuery {
            run_id: member.run_id,
            analysis: LIVE_ANALYSIS.to_owned(),
            metric: SeriesMetric::Scalar(condition.scalar.clone()),
            stream: None,
            ranges,
        };
        if let Some(point) = store.series(&query).await?.iter().find(|point| condition.is_met(point.value)) {
            return Ok(Some(point.step));
        }
    }
    Ok(None)
}
