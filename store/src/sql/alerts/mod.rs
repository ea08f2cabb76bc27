//! Rules, their alerts, and what is told of them.
//!
//! Texts that people or other servers write (summaries, comments, what a receiver said) are kept as JSON strings: what no
//! text of PostgreSQL can hold must not keep an alert from being recorded, or a message from being ended.

pub(super) mod alert;
pub(super) mod commit;
pub(super) mod cursors;
pub(super) mod messages;
pub(super) mod notifications;
pub(super) mod purge;
pub(super) mod receivers;
pub(super) mod rules;
pub(super) mod silences;
pub(super) mod values;

use crate::{
    backend::{Access, Backend, Session, Statement},
    error::StoreError,
};

/// The name of the lock of transactions that change many rows. Names of runs are their ids.
const LOCK_NAME: &str = "alerts";

/// Begins a transaction that changes many rows. Invariant: they come one behind the other, so that no two wait for each
/// other in a circle, and notifications are numbered in the order in which they can be read.
async fn begin<B: Backend>(backend: &B) -> Result<B::Session, StoreError> {
    let mut tx = backend.session(Access::Alerts).await?;
    if let Some(lock_name) = B::DIALECT.lock_name {
        tx.fetch_all(Statement::new(lock_name).bind(LOCK_NAME)).await?;
    }
    Ok(tx)
}
