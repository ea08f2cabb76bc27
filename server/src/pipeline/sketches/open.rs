//! Blocks in the making.

use gradwatch_store::{Kind, RunCommit, SketchBlock, SketchStream};

use super::{BLOCK_ROWS, row::NewRow};

/// The rows of an attempt that the commit in the making settles.
///
/// Invariant (promise 1): a row is in the store with the acknowledgement of its frames. A block holds what one commit settles
/// of a stream, at most [`BLOCK_ROWS`] rows; so nothing of it has to be sent again after a restart, and nothing of it stays
/// in memory.
#[derive(Debug)]
pub(crate) struct OpenBlocks {
    /// Whether rows are kept at all.
    keeps: bool,
    /// By stream, in the order of the spec.
    open: Vec<Option<SketchBlock>>,
    full: Vec<SketchBlock>,
}

impl OpenBlocks {
    pub(crate) fn new(streams: usize, keeps: bool) -> Self {
        Self { keeps, open: vec![None; streams], full: Vec::new() }
    }

    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Takes in a row that entered its window.
    pub(crate) fn push(&mut self, index: usize, (segment, group, kind): (u32, &str, Kind), row: &NewRow<'_>) {
        let place = &mut self.open[index];
        let block = place.get_or_insert_with(|| SketchBlock {
            stream: SketchStream { segment, group: group.to_owned(), kind },
            first_step: row.step,
            last_step: row.step,
            rows: 0,
            payload: Vec::new(),
        });
        block.last_step = row.step;
        block.rows += 1;
        row.write(&mut block.payload);
        if block.rows == BLOCK_ROWS {
            self.full.extend(place.take());
        }
    }

    /// Puts everything into the commit that settles it.
    pub(crate) fn flush(&mut self, commit: &mut RunCommit) {
        commit.sketches.append(&mut self.full);
        commit.sketches.extend(self.open.iter_mut().filter_map(Option::take));
    }
}
