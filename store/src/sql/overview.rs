//! Everything at a glance.

use std::{collections::BTreeMap, str::FromStr};

use super::{events, rows};
use crate::{
    backend::{Access, Backend, Session, Statement},
    codec,
    error::StoreError,
    model::Run,
    query::Overview,
};

/// All parts are read from one snapshot, so that they fit each other.
pub(super) async fn overview(backend: &impl Backend, project: Option<&str>) -> Result<Overview, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    let mut overview = Overview {
        by_state: counted(
            &mut snapshot,
            project,
            "SELECT state AS word, count(*) AS runs FROM runs
             WHERE NOT deleting AND ($1 IS NULL OR project = $1) GROUP BY state",
        )
        .await?,
        by_regime: counted(
            &mut snapshot,
            project,
            "SELECT regime AS word, count(*) AS runs FROM runs
             WHERE NOT deleting AND ($1 IS NULL OR project = $1) AND state NOT IN ('finished', 'failed', 'preempted')
             GROUP BY regime",
        )
        .await?,
        transitions: Vec::new(),
        lossy: listed(
            &mut snapshot,
            project,
            "SELECT * FROM runs JOIN run_configs USING (run_id)
             WHERE NOT deleting AND ($1 IS NULL OR project = $1) AND dropped_count > 0
             ORDER BY last_seen_us DESC, run_id DESC LIMIT 20",
        )
        .await?,
        stalled: listed(
            &mut snapshot,
            project,
            "SELECT * FROM runs JOIN run_configs USING (run_id)
             WHERE NOT deleting AND ($1 IS NULL OR project = $1) AND state IN ('stalled', 'crashed')
             ORDER BY last_seen_us DESC, run_id DESC LIMIT 20",
        )
        .await?,
        incomplete: listed(
            &mut snapshot,
            project,
            "SELECT * FROM runs JOIN run_configs USING (run_id)
             WHERE NOT deleting AND ($1 IS NULL OR project = $1) AND incomplete_count > 0
             ORDER BY last_seen_us DESC, run_id DESC LIMIT 20",
        )
        .await?,
    };
    // CROSS JOIN keeps SQLite from starting with the runs: from the newest event back, by the index of transitions.
    let transitions = Statement::new(
        "SELECT events.*, runs.project FROM events CROSS JOIN runs
         WHERE runs.run_id = events.run_id AND event_type = 'edge.regime' AND NOT runs.deleting AND ($1 IS NULL OR runs.project = $1)
         ORDER BY event_id DESC LIMIT 20",
    );
    let transitions = snapshot.fetch_all(transitions.bind(project)).await?;
    overview.transitions = transitions.iter().map(events::event).collect::<Result<_, _>>()?;
    Ok(overview)
}

async fn counted<K: FromStr + Ord>(
    snapshot: &mut impl Session,
    project: Option<&str>,
    sql: &'static str,
) -> Result<BTreeMap<K, u64>, StoreError> {
    let rows = snapshot.fetch_all(Statement::new(sql).bind(project)).await?;
    rows.iter().map(|row| Ok((codec::word(row, "word")?, codec::unsigned(row, "runs")?))).collect()
}

async fn listed(snapshot: &mut impl Session, project: Option<&str>, sql: &'static str) -> Result<Vec<Run>, StoreError> {
    let found = snapshot.fetch_all(Statement::new(sql).bind(project)).await?;
    found.iter().map(rows::run).collect()
}
