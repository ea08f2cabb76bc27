//! Tells an Alertmanager again of what goes on firing: it forgets otherwise.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use gradwatch_rules::ReceiverDefinition;
use gradwatch_store::{AlertQuery, AlertState, RunId, Store, StoreError};
use serde_json::Value;
use uuid::Uuid;

use super::{
    alertmanager,
    dispatcher::Dispatcher,
    outcome::{Attempted, Outcome},
    request::to_alertmanager,
};
use crate::{alerts::Notice, clock};

/// How often.
pub(super) const RESEND_EVERY: Duration = Duration::from_secs(60);
/// Alerts read from the store, and sent, at once.
const PAGE: usize = 500;

/// Sends what fires now by the store. One that fails is left at that: the next comes in a minute, and an alert fires for
/// four.
pub(super) async fn resend(dispatcher: &Dispatcher, receiver: &ReceiverDefinition) -> Result<(), StoreError> {
    let mut names = RunNames { store: &*dispatcher.store, known: HashMap::new() };
    let mut query = AlertQuery { states: vec![AlertState::Firing], limit: PAGE, ..AlertQuery::default() };
    loop {
        let page = dispatcher.store.alerts(&query).await?;
        // Invariant: what a silence keeps back is not told in this way either, nor is anything else before its message is
        // made. Behind the page: what fires in between is in neither.
        let untold: HashSet<Uuid> = dispatcher.store.untold_alerts(&receiver.name).await?.into_iter().collect();
        let now_us = clock::now_us();
        let theirs = page
            .items
            .iter()
            .filter(|alert| alert.receivers.contains(&receiver.name) && !untold.contains(&alert.alert_id));
        let mut alerts = Vec::new();
        for alert in theirs {
            let Some(run_name) = names.of(alert.run_id).await? else { continue };
            let notice = Notice::new(alert, &run_name, dispatcher.public_url.as_deref());
            alerts.push(alertmanager::of_notice(&notice, now_us));
        }
        if !alerts.is_empty() {
            let attempted = match to_alertmanager(receiver, Value::from(alerts).to_string().into()) {
                Ok(request) => {
                    let patience = Duration::from_secs(receiver.timeout_s.into());
                    dispatcher.connector.post(request, patience).await
                }
                Err(problem) => Attempted::failed(Outcome::Definition, &problem),
            };
            let outcome = attempted.outcome.as_str();
            dispatcher.metrics.count_delivery("alertmanager_resend", outcome);
            if attempted.outcome != Outcome::Delivered {
                let status = attempted.status;
                tracing::warn!(receiver = receiver.name, outcome, status, "firing alerts were not sent again");
                return Ok(());
            }
        }
        query.after = page.items.last().map(|alert| alert.alert_id);
        if !page.more {
            return Ok(());
        }
    }
}

/// Names of runs, each read once.
struct RunNames<'a> {
    store: &'a dyn Store,
    known: HashMap<RunId, String>,
}

impl RunNames<'_> {
    /// `None`: the run is gone.
    async fn of(&mut self, run_id: RunId) -> Result<Option<String>, StoreError> {
        if let Some(name) = self.known.get(&run_id) {
            return Ok(Some(name.clone()));
        }
        match self.store.run(run_id).await {
            Ok(run) => Ok(Some(self.known.entry(run_id).or_insert(run.name).clone())),
            Err(StoreError::UnknownRun(_) | StoreError::RunDeleting(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
