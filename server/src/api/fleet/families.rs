//! `fleet/families`: which runs are of one width family.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use gradwatch_spectral::layers::{LayerInstrument, LayerReading};
use gradwatch_store::{Run, Store, StoreError, lineage};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::{
        cursor::Paging,
        layer_choice::LayerChoice,
        openapi::Problems,
        params::{FromParams, Params, Query},
        refusal::Answer,
    },
    FAMILY, members,
};
use crate::{error::Error, state::AppState};

/// Runs that have a family.
const MAX_RUNS: usize = 10_000;

/// The runs of a project that share the label `width_family`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FamilyView {
    project: String,
    /// The label's value.
    family: String,
    /// Different widths (parameter counts N) among those that are known, ascending. 4 are needed.
    widths: Vec<u64>,
    /// Oldest first.
    runs: Vec<FamilyRunView>,
}

/// A run of a family.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FamilyRunView {
    /// UUID.
    run_id: String,
    name: String,
    /// `running`, `stalled`, `crashed`, `finished`, `failed` or `preempted`.
    state: &'static str,
    /// N, as its last cascade reading of the default layer says; null before the first of a whole gradient.
    parameters: Option<u64>,
    last_step: Option<u64>,
}

/// A page of families.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FamilyList {
    /// By project and name.
    items: Vec<FamilyView>,
    /// Where the next page starts; null at the end.
    next_cursor: Option<String>,
}

/// Whose families.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProjectParam {
    /// Only of this project.
    #[param(value_type = Option<String>)]
    project: Option<String>,
}

impl FromParams for ProjectParam {
    fn from_params(params: &mut Params) -> Result<Self, Error> {
        Ok(Self { project: params.project()? })
    }
}

/// The last family given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyPosition {
    project: String,
    family: String,
}

/// Lists the width families, with their runs and widths.
#[utoipa::path(get, operation_id = "listFamilies", path = "/api/v1/fleet/families", tag = "fleet",
    params(ProjectParam, Paging), responses((status = 200, body = FamilyList), Problems))]
pub(crate) async fn list(
    State(state): State<AppState>,
    Query((ProjectParam { project }, paging)): Query<(ProjectParam, Paging)>,
) -> Answer<Json<FamilyList>> {
    let after = paging.position::<FamilyPosition>()?;
    let mut families: BTreeMap<FamilyPosition, Vec<Run>> = BTreeMap::new();
    let mut listed = 0;
    members::for_each_run(&*state.store, project.as_deref(), &BTreeMap::new(), |run| {
        let Some(family) = run.labels.get(FAMILY).cloned() else { return Ok(()) };
        let position = FamilyPosition { project: run.project.clone(), family };
        if after.as_ref().is_none_or(|after| position > *after) {
            if listed == MAX_RUNS {
                let message = format!("more than {MAX_RUNS} runs have the label {FAMILY}: the limit is {MAX_RUNS}");
                return Err(Error::invalid("project", message));
            }
            listed += 1;
            families.entry(position).or_default().push(run);
        }
        Ok(())
    })
    .await?;
    let more = families.len() > paging.limit;
    let mut items = Vec::new();
    let mut last = None;
    for (position, runs) in families.into_iter().take(paging.limit) {
        items.push(view(&*state.store, &position, runs).await?);
        last = Some(position);
    }
    let next_cursor = last.filter(|_| more).map(|last| paging.behind(last)).transpose()?;
    Ok(Json(FamilyList { items, next_cursor }))
}

async fn view(store: &dyn Store, position: &FamilyPosition, runs: Vec<Run>) -> Result<FamilyView, Error> {
    let (mut widths, mut views) = (BTreeSet::new(), Vec::new());
    for run in runs {
        let parameters = match parameters(store, &run).await {
            Ok(parameters) => parameters,
            // Deleted meanwhile.
            Err(StoreError::UnknownRun(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        widths.extend(parameters);
        views.push(FamilyRunView {
            run_id: run.run_id.to_string(),
            name: run.name,
            state: run.state.as_str(),
            parameters,
            last_step: run.last_step,
        });
    }
    let FamilyPosition { project, family } = position.clone();
    Ok(FamilyView { project, family, widths: widths.into_iter().collect(), runs: views })
}

/// N of the last whole gradient in the newest live segment that has one.
async fn parameters(store: &dyn Store, run: &Run) -> Result<Option<u64>, StoreError> {
    let segments = store.segments(run.run_id).await?;
    let Some(layer) = (LayerChoice { layer: None }).find(LayerInstrument::Cascade, &segments) else { return Ok(None) };
    for range in lineage::live(&segments, 0, u64::MAX).iter().rev() {
        let latest = store.latest_layer_readings(run.run_id, range.segment).await?;
        let found = latest.into_iter().find(|reading| reading.row.layer == layer);
        if let Some(LayerReading::Cascade(reading)) = found.map(|reading| reading.row.reading)
            && let Some(sites) = reading.whole_sites
        {
            return Ok(Some(sites));
        }
    }
    Ok(None)
}
