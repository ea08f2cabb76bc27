//! Opening attempts.

use gradwatch_spectral::detectors::Regime;
use sqlx::{Row, SqliteConnection};

use super::{SqliteStore, codec, runs};
use crate::{
    error::StoreError,
    model::{AttemptDeclaration, OpenAttempt, OpenedAttempt, Run, RunState, Segment, StreamSpec},
};

/// Invariant: for one `writer_id` opening is idempotent. What an attempt declared at first stands: its spec, its shard
/// count, what it resumes, and who writes each of its shards.
pub(super) async fn open_attempt(store: &SqliteStore, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError> {
    let attempt = &open.attempt;
    if open.shard >= attempt.shard_count {
        return Err(conflict("shard", format!("{} is not below shard_count {}", open.shard, attempt.shard_count)));
    }
    let mut tx = store.begin().await?;
    let run = runs::read_run(&mut tx, open.run.run_id).await?;
    match &run {
        // First: whoever may not know the run must not learn more of it than that.
        Some(run) if run.project != open.run.project => {
            return Err(conflict("project", format!("the run belongs to project {:?}", run.project)));
        }
        Some(run) if run.deleting => return Err(StoreError::RunDeleting(run.run_id)),
        _ => {}
    }
    let segments = runs::read_segments(&mut tx, open.run.run_id).await?;
    let known = segments.iter().find(|segment| segment.attempt_id == attempt.attempt_id);
    let opened = match known {
        Some(segment) => {
            same_declaration(segment, attempt)?;
            OpenedAttempt { segment: segment.segment, created: false }
        }
        None => {
            may_join(&segments, attempt)?;
            let segment = segments.last().map_or(1, |last| last.segment + 1);
            OpenedAttempt { segment, created: true }
        }
    };
    // Whoever only reconnects has declared all this before; what was changed since then must not be set back.
    let new_shard = match writer(&mut tx, open, opened.segment).await? {
        Some(writer_id) if writer_id != open.writer_id => {
            return Err(StoreError::SecondWriter { attempt: attempt.attempt_id.to_string(), shard: open.shard });
        }
        Some(_) => false,
        None => true,
    };
    match &run {
        None => insert_run(&mut tx, open).await?,
        Some(run) => update_run(&mut tx, run, open, opened.created, new_shard).await?,
    }
    if opened.created {
        insert_segment(&mut tx, open, opened.segment, start(&segments, attempt)).await?;
    }
    if new_shard {
        insert_mark(&mut tx, open, opened.segment).await?;
    }
    tx.commit().await?;
    Ok(opened)
}

fn conflict(field: &'static str, message: String) -> StoreError {
    StoreError::Conflict { field, message }
}

/// A known attempt declares what it declared before.
fn same_declaration(segment: &Segment, attempt: &AttemptDeclaration) -> Result<(), StoreError> {
    if let Some(field) = changed_field(&segment.spec, &attempt.spec) {
        let message = "differs from what this attempt declared first; a changed spec needs a new attempt";
        return Err(conflict(field, message.to_owned()));
    }
    if segment.shard_count != attempt.shard_count {
        return Err(conflict("shard_count", format!("this attempt declared {} first", segment.shard_count)));
    }
    let declared = |what: String| format!("this attempt declared {what} first");
    match (segment.resumes, attempt.resumes) {
        (Some(first), Some(now)) if first.attempt_id != now.attempt_id => {
            Err(conflict("attempt.resumes.attempt_id", declared(first.attempt_id.to_string())))
        }
        (Some(first), Some(now)) if first.step != now.step => {
            Err(conflict("attempt.resumes.step", declared(first.step.to_string())))
        }
        (Some(first), None) => Err(conflict("attempt.resumes", declared(format!("attempt {}", first.attempt_id)))),
        (None, Some(_)) => Err(conflict("attempt.resumes", declared("nothing to resume".to_owned()))),
        _ => Ok(()),
    }
}

/// The first field in which two specs differ.
fn changed_field(first: &StreamSpec, now: &StreamSpec) -> Option<&'static str> {
    // Taken apart so that a new field cannot be forgotten here.
    let StreamSpec { sketch_dim, sketch_seed, encoding, window_lengths, groups, kinds, update_interval } = first;
    [
        ("spec.sketch_dim", *sketch_dim != now.sketch_dim),
        ("spec.sketch_seed", *sketch_seed != now.sketch_seed),
        ("spec.encoding", *encoding != now.encoding),
        ("spec.window_lengths", *window_lengths != now.window_lengths),
        ("spec.groups", *groups != now.groups),
        ("spec.kinds", *kinds != now.kinds),
        ("spec.update_interval", *update_interval != now.update_interval),
    ]
    .into_iter()
    .find_map(|(field, changed)| changed.then_some(field))
}

/// A new attempt resumes one that the run has, or begins the run, or says that it is unrelated.
fn may_join(segments: &[Segment], attempt: &AttemptDeclaration) -> Result<(), StoreError> {
    match attempt.resumes {
        Some(resumes) if segments.iter().all(|segment| segment.attempt_id != resumes.attempt_id) => {
            Err(conflict("attempt.resumes.attempt_id", format!("the run has no attempt {}", resumes.attempt_id)))
        }
        None if !segments.is_empty() && !attempt.unrelated => Err(conflict(
            "attempt.resumes",
            "the run already has attempts: resume one of them, choose another run_id, or say that this launch is \
             unrelated"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// When a new attempt started, as attempts are ordered by it.
///
/// Invariant: one that resumes nothing stands behind all that the run has. It replaces them, and only its start says so:
/// on a host whose clock is behind it would sort before them and never become live. What is resumed orders the others,
/// whatever the clocks say.
fn start(segments: &[Segment], attempt: &AttemptDeclaration) -> i64 {
    let newest_us = segments.iter().map(|segment| segment.started_at_us).max();
    match newest_us.filter(|_| attempt.resumes.is_none()) {
        // Of equal starts the lower segment number comes first, should there be no later instant.
        Some(newest_us) => attempt.started_at_us.max(newest_us.saturating_add(1)),
        None => attempt.started_at_us,
    }
}

/// The process that owns the shard, if anyone does.
async fn writer(
    connection: &mut SqliteConnection,
    open: &OpenAttempt,
    segment: u32,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT writer_id FROM shard_marks WHERE run_id = ? AND segment = ? AND shard = ?")
        .bind(open.run.run_id.0.as_bytes().as_slice())
        .bind(segment)
        .bind(open.shard)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| row.try_get("writer_id")).transpose()?)
}

async fn insert_run(connection: &mut SqliteConnection, open: &OpenAttempt) -> Result<(), StoreError> {
    let run_id = open.run.run_id.0.as_bytes().as_slice();
    sqlx::query(
        "INSERT INTO runs (run_id, project, name, state, regime, created_at_us, last_seen_us, labels)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(run_id)
    .bind(&open.run.project)
    .bind(&open.run.name)
    .bind(RunState::Running.as_str())
    .bind(Regime::Warming.as_str())
    .bind(open.now_us)
    .bind(open.now_us)
    .bind(codec::to_json("labels", &open.run.labels)?)
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO run_configs (run_id, config) VALUES (?, ?)")
        .bind(run_id)
        .bind(codec::to_json("config", &open.run.config)?)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// The run is heard of. A new shard adds its labels; a new attempt gives name and config anew, and the run runs again.
async fn update_run(
    connection: &mut SqliteConnection,
    run: &Run,
    open: &OpenAttempt,
    new_attempt: bool,
    new_shard: bool,
) -> Result<(), StoreError> {
    let run_id = open.run.run_id.0.as_bytes().as_slice();
    let mut labels = run.labels.clone();
    if new_shard {
        labels.extend(open.run.labels.clone());
    }
    let (name, state, last_step) =
        if new_attempt { (&open.run.name, RunState::Running, None) } else { (&run.name, run.state, run.last_step) };
    sqlx::query(
        "UPDATE runs SET name = ?, state = ?, last_step = ?, last_seen_us = max(last_seen_us, ?), labels = ?
         WHERE run_id = ?",
    )
    .bind(name)
    .bind(state.as_str())
    .bind(last_step.map(|step| codec::to_i64("last_step", step)).transpose()?)
    .bind(open.now_us)
    .bind(codec::to_json("labels", &labels)?)
    .bind(run_id)
    .execute(&mut *connection)
    .await?;
    if new_attempt {
        sqlx::query("UPDATE run_configs SET config = ? WHERE run_id = ?")
            .bind(codec::to_json("config", &open.run.config)?)
            .bind(run_id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn insert_segment(
    connection: &mut SqliteConnection,
    open: &OpenAttempt,
    segment: u32,
    started_at_us: i64,
) -> Result<(), StoreError> {
    let attempt = &open.attempt;
    sqlx::query(
        "INSERT INTO segments (run_id, segment, attempt_id, started_at_us, opened_at_us, resumes_attempt_id,
                               resumes_step, shard_count, environment, spec)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(open.run.run_id.0.as_bytes().as_slice())
    .bind(segment)
    .bind(attempt.attempt_id.0.as_bytes().as_slice())
    .bind(started_at_us)
    .bind(open.now_us)
    .bind(attempt.resumes.as_ref().map(|resumes| resumes.attempt_id.0.as_bytes().as_slice()))
    .bind(attempt.resumes.map(|resumes| codec::to_i64("attempt.resumes.step", resumes.step)).transpose()?)
    .bind(attempt.shard_count)
    .bind(&open.environment)
    .bind(codec::to_json("spec", &attempt.spec)?)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_mark(connection: &mut SqliteConnection, open: &OpenAttempt, segment: u32) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO shard_marks (run_id, segment, shard, writer_id) VALUES (?, ?, ?, ?)")
        .bind(open.run.run_id.0.as_bytes().as_slice())
        .bind(segment)
        .bind(open.shard)
        .bind(&open.writer_id)
        .execute(connection)
        .await?;
    Ok(())
}
