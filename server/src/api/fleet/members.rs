//! The runs that a request is about.

use std::collections::BTreeMap;

use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_store::{
    LayerKey, Run, RunId, RunQuery, RunSort, Store,
    lineage::{self, SegmentRange},
};
use serde::Serialize;
use serde_json::Value;
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

/// The runs of a project with these labels, by id; `field` is at fault when they are too many.
///
/// Invariant: computations read the runs that they find here and no others, so that they see one project only.
pub(super) async fn select(
    store: &dyn Store,
    project: &str,
    labels: &BTreeMap<String, String>,
    field: &str,
    choice: &LayerChoice,
) -> Result<Vec<Member>, Error> {
    let mut runs: Vec<Run> = Vec::new();
    for_each_run(store, Some(project), labels, |run| {
        if runs.len() == MAX_RUNS {
            let message = format!("more than {MAX_RUNS} runs have them; narrow them: the limit is {MAX_RUNS}");
            return Err(Error::invalid(field, message));
        }
        runs.push(run);
        Ok(())
    })
    .await?;
    let mut members = Vec::new();
    for run in runs {
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

/// Hands over all runs with these labels, oldest first, without their configs, which may be long.
pub(super) async fn for_each_run(
    store: &dyn Store,
    project: Option<&str>,
    labels: &BTreeMap<String, String>,
    mut take: impl FnMut(Run) -> Result<(), Error>,
) -> Result<(), Error> {
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
    loop {
        let page = store.runs(&query).await?;
        query.after = page.items.last().map(|run| (run.created_at_us, run.run_id));
        for run in page.items {
            take(Run { config: Value::Null, ..run })?;
        }
        if !page.more {
            return Ok(());
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
