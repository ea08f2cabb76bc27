//! Re-analyses: readings computed again from kept sketches, under a name of their own.

use std::{collections::BTreeMap, fmt, str::FromStr};

use gradwatch_spectral::{detectors::Bands, edge::PositionRule};
use serde::{Deserialize, Serialize};

use super::{
    commit::{ReadingRow, RollupRow},
    run::RunId,
    segment::Kind,
    sketch::SketchStream,
};

/// What is to be computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisSpec {
    /// W, one or more.
    pub windows: Vec<usize>,
    /// Where the spectrum breaks.
    pub position: PositionRule,
    /// What regimes are told by.
    pub bands: Bands,
    /// Only of this group.
    pub group: Option<String>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// First step of a reading. Rows before it fill windows and detectors.
    pub from_step: u64,
    /// Last step of a reading.
    pub to_step: u64,
}

/// Where an analysis stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnalysisState {
    /// It goes on until it is done, also after a restart.
    Running,
    /// Everything that it was to read is read.
    Done,
    /// It cannot go on; its message says why.
    Failed,
    /// Its readings are being deleted.
    Deleting,
}

impl AnalysisState {
    /// The word used in the API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

impl fmt::Display for AnalysisState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AnalysisState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Running, Self::Done, Self::Failed, Self::Deleting];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("unknown state {text:?}"))
    }
}

/// The last row that the commits of an analysis have seen. Rows come by segment, group, kind and step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisPosition {
    /// Its segment.
    pub segment: u32,
    /// Its group.
    pub group: String,
    /// Its kind.
    pub kind: Kind,
    /// Its step.
    pub step: u64,
}

impl AnalysisPosition {
    /// Its stream.
    #[must_use]
    pub fn stream(&self) -> SketchStream {
        SketchStream { segment: self.segment, group: self.group.clone(), kind: self.kind }
    }
}

/// An analysis that is to begin.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAnalysis {
    /// The run.
    pub run_id: RunId,
    /// Its name, new in the run.
    pub name: String,
    /// What is to be computed.
    pub spec: AnalysisSpec,
    /// The server's clock, microseconds since the Unix epoch.
    pub now_us: i64,
    /// How many a run may have.
    pub max_analyses: usize,
}

/// An analysis as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// The run.
    pub run_id: RunId,
    /// Its name.
    pub name: String,
    /// What is computed.
    pub spec: AnalysisSpec,
    /// The last step of each segment when it began: it reads no further.
    pub marks: BTreeMap<u32, u64>,
    /// Where it stands.
    pub state: AnalysisState,
    /// When it began, microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// When it last got on.
    pub updated_at_us: i64,
    /// How many commits it has made.
    pub commits: u64,
    /// Rows to be read.
    pub rows_total: u64,
    /// Rows read.
    pub rows_done: u64,
    /// Readings stored.
    pub readings: u64,
    /// Changes of regime that its detectors have seen.
    pub transitions: u64,
    /// The last row seen; none before the first commit.
    pub position: Option<AnalysisPosition>,
    /// Why it failed.
    pub message: Option<String>,
}

/// How an analysis ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnalysisEnd {
    /// Everything is read.
    Done,
    /// It cannot go on, and why.
    Failed(String),
}

/// What an analysis stores at once.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalysisCommit {
    /// The run.
    pub run_id: RunId,
    /// The analysis.
    pub name: String,
    /// How many commits it must have made: nothing lands twice.
    pub after_commit: u64,
    /// The last row seen; none when no row was.
    pub position: Option<AnalysisPosition>,
    /// Rows read since the last commit.
    pub rows: u64,
    /// Changes of regime seen since.
    pub transitions: u64,
    /// Readings.
    pub readings: Vec<ReadingRow>,
    /// Buckets that became full.
    pub rollups: Vec<RollupRow>,
    /// The server's clock, microseconds since the Unix epoch.
    pub now_us: i64,
    /// Its end, if this is it.
    pub end: Option<AnalysisEnd>,
}
