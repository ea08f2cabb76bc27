//! Opening attempts.

use gradwatch_spectral::detectors::Regime;

use super::runs;
use crate::{
    backend::{Access, Backend, Session, Statement},
    codec, declaration,
    error::StoreError,
    model::{OpenAttempt, OpenedAttempt, Resumes, Run, RunState},
};

/// Invariant: for one `writer_id` opening is idempotent. What an attempt declared at first stands: its spec, its shard
/// count, what it resumes, and who writes each of its shards.
pub(super) async fn open_attempt<B: Backend>(backend: &B, open: &OpenAttempt) -> Result<OpenedAttempt, StoreError> {
    declaration::shard_exists(open)?;
    let mut tx = backend.session(Access::Write).await?;
    // Also a run that does not exist yet is opened by one transaction at a time.
    if let Some(lock_name) = B::DIALECT.lock_name {
        tx.fetch_all(Statement::new(lock_name).bind(open.run.run_id.to_string())).await?;
    }
    let run = runs::locked_run::<B>(&mut tx, open.run.run_id).await?;
    let segments = runs::read_segments(&mut tx, open.run.run_id).await?;
    let resumes = declaration::resumed(&segments, &open.attempt);
    let opened = declaration::judge(open, resumes, run.as_ref(), &segments)?;
    // Whoever only reconnects has declared all this before; what was changed since then must not be set back.
    let new_shard = match writer(&mut tx, open, opened.segment).await? {
        Some(writer_id) if writer_id != open.writer_id => {
            let attempt = open.attempt.attempt_id.to_string();
            return Err(StoreError::SecondWriter { attempt, shard: open.shard });
        }
        Some(_) => false,
        None => true,
    };
    match &run {
        None => insert_run(&mut tx, open).await?,
        Some(run) => {
            let late = opened.created && !declaration::is_newest(open, opened.segment, resumes, &segments);
            let news = News { attempt: opened.created && !late, shard: new_shard && !late };
            update_run(&mut tx, run, open, news).await?;
        }
    }
    if opened.created {
        let started_at_us = declaration::start(&segments, resumes, &open.attempt);
        insert_segment(&mut tx, open, opened.segment, resumes, started_at_us).await?;
    }
    if new_shard {
        insert_mark(&mut tx, open, opened.segment).await?;
    }
    tx.commit().await?;
    Ok(opened)
}

/// The process that owns the shard, if anyone does.
async fn writer(tx: &mut impl Session, open: &OpenAttempt, segment: u32) -> Result<Option<String>, StoreError> {
    let select = Statement::new("SELECT writer_id FROM shard_marks WHERE run_id = $1 AND segment = $2 AND shard = $3")
        .bind(open.run.run_id)
        .bind(segment)
        .bind(open.shard);
    tx.fetch_optional(select).await?.map(|row| codec::string(&row, "writer_id")).transpose()
}

async fn insert_run(tx: &mut impl Session, open: &OpenAttempt) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO runs (run_id, project, name, state, regime, created_at_us, last_seen_us, labels)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    );
    let insert = insert
        .bind(open.run.run_id)
        .bind(open.run.project.as_str())
        .bind(open.run.name.as_str())
        .bind(RunState::Running.as_str())
        .bind(Regime::Warming.as_str())
        .bind(open.now_us)
        .bind(open.now_us)
        .bind(codec::to_json("labels", &open.run.labels)?);
    tx.execute(insert).await?;
    let insert = Statement::new("INSERT INTO run_configs (run_id, config) VALUES ($1, $2)")
        .bind(open.run.run_id)
        .bind(codec::to_json("config", &open.run.config)?);
    tx.execute(insert).await?;
    Ok(())
}

/// What an opening brings.
struct News {
    /// An attempt that stands behind all others.
    attempt: bool,
    /// A shard, of an attempt that is known or stands behind all others.
    shard: bool,
}

/// The run is heard of. A new shard adds its labels; a new attempt gives name and config anew, and the run runs again. One
/// that comes to be known only when a later one is there already, because it lay in a spool, changes nothing of that.
async fn update_run(tx: &mut impl Session, run: &Run, open: &OpenAttempt, news: News) -> Result<(), StoreError> {
    let mut labels = run.labels.clone();
    if news.shard {
        labels.extend(open.run.labels.clone());
    }
    let (name, state, last_step) =
        if news.attempt { (&open.run.name, RunState::Running, None) } else { (&run.name, run.state, run.last_step) };
    let update = Statement::new(
        "UPDATE runs SET name = $1, state = $2, last_step = $3, last_seen_us = $4, labels = $5 WHERE run_id = $6",
    );
    let update = update
        .bind(name.as_str())
        .bind(state.as_str())
        .bind(last_step.map(|step| codec::to_i64("last_step", step)).transpose()?)
        .bind(run.last_seen_us.max(open.now_us))
        .bind(codec::to_json("labels", &labels)?)
        .bind(run.run_id);
    tx.execute(update).await?;
    if news.attempt {
        let update = Statement::new("UPDATE run_configs SET config = $1 WHERE run_id = $2")
            .bind(codec::to_json("config", &open.run.config)?)
            .bind(run.run_id);
        tx.execute(update).await?;
    }
    Ok(())
}

async fn insert_segment(
    tx: &mut impl Session,
    open: &OpenAttempt,
    segment: u32,
    resumes: Option<Resumes>,
    started_at_us: i64,
) -> Result<(), StoreError> {
    let attempt = &open.attempt;
    let insert = Statement::new(
        "INSERT INTO segments (run_id, segment, attempt_id, started_at_us, opened_at_us, resumes_attempt_id,
                               resumes_step, shard_count, environment, spec)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    let insert = insert
        .bind(open.run.run_id)
        .bind(segment)
        .bind(attempt.attempt_id.0)
        .bind(started_at_us)
        .bind(open.now_us)
        .bind(resumes.map(|resumes| resumes.attempt_id.0))
        .bind(resumes.map(|resumes| codec::to_i64("attempt.resumes.step", resumes.step)).transpose()?)
        .bind(attempt.shard_count)
        .bind(open.environment.as_str())
        .bind(codec::to_json("spec", &attempt.spec)?);
    tx.execute(insert).await?;
    Ok(())
}

async fn insert_mark(tx: &mut impl Session, open: &OpenAttempt, segment: u32) -> Result<(), StoreError> {
    let insert = Statement::new("INSERT INTO shard_marks (run_id, segment, shard, writer_id) VALUES ($1, $2, $3, $4)")
        .bind(open.run.run_id)
        .bind(segment)
        .bind(open.shard)
        .bind(open.writer_id.as_str());
    tx.execute(insert).await?;
    Ok(())
}
