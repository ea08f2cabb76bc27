//! The runs that a request is about.

use std::collections::BTreeMap;

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{
    LayerKey, Run, RunId, RunQuery, RunSort, Store,
    lineage::{self, SegmentRange},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::super::{layer_choice::LayerChoice, series};
use crate::error::Error;

/// Runs of one computation.
const MAX_RUNS: usize = 1_000;
/// Runs read at once.
const PAGE: usize = 200;

/// A run as far as computations need it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) run_id: RunId,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The live line, as far as it is recorded.
    pub(super) live: Vec<SegmentRange>,
    /// The layer of the cascade instrument that is meant.
    pub(super) layer: Option<LayerKey>,
    revision: (u64, u64),
}

/// A run that takes no part, and why.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LeftOutRun {
    /// UUID.
    run_id: String,
    name: String,
    /// One word.
    pub(super) reason: &'static str,
    /// The same for a person.
    detail: String,
}

impl Member {
    /// This run, left out.
    pub(super) fn left_out(&self, reason: &'static str, detail: impl Into<String>) -> LeftOutRun {
        LeftOutRun { run_id: self.run_id.to_string(), name: self.name.clone(), reason, detail: detail.into() }
    }
}

/// The runs of a project with these labels, by id.
///
/// Invariant: computations read the runs that they find here and no others, so that they see one project only.
pub(super) async fn select(
    store: &dyn Store,
    project: &str,
    labels: &BTreeMap<String, String>,
    choice: &LayerChoice,
) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    for run in runs(store, Some(project), labels, MAX_RUNS).await? {
        let segments = match store.segments(run.run_id).await {
            Ok(segments) => segments,
            // Deleted meanwhile.
            Err(gradwatch_store::StoreError::UnknownRun(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        members.push(Member {
            run_id: run.run_id,
            name: run.name,
            labels: run.labels,
            live: series::recorded(lineage::live(&segments, 0, u64::MAX), &segments),
            layer: choice.find(LayerInstrument::Cascade, &segments),
            revision: run.revision,
        });
    }
    members.sort_by_key(|member| member.run_id);
    Ok(members)
}

/// All runs with these labels; too many are refused.
pub(super) async fn runs(
    store: &dyn Store,
    project: Option<&str>,
    labels: &BTreeMap<String, String>,
    limit: usize,
) -> Result<Vec<Run>, Error> {
    let mut query = RunQuery {
        project: project.map(str::to_owned),
        state: None,
        regime: None,
        name: None,
        labels: labels.clone(),
        // What is created while we read comes last: nothing is missed or met twice.
        sort: RunSort::CreatedAscending,
        after: None,
        limit: PAGE,
    };
    let mut runs: Vec<Run> = Vec::new();
    loop {
        let page = store.runs(&query).await?;
        runs.extend(page.items);
        if runs.len() > limit {
            return Err(Error::invalid("labels", format!("more than {limit} runs have them; the limit is {limit}")));
        }
        query.after = runs.last().map(|run| (run.created_at_us, run.run_id));
        if !page.more {
            return Ok(runs);
        }
    }
}

/// What a computation over these runs depends on, besides the request: the same text, the same answer.
pub(super) fn data_version(members: &[Member]) -> String {
    let mut hash = Sha256::new();
    for member in members {
        let Member { run_id, name, labels, live, layer, revision } = member;
        // The forms for debugging hold all of the values.
        hash.update(format!("{run_id} {name:?} {labels:?} {live:?} {layer:?} {revision:?}\n"));
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
