//! Deletion of what is over.

use super::begin;
use crate::{
    backend::{Backend, Session, Statement},
    codec,
    error::StoreError,
};

/// Each deletes at most `$2` rows that ended before `$1`, children before parents. Alerts of a run that is being deleted
/// go with it.
const DELETIONS: [&str; 4] = [
    "DELETE FROM alerts WHERE sequence IN
     (SELECT sequence FROM alerts WHERE state = 'resolved' AND resolved_at_us < $1
        AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = alerts.run_id AND runs.deleting) LIMIT $2)",
    "DELETE FROM alert_deliveries WHERE delivery_id IN
     (SELECT delivery_id FROM alert_deliveries JOIN alert_messages USING (message_id)
      WHERE state <> 'waiting' AND ended_at_us < $1 LIMIT $2)",
    "DELETE FROM alert_messages WHERE sequence IN
     (SELECT sequence FROM alert_messages WHERE state <> 'waiting' AND ended_at_us < $1 LIMIT $2) AND state <> 'waiting'",
    "DELETE FROM alert_silences WHERE silence_id IN
     (SELECT silence_id FROM alert_silences WHERE ends_at_us < $1 LIMIT $2)",
];

pub(in crate::sql) async fn purge_alerts(
    backend: &impl Backend,
    before_us: i64,
    max_rows: usize,
) -> Result<bool, StoreError> {
    let mut tx = begin(backend).await?;
    let mut left = max_rows.max(1) as u64;
    for deletion in DELETIONS {
        let deletion = Statement::new(deletion).bind(before_us).bind(codec::bound_i64(left));
        left = left.saturating_sub(tx.execute(deletion).await?);
        if left == 0 {
            break;
        }
    }
    tx.commit().await?;
    Ok(left > 0)
}
