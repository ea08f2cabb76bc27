//! Alerts: their rows, and lists of them.

use uuid::Uuid;

use crate::{
    backend::{Access, Backend, Columns, Session, Statement, Values},
    codec::{self, to_i64},
    error::StoreError,
    model::{Alert, AlertMoment, AlertState, RunId},
    query::{AlertCount, AlertQuery, Page},
};

/// With the project of its run.
pub(super) fn encode((alert, project): &(&Alert, &str), values: &mut impl Values) -> Result<(), StoreError> {
    values.uuid(alert.alert_id)?;
    values.uuid(alert.rule_id)?;
    values.text(alert.rule_name.as_str())?;
    values.integer(i64::from(alert.rule_revision))?;
    values.text(alert.lane.as_str())?;
    values.uuid(alert.run_id.0)?;
    values.text(*project)?;
    values.text(alert.group.as_str())?;
    values.text(alert.state.as_str())?;
    values.text(alert.severity.as_str())?;
    values.text(codec::to_json("labels", &alert.labels)?.as_str())?;
    values.text(codec::to_json("annotations", &alert.annotations)?.as_str())?;
    values.text(codec::to_json("summary", &alert.summary)?.as_str())?;
    values.text(codec::to_json("receivers", &alert.receivers)?.as_str())?;
    values.text(codec::to_json("values", &alert.values)?.as_str())?;
    put_moment(Some(&alert.pending), values)?;
    put_moment(alert.fired.as_ref(), values)?;
    put_moment(alert.resolved.as_ref().map(|(moment, _)| moment), values)?;
    values.text(alert.resolved.as_ref().map(|(_, reason)| reason.as_str()))?;
    values.bytes(alert.machine.as_slice())
}

fn put_moment(moment: Option<&AlertMoment>, values: &mut impl Values) -> Result<(), StoreError> {
    values.integer(moment.map(|moment| i64::from(moment.segment)))?;
    values.integer(moment.map(|moment| to_i64("alert.step", moment.step)).transpose()?)?;
    values.integer(moment.map(|moment| moment.at_us))
}

fn alert(row: &impl Columns) -> Result<Alert, StoreError> {
    let reason = row.text("resolved_reason")?.map(str::to_owned);
    Ok(Alert {
        alert_id: codec::uuid(row, "alert_id")?,
        rule_id: codec::uuid(row, "rule_id")?,
        rule_name: codec::string(row, "rule_name")?,
        rule_revision: codec::unsigned(row, "rule_revision")?,
        lane: codec::word(row, "lane")?,
        run_id: codec::run_id(row)?,
        project: codec::string(row, "project")?,
        group: codec::string(row, "group_name")?,
        state: codec::word(row, "state")?,
        severity: codec::string(row, "severity")?,
        labels: codec::json(row, "labels")?,
        annotations: codec::json(row, "annotations")?,
        summary: codec::json(row, "summary")?,
        receivers: codec::json(row, "receivers")?,
        values: codec::json(row, "term_values")?,
        pending: codec::present("pending_step", moment(row, ["pending_segment", "pending_step", "pending_at_us"])?)?,
        fired: moment(row, ["fired_segment", "fired_step", "fired_at_us"])?,
        resolved: moment(row, ["resolved_segment", "resolved_step", "resolved_at_us"])?.zip(reason),
        machine: codec::present("machine", row.bytes("machine")?)?.to_vec(),
    })
}

fn moment(row: &impl Columns, [segment, step, at_us]: [&str; 3]) -> Result<Option<AlertMoment>, StoreError> {
    let Some(segment) = codec::unsigned_or_null(row, segment)? else { return Ok(None) };
    Ok(Some(AlertMoment { segment, step: codec::unsigned(row, step)?, at_us: codec::signed(row, at_us)? }))
}

pub(in crate::sql) async fn open_alerts(backend: &impl Backend, run_id: RunId) -> Result<Vec<Alert>, StoreError> {
    let select = Statement::new("SELECT * FROM alerts WHERE run_id = $1 AND state <> 'resolved' ORDER BY sequence");
    backend.session(Access::Single).await?.fetch_all(select.bind(run_id)).await?.iter().map(alert).collect()
}

/// Behind a condition: what is being deleted is not shown.
const OF_A_RUN: &str = " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.run_id = alerts.run_id AND runs.deleting)";

pub(in crate::sql) async fn find(backend: &impl Backend, alert_id: Uuid) -> Result<Option<Alert>, StoreError> {
    let mut select = Statement::new("SELECT * FROM alerts WHERE alert_id = $1").bind(alert_id);
    select.push(OF_A_RUN);
    backend.session(Access::Single).await?.fetch_optional(select).await?.as_ref().map(alert).transpose()
}

pub(in crate::sql) async fn alerts(backend: &impl Backend, query: &AlertQuery) -> Result<Page<Alert>, StoreError> {
    let mut snapshot = backend.session(Access::Snapshot).await?;
    // Numbers count from 1.
    let mut select = Statement::new("SELECT * FROM alerts WHERE sequence > 0");
    if let Some(run_id) = query.run_id {
        select.push(" AND run_id = ").push_bind(run_id);
    }
    if let Some(project) = &query.project {
        select.push(" AND project = ").push_bind(project.as_str());
    }
    if let Some(rule) = &query.rule {
        select.push(" AND rule_name = ").push_bind(rule.as_str());
    }
    if let Some(severity) = &query.severity {
        select.push(" AND severity = ").push_bind(severity.as_str());
    }
    if let [first, rest @ ..] = query.states.as_slice() {
        select.push(" AND state IN (").push_bind(first.as_str());
        for state in rest {
            select.push(", ").push_bind(state.as_str());
        }
        select.push(")");
        if !query.states.contains(&AlertState::Resolved) {
            // Says the same, in the words of the index of open alerts.
            select.push(" AND state <> 'resolved'");
        }
    }
    if let Some(after) = query.after {
        let place = Statement::new("SELECT sequence FROM alerts WHERE alert_id = $1").bind(after);
        let place = snapshot.fetch_optional(place).await?.ok_or_else(|| {
            let message = format!("alert {after} is gone; begin again without it");
            StoreError::Conflict { field: "after", message }
        })?;
        select.push(" AND sequence < ").push_bind(codec::signed(&place, "sequence")?);
    }
    select.push(OF_A_RUN).push(" ORDER BY sequence DESC LIMIT ");
    select.push_bind(codec::size_i64(query.limit.saturating_add(1)));
    let found = snapshot.fetch_all(select).await?;
    let items = found.iter().take(query.limit).map(alert).collect::<Result<_, _>>()?;
    Ok(Page { items, more: found.len() > query.limit })
}

pub(in crate::sql) async fn alert_counts(
    backend: &impl Backend,
    project: Option<&str>,
) -> Result<Vec<AlertCount>, StoreError> {
    // The condition in the words of the index of open alerts.
    let mut select =
        Statement::new("SELECT rule_id, state, severity, count(*) AS alerts FROM alerts WHERE state <> 'resolved'");
    if let Some(project) = project {
        select.push(" AND project = ").push_bind(project);
    }
    select.push(OF_A_RUN).push(" GROUP BY rule_id, state, severity");
    let count = |row: &_| {
        Ok(AlertCount {
            rule_id: codec::uuid(row, "rule_id")?,
            state: codec::word(row, "state")?,
            severity: codec::string(row, "severity")?,
            alerts: codec::unsigned(row, "alerts")?,
        })
    };
    backend.session(Access::Single).await?.fetch_all(select).await?.iter().map(count).collect()
}
