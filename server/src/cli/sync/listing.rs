//! What waits, for people and for programs.

use std::time::SystemTime;

use gradwatch_client::{Outcome, spool::SpooledAttempt};
use serde_json::{Value, json};

use crate::cli::table::Table;

/// One line an attempt.
pub(super) fn table(attempts: &[SpooledAttempt]) -> Table<8> {
    let mut table = Table::new(["RUN", "PROJECT", "NAME", "ATTEMPT", "FRAMES", "BYTES", "SINCE", "STATE"]);
    for attempt in attempts {
        table.row([
            attempt.run_id.to_string(),
            attempt.project.clone(),
            attempt.name.clone(),
            named(attempt),
            attempt.frames.to_string(),
            attempt.bytes.to_string(),
            since(attempt).unwrap_or_default(),
            state(attempt),
        ]);
    }
    table
}

/// The same with everything else that is known.
pub(super) fn json(attempt: &SpooledAttempt) -> Value {
    json!({
        "run_id": attempt.run_id.to_string(),
        "project": attempt.project,
        "name": attempt.name,
        "attempt_id": attempt.attempt_id.to_string(),
        "shard": attempt.shard,
        "shard_count": attempt.shard_count,
        "resumes": attempt.resumes.map(|(attempt_id, step)| json!({ "attempt_id": attempt_id.to_string(), "step": step })),
        "frames": attempt.frames,
        "bytes": attempt.bytes,
        "since": since(attempt),
        "outcome": attempt.outcome.map(word),
        "server": attempt.server,
        "path": attempt.path,
        "state": match attempt {
            SpooledAttempt { unreadable: Some(_), .. } => "unreadable",
            SpooledAttempt { live: true, .. } => "live",
            SpooledAttempt { damage, .. } if !damage.is_empty() => "damaged",
            _ => "waiting",
        },
        "damage": attempt.damage,
        "reason": attempt.unreadable,
    })
}

/// An attempt, with its shard where there are several.
pub(super) fn named(attempt: &SpooledAttempt) -> String {
    match attempt.shard_count {
        1 => attempt.attempt_id.to_string(),
        count => format!("{} shard {} of {count}", attempt.attempt_id, attempt.shard),
    }
}

fn state(attempt: &SpooledAttempt) -> String {
    if let Some(reason) = &attempt.unreadable {
        return format!("unreadable: {reason}");
    }
    if attempt.live {
        return "live: a job is writing it".to_owned();
    }
    let waits = match attempt.outcome {
        Some(outcome) => format!("waits; the job {}", word(outcome)),
        None => "waits; the job was cut off".to_owned(),
    };
    match attempt.damage.first() {
        Some(damage) => format!("{waits}; damaged: {damage}"),
        None => waits,
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Failed => "failed",
        Outcome::Preempted => "preempted",
    }
}

/// When the oldest of it was written, to the second: people compare it with a clock.
fn since(attempt: &SpooledAttempt) -> Option<String> {
    let seconds = attempt.oldest_at?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?.to_string())
}
