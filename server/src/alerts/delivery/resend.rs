//! Tells an Alertmanager again of what goes on firing: it forgets otherwise.

use std::{collections::HashSet, time::Duration};

use gradwatch_rules::ReceiverDefinition;
use gradwatch_store::{AlertQuery, AlertState, StoreError};
use serde_json::Value;
use uuid::Uuid;

use super::{
    alertmanager,
    dispatcher::Dispatcher,
    outcome::{Attempted, Outcome},
    pages::Pages,
    request::to_alertmanager,
};
use crate::clock;

/// How often.
pub(super) const RESEND_EVERY: Duration = Duration::from_secs(60);
/// Alerts read from the store, and sent, at once.
const PAGE: usize = 500;

/// Sends what fires now by the store. One that fails is left at that: the next comes in a minute, and an alert fires for
/// four.
pub(super) async fn resend(dispatcher: &Dispatcher, receiver: &ReceiverDefinition) -> Result<(), StoreError> {
    let kept_back = kept_back(dispatcher, receiver).await?;
    let mut query = AlertQuery { states: vec![AlertState::Firing], limit: PAGE, ..AlertQuery::default() };
    loop {
        let page = dispatcher.store.alerts(&query).await?;
        let now_us = clock::now_us();
        let theirs = page
            .items
            .iter()
            .filter(|alert| alert.receivers.contains(&receiver.name) && !kept_back.contains(&alert.alert_id));
        let alerts: Vec<Value> = theirs.filter_map(|alert| alertmanager::of_alert(alert, now_us)).collect();
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
