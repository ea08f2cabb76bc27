//! What can be asked of a store. Segments come resolved: the caller says which steps of which segments it wants, in
//! the order it wants them (see [`crate::lineage`]).

use std::collections::BTreeMap;

use gradwatch_spectral::detectors::Regime;
use uuid::Uuid;

use crate::{
    lineage::SegmentRange,
    model::{AlertState, Event, LayerKey, MessageState, Run, RunId, RunState, StreamKey},
};

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// True when there are more behind the last item.
    pub more: bool,
}

/// Order of a run list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunSort {
    /// Most recently heard of first.
    LastSeenDescending,
    /// Longest unheard of first.
    LastSeenAscending,
    /// Newest first.
    CreatedDescending,
    /// Oldest first.
    CreatedAscending,
}

/// Which runs. Every given condition must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct RunQuery {
    /// Of this project.
    pub project: Option<String>,
    /// In this state.
    pub state: Option<RunState>,
    /// In this regime.
    pub regime: Option<Regime>,
    /// With exactly this name.
    pub name: Option<String>,
    /// With these labels.
    pub labels: BTreeMap<String, String>,
    /// Order; ties by run id.
    pub sort: RunSort,
    /// Items behind this (sort time in microseconds, run id), exclusive.
    pub after: Option<(i64, RunId)>,
    /// Page size.
    pub limit: usize,
}

/// Which steps of a run: the ranges one behind the other, each by ascending step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepQuery {
    /// The run.
    pub run_id: RunId,
    /// Segments and step bounds, in the order wanted.
    pub ranges: Vec<SegmentRange>,
    /// Page size.
    pub limit: usize,
}

/// Which readings of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingQuery {
    /// The run.
    pub run_id: RunId,
    /// `live`, or the name of a re-analysis.
    pub analysis: String,
    /// The stream.
    pub stream: StreamKey,
    /// Segments and step bounds, in the order wanted.
    pub ranges: Vec<SegmentRange>,
    /// Page size.
    pub limit: usize,
}

/// Which readings of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReadingQuery {
    /// The run.
    pub run_id: RunId,
    /// The layer.
    pub layer: LayerKey,
    /// Segments and step bounds, in the order wanted.
    pub ranges: Vec<SegmentRange>,
    /// Page size.
    pub limit: usize,
}

/// A metric that can be charted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SeriesMetric {
    /// An edge metric, by its short name in [`gradwatch_spectral::catalogue::EDGE_METRICS`].
    Edge(&'static str),
    /// A number, count or flag of a layer's readings, by the name of its field.
    Layer(LayerKey, &'static str),
    /// A scalar that the job sends, by its own name.
    Scalar(String),
}

/// Which values of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesQuery {
    /// The run.
    pub run_id: RunId,
    /// `live`, or the name of a re-analysis.
    pub analysis: String,
    /// The metric.
    pub metric: SeriesMetric,
    /// The stream of an edge metric; ignored for others.
    pub stream: Option<StreamKey>,
    /// Segments and step bounds, in the order wanted.
    pub ranges: Vec<SegmentRange>,
}

/// One value. `value` may be non-finite for scalars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesPoint {
    /// The segment.
    pub segment: u32,
    /// The step.
    pub step: u64,
    /// The value.
    pub value: f64,
}

/// One bucket of a rollup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RollupPoint {
    /// The segment.
    pub segment: u32,
    /// Bucket number: step / bucket_steps.
    pub bucket: u64,
    /// The last step in the bucket that had a value.
    pub last_step: u64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Value at `last_step`.
    pub last: f64,
    /// Number of finite values.
    pub count: u64,
}

/// Which events. Every given condition must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct EventQuery {
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this project.
    pub project: Option<String>,
    /// Of one of these types; empty: of any.
    pub types: Vec<String>,
    /// Of this group.
    pub group: Option<String>,
    /// In these segments and steps (events without a step belong to their segment whole); `None`: anywhere.
    pub ranges: Option<Vec<SegmentRange>>,
    /// Behind this event id, exclusive.
    pub after: Option<u64>,
    /// Newest first instead of oldest first.
    pub newest_first: bool,
    /// Page size.
    pub limit: usize,
}

/// The whole cluster at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// Runs by state.
    pub by_state: BTreeMap<RunState, u64>,
    /// Runs by regime, among those not over.
    pub by_regime: BTreeMap<Regime, u64>,
    /// Newest regime transitions, newest first, at most 20.
    pub transitions: Vec<Event>,
    /// Runs whose clients dropped frames, most recently heard of first, at most 20.
    pub lossy: Vec<Run>,
    /// Runs that are stalled or crashed, likewise.
    pub stalled: Vec<Run>,
    /// Runs with incomplete steps, likewise.
    pub incomplete: Vec<Run>,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ValuesSource {
    /// Edge metrics of a stream's live analysis, by the short names in
    /// [`gradwatch_spectral::catalogue::EDGE_METRICS`], or `sigma_j`.
    Stream(StreamKey, Vec<&'static str>),
    /// Numbers, counts and flags (1 or 0) of a layer's readings, by the names of their fields.
    Layer(LayerKey, Vec<&'static str>),
    /// Scalars, by their own names; with the server's times of the steps.
    Steps(Vec<String>),
}

/// Which values.
#[derive(Clone, Debug, PartialEq)]
pub struct ValuesQuery {
    /// The run.
    pub run_id: RunId,
    /// Where from.
    pub source: ValuesSource,
    /// Segments and step bounds, in the order wanted.
    pub ranges: Vec<SegmentRange>,
    /// The last rows of the ranges, from the last on backwards, instead of the first.
    pub backwards: bool,
    /// The most rows.
    pub limit: usize,
}

/// Values of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct ValuesRow {
    /// The segment.
    pub segment: u32,
    /// The step.
    pub step: u64,
    /// The server's clock when the step was complete; 0 for streams and layers.
    pub received_at_us: i64,
    /// In the order asked for; `None` where it is undefined or not finite.
    pub values: Vec<Option<f64>>,
}

/// Which alerts. Every given condition must hold. Newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertQuery {
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this project.
    pub project: Option<String>,
    /// Of the rule with this name.
    pub rule: Option<String>,
    /// In one of these states; empty: in any.
    pub states: Vec<AlertState>,
    /// Of this severity.
    pub severity: Option<String>,
    /// Behind this one, exclusive.
    pub after: Option<Uuid>,
    /// Page size.
    pub limit: usize,
}

/// How many alerts of a rule are open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCount {
    /// The rule.
    pub rule_id: Uuid,
    /// Pending or firing.
    pub state: AlertState,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// So many.
    pub alerts: u64,
}

/// Which messages. Every given condition must hold. Newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MessageQuery {
    /// To this receiver.
    pub receiver: Option<String>,
    /// In this state.
    pub state: Option<MessageState>,
    /// Behind the one with this sequence, exclusive.
    pub after: Option<u64>,
    /// Page size.
    pub limit: usize,
}

/// Which attempts. Every given condition must hold. Newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveryQuery {
    /// Of this message.
    pub message_id: Option<Uuid>,
    /// To this receiver.
    pub receiver: Option<String>,
    /// Behind the one with this id, exclusive.
    pub after: Option<u64>,
    /// Page size.
    pub limit: usize,
}
