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
    pages::Pages,
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
    let kept_back = kept_back(dispatcher, receiver).await?;
    let mut names = RunNames { store: &*dispatcher.store, known: HashMap::new() };
    let mut query = AlertQuery { states: vec![AlertState::Firing], limit: PAGE, ..AlertQuery::default() };
    loop {
        let page = dispatcher.store.alerts(&query).await?;
        let now_us = clock::now_us();
        let theirs = page
            .items
            .iter()
            .filter(|alert| alert.receivers.contains(&receiver.name) && !kept_back.contains(&alert.alert_id));
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

/// Alerts that a silence has kept from the receiver so far.
async fn kept_back(dispatcher: &Dispatcher, receiver: &ReceiverDefinition) -> Result<HashSet<Uuid>, StoreError> {
    let (mut pages, mut kept_back) = (Pages::new(&*dispatcher.store), HashSet::new());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(kept_back);
        }
        let silenced = page.iter().filter(|it| it.silenced && it.new.receiver == receiver.name);
        kept_back.extend(silenced.map(|it| it.new.alert_id));
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
