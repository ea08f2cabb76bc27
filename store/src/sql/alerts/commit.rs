//! Settling evaluations: cursors, alerts and what is to be told of them, of many runs in one transaction.

use std::collections::{HashMap, HashSet, hash_map::Entry};

use uuid::Uuid;

use super::{alert, begin, cursors, notifications};
use crate::{
    backend::{Backend, Bulk, Session, Values},
    codec,
    error::StoreError,
    model::{Alert, AlertCommit, AlertLane, AlertState, RunId},
};

/// What has one cursor.
type Lane = (RunId, AlertLane);

fn lane(commit: &AlertCommit) -> Lane {
    (commit.run_id, commit.cursor.lane)
}

/// Invariant: a cursor moves by compare-and-set, and with it goes everything that the evaluation brought, or nothing. So
/// nothing is said twice, nothing is forgotten, and nothing is kept of a run that is being deleted: the runs are held from
/// deletion, which comes either before, and is seen, or behind, and takes these rows with it.
pub(in crate::sql) async fn commit_alerts(
    backend: &impl Backend,
    commits: &[AlertCommit],
) -> Result<Vec<bool>, StoreError> {
    check(commits)?;
    if commits.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = begin(backend).await?;
    let runs: HashSet<RunId> = commits.iter().map(|commit| commit.run_id).collect();
    let runs: Vec<RunId> = runs.into_iter().collect();
    let held = tx.bulk(Bulk::HoldRuns, &runs, |run_id, values| values.uuid(run_id.0)).await?;
    let projects = held
        .iter()
        .map(|row| Ok((codec::run_id(row)?, codec::string(row, "project")?)))
        .collect::<Result<HashMap<_, _>, StoreError>>()?;
    let there: Vec<&AlertCommit> = commits.iter().filter(|commit| projects.contains_key(&commit.run_id)).collect();
    let moved = move_cursors(&mut tx, &there).await?;
    let landed: Vec<&AlertCommit> = there.into_iter().filter(|commit| moved.contains(&lane(commit))).collect();
    put_alerts(&mut tx, &landed, &projects).await?;
    let new: Vec<_> = landed.iter().flat_map(|commit| &commit.notifications).collect();
    tx.bulk(Bulk::InsertNotifications, &new, notifications::encode).await?;
    tx.commit().await?;
    Ok(commits.iter().map(|commit| moved.contains(&lane(commit))).collect())
}

/// A lane that came twice would have one of its evaluations lost.
fn check(commits: &[AlertCommit]) -> Result<(), StoreError> {
    let mut seen = HashSet::with_capacity(commits.len());
    for commit in commits {
        let (run_id, of) = lane(commit);
        if !seen.insert((run_id, of)) {
            return Err(StoreError::Data(format!("commits: lane {of} of run {run_id} comes twice")));
        }
        let number = commit.cursor.number;
        if commit.after_number.checked_add(1) != Some(number) {
            let message = format!("cursor.number: {number} behind {} of run {run_id}", commit.after_number);
            return Err(StoreError::Data(message));
        }
        if let Some(alert) = commit.alerts.iter().find(|alert| (alert.run_id, alert.lane) != (run_id, of)) {
            let message = format!("alerts: {} is of another run or lane than its commit", alert.alert_id);
            return Err(StoreError::Data(message));
        }
    }
    Ok(())
}

/// Answers the lanes whose cursors stood where they must.
async fn move_cursors(tx: &mut impl Session, commits: &[&AlertCommit]) -> Result<HashSet<Lane>, StoreError> {
    let (first, later): (Vec<_>, Vec<_>) = commits.iter().copied().partition(|commit| commit.after_number == 0);
    let mut moved = tx.bulk(Bulk::InsertAlertCursors, &first, cursors::encode).await?;
    moved.extend(tx.bulk(Bulk::MoveAlertCursors, &later, cursors::encode).await?);
    moved.iter().map(|row| Ok((codec::run_id(row)?, codec::word(row, "lane")?))).collect()
}

/// Invariant: there is never more than one open alert of a rule, run and group. So those that end come before those that
/// begin.
async fn put_alerts<'a>(
    tx: &mut impl Session,
    landed: &[&'a AlertCommit],
    projects: &'a HashMap<RunId, String>,
) -> Result<(), StoreError> {
    let forgotten: Vec<Uuid> = landed.iter().flat_map(|commit| commit.forgotten.iter().copied()).collect();
    tx.bulk(Bulk::ForgetAlerts, &forgotten, |alert_id, values| values.uuid(*alert_id)).await?;
    // Of one that comes twice the later is meant.
    let mut places = HashMap::new();
    let mut ordered: Vec<&'a Alert> = Vec::new();
    for alert in landed.iter().flat_map(|commit| &commit.alerts) {
        match places.entry(alert.alert_id) {
            Entry::Occupied(place) => ordered[*place.get()] = alert,
            Entry::Vacant(place) => {
                place.insert(ordered.len());
                ordered.push(alert);
            }
        }
    }
    let with_project = |alert: &'a Alert| projects.get(&alert.run_id).map(|project| (alert, project.as_str()));
    let (ended, open): (Vec<_>, Vec<_>) =
        ordered.into_iter().filter_map(with_project).partition(|(alert, _)| alert.state == AlertState::Resolved);
    tx.bulk(Bulk::PutAlerts, &ended, alert::encode).await?;
    tx.bulk(Bulk::PutAlerts, &open, alert::encode).await?;
    Ok(())
}
