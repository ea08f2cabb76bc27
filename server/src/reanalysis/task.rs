//! One re-analysis from its last commit to its end.

use std::collections::VecDeque;

use gradwatch_spectral::detectors::DetectorConfig;
use gradwatch_store::{
    Analysis, AnalysisCommit, AnalysisEnd, AnalysisPosition, AnalysisState, RunId, Segment, SketchBlockInfo,
    SketchStream, StoreError,
};

use super::{
    Reanalysis,
    replay::{Portion, Replay},
};
use crate::clock;

/// Rows read, computed and committed at once.
const PORTION_ROWS: u64 = 64;
/// Bytes read at once, unless one block has more.
const PORTION_BYTES: u64 = 8 << 20;

/// Why a task stops.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The analysis is done, has failed, or is gone.
    Ended,
    /// The server shuts down.
    Draining,
    /// It does not stand where this task left it.
    Moved,
    /// The store does not answer.
    Store(StoreError),
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// An analysis that is running.
pub(super) struct Task<'a> {
    reanalysis: &'a Reanalysis,
    analysis: Analysis,
    segments: Vec<Segment>,
    detectors: DetectorConfig,
}

impl<'a> Task<'a> {
    /// Reads where it stands; none when it is running no longer.
    pub(super) async fn load(
        reanalysis: &'a Reanalysis,
        run_id: RunId,
        name: &str,
    ) -> Result<Option<Self>, StoreError> {
        let store = &reanalysis.store;
        let analysis = store.analysis(run_id, name).await?.filter(|it| it.state == AnalysisState::Running);
        let Some(analysis) = analysis else { return Ok(None) };
        let segments = store.segments(run_id).await?;
        let project = store.run(run_id).await?.project;
        // A configuration that was validated has detectors for every project.
        let config = &reanalysis.config;
        let mut detectors = config.detectors_of(&project).unwrap_or_else(|_| config.detectors.clone());
        detectors.regime.bands = analysis.spec.bands;
        Ok(Some(Self { reanalysis, analysis, segments, detectors }))
    }

    /// Goes on until it ends or has to stop.
    pub(super) async fn run(mut self) -> Stopped {
        let end = match self.streams().await {
            Ok(()) => AnalysisEnd::Done,
            Err(Interrupted::Stopped(stopped)) => return stopped,
            Err(Interrupted::Failed(message)) => {
                let (run_id, name) = (self.analysis.run_id, &self.analysis.name);
                tracing::error!(%run_id, name, message, "re-analysis failed");
                AnalysisEnd::Failed(message)
            }
        };
        match self.commit(Portion::default(), None, Some(end)).await {
            Ok(()) => Stopped::Ended,
            Err(stopped) => stopped,
        }
    }

    async fn streams(&mut self) -> Result<(), Interrupted> {
        let mut streams = self.wanted();
        if let Some(position) = &self.analysis.position {
            let stream = position.stream();
            while streams.front().is_some_and(|first| *first != stream) {
                streams.pop_front();
            }
        }
        for stream in streams {
            self.stream(&stream).await?;
        }
        Ok(())
    }

    /// Every stream of the run that is asked for, in the order in which they are read.
    fn wanted(&self) -> VecDeque<SketchStream> {
        let spec = &self.analysis.spec;
        let mut streams = VecDeque::new();
        for segment in self.segments.iter().filter(|segment| self.analysis.marks.contains_key(&segment.segment)) {
            let groups = segment.spec.groups.iter().map(|group| &group.name);
            for group in groups.filter(|name| spec.group.as_ref().is_none_or(|group| group == *name)) {
                let kinds = segment.spec.kinds.iter().copied();
                streams.extend(
                    kinds.filter(|kind| spec.kind.is_none_or(|wanted| wanted == *kind)).map(|kind| SketchStream {
                        segment: segment.segment,
                        group: group.clone(),
                        kind,
                    }),
                );
            }
        }
        streams
    }

    /// Reads one stream from its first kept row on, also after a restart: windows and detectors depend on all of it. What
    /// its commits have seen is not stored again.
    async fn stream(&mut self, stream: &SketchStream) -> Result<(), Interrupted> {
        let run_id = self.analysis.run_id;
        let Some(segment) = self.segments.iter().find(|segment| segment.segment == stream.segment) else {
            return Ok(());
        };
        let position = self.analysis.position.as_ref().filter(|position| position.stream() == *stream);
        let seen_step = position.map(|position| position.step);
        let replay = Replay::new(&self.analysis.name, &self.analysis.spec, segment, stream, &self.detectors);
        let mut replay = replay.map_err(|error| Interrupted::Failed(error.to_string()))?;
        let mark = self.analysis.marks.get(&stream.segment).copied().unwrap_or_default();
        let mut blocks = self.reanalysis.store.sketch_index(run_id, stream).await.map_err(Stopped::from)?;
        // What came after it began is not its.
        blocks.retain(|block| block.last_step <= mark && block.first_step <= self.analysis.spec.to_step);
        for (first, last) in portions(&blocks) {
            if self.reanalysis.draining.is_cancelled() {
                return Err(Stopped::Draining.into());
            }
            let blocks = self.reanalysis.store.sketch_blocks(run_id, stream, (first, last)).await;
            let blocks = blocks.map_err(Stopped::from)?;
            let read = self.reanalysis.pipeline.in_background(move || {
                let portion = replay.read(&blocks, seen_step);
                (replay, portion)
            });
            let (back, portion) = read.await.map_err(|_| Interrupted::Failed("it panicked".to_owned()))?;
            replay = back;
            let portion = portion.map_err(|error| Interrupted::Failed(error.to_string()))?;
            if portion.rows > 0 {
                self.commit(portion, Some(stream), None).await?;
            }
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        portion: Portion,
        stream: Option<&SketchStream>,
        end: Option<AnalysisEnd>,
    ) -> Result<(), Stopped> {
        let position = stream.zip(portion.last_step).map(|(stream, step)| AnalysisPosition {
            segment: stream.segment,
            group: stream.group.clone(),
            kind: stream.kind,
            step,
        });
        let commit = AnalysisCommit {
            run_id: self.analysis.run_id,
            name: self.analysis.name.clone(),
            after_commit: self.analysis.commits,
            position,
            rows: portion.rows,
            transitions: portion.transitions,
            readings: portion.readings,
            rollups: portion.rollups,
            now_us: clock::now_us(),
            end,
        };
        let committed = match self.reanalysis.store.commit_analysis(&commit).await {
            // Nothing that is tried again would help.
            Err(error @ (StoreError::Data(_) | StoreError::UniqueViolation(_))) if commit.end.is_none() => {
                tracing::error!(run_id = %commit.run_id, name = commit.name, %error, "re-analysis cannot be stored");
                let message = "what it computes cannot be stored; the server's log says why".to_owned();
                let failed = AnalysisCommit {
                    position: None,
                    rows: 0,
                    transitions: 0,
                    readings: Vec::new(),
                    rollups: Vec::new(),
                    end: Some(AnalysisEnd::Failed(message)),
                    ..commit
                };
                self.reanalysis.store.commit_analysis(&failed).await?;
                return Err(Stopped::Ended);
            }
            committed => committed?,
        };
        if !committed {
            return Err(Stopped::Moved);
        }
        self.analysis.commits += 1;
        self.reanalysis.changed();
        Ok(())
    }
}

/// Why streams are not all read.
enum Interrupted {
    Stopped(Stopped),
    Failed(String),
}

impl From<Stopped> for Interrupted {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// First steps of the first and the last block of each portion.
fn portions(blocks: &[SketchBlockInfo]) -> Vec<(u64, u64)> {
    let mut portions: Vec<(u64, u64)> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for block in blocks {
        rows += u64::from(block.rows);
        bytes += block.bytes;
        match portions.last_mut() {
            Some((_, last)) if rows <= PORTION_ROWS && bytes <= PORTION_BYTES => *last = block.first_step,
            _ => {
                portions.push((block.first_step, block.first_step));
                (rows, bytes) = (u64::from(block.rows), block.bytes);
            }
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_whole_and_bounded() {
        let block = |(first_step, rows, bytes): (u64, u32, u64)| SketchBlockInfo {
            first_step,
            last_step: first_step + u64::from(rows) - 1,
            rows,
            bytes,
        };
        let few =
            [(1, 30, 1), (31, 34, 1), (65, 1, 1), (66, 64, 1), (130, 1, PORTION_BYTES + 1), (131, 1, 1), (132, 1, 1)];
        let portions = portions(&few.map(block));
        assert_eq!(portions, [(1, 31), (65, 65), (66, 66), (130, 130), (131, 132)]);
        assert_eq!(super::portions(&[]), []);
    }
}
