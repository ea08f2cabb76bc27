//! What a server has of a run that an import goes on with.

use gradwatch_client::Uuid;
use serde::Deserialize;

use super::error::ImportError;
use super::rest::Rest;
use super::series::RecordedRow;

/// The newest attempt of a run, as far as it is recorded.
#[derive(Debug)]
pub(super) struct Existing {
    pub(super) attempt_id: Uuid,
    pub(super) rows: Vec<RecordedRow>,
}

#[derive(Deserialize)]
struct Segments {
    items: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    segment: u32,
    attempt_id: Uuid,
    resumes: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Step {
    step: u64,
    seqs: Vec<Option<String>>,
}

/// None when the server has no such run.
///
/// # Errors
/// [`ImportError::Usage`] when the run is none that an import made: only its own frames can be made again.
pub(super) async fn find(rest: &Rest, run_id: Uuid) -> Result<Option<Existing>, ImportError> {
    let segments: Option<Segments> = rest.find(&format!("/api/v1/runs/{run_id}/segments")).await?;
    let Some(segments) = segments else { return Ok(None) };
    let newest = match segments.items.as_slice() {
        [] => return Ok(None),
        [one] if one.resumes.is_none() => one,
        _ => {
            let problem = "it has more than one attempt, so it is a training job's and no import's";
            return Err(ImportError::Usage(format!("--run-id {run_id}: {problem}")));
        }
    };
    let path = format!("/api/v1/runs/{run_id}/steps?segment={}", newest.segment);
    let rows = rest.all::<Step>(&path).await?.into_iter().map(|step| recorded_row(&path, &step));
    Ok(Some(Existing { attempt_id: newest.attempt_id, rows: rows.collect::<Result<_, _>>()? }))
}

fn recorded_row(path: &str, step: &Step) -> Result<RecordedRow, ImportError> {
    let seq = step.seqs.first().and_then(|seq| seq.as_ref()?.parse().ok());
    let seq = seq.ok_or_else(|| ImportError::Rest(format!("GET {path}: step {} has no sequence number", step.step)))?;
    Ok(RecordedRow { step: step.step, seq })
}
