//! What an attempt may declare, given what the run has.

use crate::{
    error::StoreError,
    lineage,
    model::{AttemptDeclaration, OpenAttempt, OpenedAttempt, ResumeFrom, Resumes, Run, Segment, StreamSpec},
};

/// What an attempt continues, given what the run has.
///
/// Invariant: an attempt that continues the newest one is told so once: the first of its shards to be opened, or of its
/// calls, finds out which that is, and all others hear the same.
pub(crate) fn resumed(segments: &[Segment], attempt: &AttemptDeclaration) -> Option<Resumes> {
    let step = match attempt.resumes? {
        ResumeFrom::Attempt(resumes) => return Some(resumes),
        ResumeFrom::Newest { step } => step,
    };
    let resumed = match segments.iter().find(|segment| segment.attempt_id == attempt.attempt_id) {
        Some(known) => known.resumes.map(|first| first.attempt_id),
        None => {
            let newest = lineage::order(segments).pop();
            segments.iter().find(|segment| Some(segment.segment) == newest).map(|newest| newest.attempt_id)
        }
    };
    resumed.map(|attempt_id| Resumes { attempt_id, step })
}

/// Checks an opening against the run as it is; answers the segment that the attempt has or gets.
pub(crate) fn judge(
    open: &OpenAttempt,
    resumes: Option<Resumes>,
    run: Option<&Run>,
    segments: &[Segment],
) -> Result<OpenedAttempt, StoreError> {
    let attempt = &open.attempt;
    match run {
        // First: whoever may not know the run must not learn more of it than that.
        Some(run) if run.project != open.run.project => {
            return Err(conflict("project", format!("the run belongs to project {:?}", run.project)));
        }
        Some(run) if run.deleting => return Err(StoreError::RunDeleting(run.run_id)),
        _ => {}
    }
    match segments.iter().find(|segment| segment.attempt_id == attempt.attempt_id) {
        Some(segment) => {
            same_declaration(segment, resumes, attempt)?;
            Ok(OpenedAttempt { segment: segment.segment, created: false })
        }
        None => {
            may_join(segments, resumes, attempt)?;
            let segment = segments.last().map_or(1, |last| last.segment + 1);
            Ok(OpenedAttempt { segment, created: true })
        }
    }
}

/// Checks that the shard is one of the attempt's.
pub(crate) fn shard_exists(open: &OpenAttempt) -> Result<(), StoreError> {
    let shard_count = open.attempt.shard_count;
    if open.shard < shard_count {
        return Ok(());
    }
    Err(conflict("shard", format!("{} is not below shard_count {shard_count}", open.shard)))
}

fn conflict(field: &'static str, message: String) -> StoreError {
    StoreError::Conflict { field, message }
}

/// A known attempt declares what it declared before.
fn same_declaration(
    segment: &Segment,
    resumes: Option<Resumes>,
    attempt: &AttemptDeclaration,
) -> Result<(), StoreError> {
    if let Some(field) = changed_field(&segment.spec, &attempt.spec) {
        let message = "differs from what this attempt declared first; a changed spec needs a new attempt";
        return Err(conflict(field, message.to_owned()));
    }
    if segment.shard_count != attempt.shard_count {
        return Err(conflict("shard_count", format!("this attempt declared {} first", segment.shard_count)));
    }
    let declared = |what: String| format!("this attempt declared {what} first");
    match (segment.resumes, resumes) {
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
    let StreamSpec { sketch_dim, sketch_seed, encoding, window_lengths, groups, kinds, update_interval, layers } =
        first;
    [
        ("spec.sketch_dim", *sketch_dim != now.sketch_dim),
        ("spec.sketch_seed", *sketch_seed != now.sketch_seed),
        ("spec.encoding", *encoding != now.encoding),
        ("spec.window_lengths", *window_lengths != now.window_lengths),
        ("spec.groups", *groups != now.groups),
        ("spec.kinds", *kinds != now.kinds),
        ("spec.update_interval", *update_interval != now.update_interval),
        ("spec.layers", *layers != now.layers),
    ]
    .into_iter()
    .find_map(|(field, changed)| changed.then_some(field))
}

/// A new attempt resumes one that the run has, or begins the run, or says that it is unrelated.
fn may_join(segments: &[Segment], resumes: Option<Resumes>, attempt: &AttemptDeclaration) -> Result<(), StoreError> {
    match resumes {
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
pub(crate) fn start(segments: &[Segment], resumes: Option<Resumes>, attempt: &AttemptDeclaration) -> i64 {
    let newest_us = segments.iter().map(|segment| segment.started_at_us).max();
    match newest_us.filter(|_| resumes.is_none()) {
        // Of equal starts the lower segment number comes first, should there be no later instant.
        Some(newest_us) => attempt.started_at_us.max(newest_us.saturating_add(1)),
        None => attempt.started_at_us,
    }
}

/// Whether a new attempt stands behind all that the run has.
pub(crate) fn is_newest(open: &OpenAttempt, segment: u32, resumes: Option<Resumes>, segments: &[Segment]) -> bool {
    let attempt = &open.attempt;
    let new = Segment {
        segment,
        attempt_id: attempt.attempt_id,
        started_at_us: start(segments, resumes, attempt),
        opened_at_us: open.now_us,
        resumes,
        shard_count: attempt.shard_count,
        spec: attempt.spec.clone(),
        environment: open.environment.clone(),
        last_step: None,
    };
    let all: Vec<Segment> = segments.iter().cloned().chain([new]).collect();
    lineage::order(&all).last() == Some(&segment)
}
