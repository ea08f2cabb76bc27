//! One stream of a segment, read again.

use gradwatch_spectral::{
    detectors::{Detector, DetectorConfig},
    edge::EdgeStream,
    followers::Followers,
    window::WindowError,
};
use gradwatch_store::{AnalysisSpec, ReadingRow, RollupRow, Segment, SketchBlock, SketchStream, StreamKey};

use crate::pipeline::{EdgeRollups, KeptRow, UnreadableRows, decode_rows};

/// The windows of a stream and what follows them.
///
/// Invariant (promise 10): a reading is a function of the rows kept up to it, through the same code as live ones. A row that
/// began a window begins one here too. So an analysis with the windows, rule and bands that the run has gives the same bits,
/// as far back as every row of the segment is kept.
#[derive(Debug)]
pub(super) struct Replay {
    stream: SketchStream,
    name: String,
    steps: std::ops::RangeInclusive<u64>,
    dim: usize,
    edge: EdgeStream,
    /// By window, in the order of the spec.
    followed: Vec<FollowedWindow>,
}

#[derive(Debug)]
struct FollowedWindow {
    key: StreamKey,
    followers: Followers,
    rollups: EdgeRollups,
}

/// What rows lead to.
#[derive(Debug, Default)]
pub(super) struct Portion {
    pub(super) rows: u64,
    pub(super) transitions: u64,
    pub(super) readings: Vec<ReadingRow>,
    pub(super) rollups: Vec<RollupRow>,
    /// Of the last row.
    pub(super) last_step: Option<u64>,
}

impl Replay {
    pub(super) fn new(
        name: &str,
        spec: &AnalysisSpec,
        segment: &Segment,
        stream: &SketchStream,
        config: &DetectorConfig,
    ) -> Result<Self, WindowError> {
        let declared = segment.spec.groups.iter().find(|group| group.name == stream.group);
        let parameters = declared.map_or(0, gradwatch_store::GroupSpec::parameter_count);
        let dim = segment.spec.sketch_dim;
        let edge = EdgeStream::new(dim, &spec.windows, parameters, true)?.with_position_rule(spec.position);
        let followed = spec.windows.iter().map(|&window| FollowedWindow {
            key: StreamKey { group: stream.group.clone(), kind: stream.kind, window },
            followers: Followers::new(window, config),
            rollups: EdgeRollups::new(),
        });
        Ok(Self {
            stream: stream.clone(),
            name: name.to_owned(),
            steps: spec.from_step..=spec.to_step,
            dim,
            edge,
            followed: followed.collect(),
        })
    }

    /// Reads blocks. What the rows up to `seen_step` lead to was stored before.
    pub(super) fn read(&mut self, blocks: &[SketchBlock], seen_step: Option<u64>) -> Result<Portion, UnreadableRows> {
        let mut portion = Portion::default();
        for block in blocks {
            for row in decode_rows(&block.payload, self.dim)? {
                self.row(&row, seen_step.is_none_or(|seen| row.step > seen), &mut portion)?;
            }
        }
        Ok(portion)
    }

    fn row(&mut self, row: &KeptRow, is_new: bool, portion: &mut Portion) -> Result<(), UnreadableRows> {
        portion.rows += u64::from(is_new);
        portion.last_step = Some(row.step);
        if row.step > *self.steps.end() {
            return Ok(());
        }
        if row.began {
            self.edge.restart();
        }
        let readings = self.edge.push(&row.entries, row.learning_rate).map_err(|_| UnreadableRows)?;
        // Rows before the first step wanted fill windows and detectors.
        let is_wanted = self.steps.contains(&row.step);
        for (followed, mut edge) in self.followed.iter_mut().zip(readings) {
            let detections = followed.followers.follow(row.step, &mut edge);
            if !is_wanted {
                continue;
            }
            let mut rollups = Vec::new();
            followed.rollups.push(&followed.key, self.stream.segment, row.step, &edge, &mut rollups);
            if !is_new {
                continue;
            }
            let transitions = detections.iter().filter(|it| it.detector == Detector::EdgeRegime).count();
            portion.transitions += transitions as u64;
            portion.rollups.extend(rollups.into_iter().map(|row| RollupRow { analysis: self.name.clone(), ..row }));
            portion.readings.push(ReadingRow {
                analysis: self.name.clone(),
                stream: followed.key.clone(),
                segment: self.stream.segment,
                step: row.step,
                regime: followed.followers.regime(),
                edge,
            });
        }
        Ok(())
    }
}
