//! What can be asked of a fleet of runs. Two requests that are written alike are the same request.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use utoipa::{
    ToSchema,
    openapi::{KnownFormat, ObjectBuilder, OneOfBuilder, RefOr, Schema, SchemaFormat, Type},
};

use super::condition::Condition;

/// One of the requests.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FleetRequest {
    /// Of `fleet/dimension`.
    Dimension(DimensionRequest),
    /// Of `fleet/error_split`.
    ErrorSplit(ErrorSplitRequest),
}

impl FleetRequest {
    /// What is computed.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Dimension(_) => "dimension",
            Self::ErrorSplit(_) => "error_split",
        }
    }

    /// Whose runs.
    pub(super) fn project(&self) -> &str {
        match self {
            Self::Dimension(request) => &request.project,
            Self::ErrorSplit(request) => &request.project,
        }
    }
}

/// `fleet_dimension` of a family of runs over time.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct DimensionRequest {
    /// May be left out where the token is of one project.
    #[schema(required = false)]
    pub(super) project: String,
    /// Runs whose label `width_family` is this.
    pub(super) family: String,
    /// A layer of the cascade instrument; by default the first that each run's newest attempt declares for it.
    #[schema(required = false)]
    pub(super) layer: Option<String>,
    /// What the runs have in common at zero.
    pub(super) align: Align,
    /// Half width of a point in steps: readings of aligned steps from `at - window` to `at + window - 1` count. By default
    /// the spacing of the snapshots, or the least multiple of it that gives no more than 1,000 points.
    #[schema(required = false, minimum = 1)]
    pub(super) window: Option<u64>,
    /// First aligned step; may be negative.
    #[schema(required = false)]
    pub(super) from: Option<i64>,
    /// Last aligned step.
    #[schema(required = false)]
    pub(super) to: Option<i64>,
}

/// How the clocks of runs are set.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Align {
    /// As they are: the same step.
    Step,
    /// Zero is the first event of this type, such as `job.solved`.
    Event(String),
    /// Zero is the first step at which `scalar.NAME OP number` holds; OP is `>=`, `<=`, `>` or `<`.
    #[schema(value_type = String)]
    Condition(Condition),
}

/// `error_split` over runs that cross data seeds with init seeds.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorSplitRequest {
    /// May be left out where the token is of one project.
    #[schema(required = false)]
    pub(super) project: String,
    /// Runs with all of these labels, besides `data_seed` and `init_seed`; by default all of the project.
    #[schema(required = false)]
    pub(super) labels: BTreeMap<String, String>,
    /// Name of the probe batch that all runs sent predictions on.
    pub(super) probe: String,
    /// Which step.
    #[schema(required = false)]
    pub(super) step: CommonStep,
}

/// A step that all runs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommonStep {
    /// The last one.
    Last,
    /// This one.
    At(u64),
}

impl Serialize for CommonStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Last => serializer.serialize_str("last"),
            Self::At(step) => serializer.serialize_u64(*step),
        }
    }
}

impl utoipa::PartialSchema for CommonStep {
    fn schema() -> RefOr<Schema> {
        let last = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["last"]));
        let step = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0));
        let description = "A step, or `last` (the default): the last one that all runs have predictions of.";
        OneOfBuilder::new().item(last).item(step).description(Some(description)).into()
    }
}

impl ToSchema for CommonStep {}
