//! What is kept of a run, and what makes room for new rows.

use std::collections::{BTreeMap, HashMap, VecDeque};

use gradwatch_store::{Kind, RunCommit, SketchExtent, SketchStream};

use super::BLOCK_ROWS;

/// The kept rows of a run, by group and kind over all segments: how many, and how long. Rows that stand together are deleted
/// together, [`BLOCK_ROWS`] at most.
///
/// Invariant: of each group and kind the last `keep_rows` rows are kept, and fewer than [`BLOCK_ROWS`] before them; unless
/// all of the run would take more than `limit_bytes`: then the oldest of the run make room. A deletion names the last block
/// that goes and takes with it all that stand before, so that what a running analysis held back goes with a later one.
#[derive(Debug)]
pub(crate) struct KeptSketches {
    streams: HashMap<GroupKind, Stream>,
    bytes: u64,
    keep_rows: u64,
    limit_bytes: u64,
}

/// Group and kind.
type GroupKind = (String, Kind);

#[derive(Debug, Default)]
struct Stream {
    /// Oldest first: by segment, then step.
    extents: BTreeMap<(u32, u64), Extent>,
    rows: u64,
}

/// Neighbouring blocks of one segment, by the first step of the first of them.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// The first step of the last of them.
    last_block: u64,
    rows: u64,
    bytes: u64,
}

impl KeptSketches {
    /// What is in the store.
    pub(crate) fn new(extents: Vec<SketchExtent>, keep_rows: usize, limit_bytes: u64) -> Self {
        let mut kept = Self { streams: HashMap::new(), bytes: 0, keep_rows: keep_rows as u64, limit_bytes };
        for SketchExtent { stream, last_block, rows, bytes } in extents {
            kept.add(&stream, last_block, rows, bytes);
        }
        kept
    }

    fn add(&mut self, stream: &SketchStream, first_step: u64, rows: u64, bytes: u64) {
        self.bytes += bytes;
        let of_group = self.streams.entry((stream.group.clone(), stream.kind)).or_default();
        of_group.rows += rows;
        let open = of_group.extents.range_mut((stream.segment, 0)..=(stream.segment, u64::MAX)).next_back();
        match open.filter(|(_, last)| last.rows + rows <= u64::from(BLOCK_ROWS)) {
            Some((_, last)) => {
                last.last_block = last.last_block.max(first_step);
                last.rows += rows;
                last.bytes += bytes;
            }
            None => {
                let extent = Extent { last_block: first_step, rows, bytes };
                of_group.extents.insert((stream.segment, first_step), extent);
            }
        }
    }

    /// Takes in what a commit brings, and drops in it what there is no more room for.
    pub(crate) fn admit(&mut self, commit: &mut RunCommit) {
        if commit.steps.is_empty() {
            return;
        }
        for block in &commit.sketches {
            self.add(&block.stream, block.first_step, block.rows.into(), block.payload.len() as u64);
        }
        let mut dropped = HashMap::new();
        for (key, of_group) in &mut self.streams {
            while let Some((at, extent)) = of_group.extents.first_key_value().map(|(at, extent)| (*at, *extent))
                && of_group.rows - extent.rows >= self.keep_rows
            {
                of_group.drop_first();
                self.bytes -= extent.bytes;
                dropped.insert(key.clone(), (at.0, extent.last_block));
            }
        }
        while self.bytes > self.limit_bytes
            && let Some((key, at, extent)) = self.oldest()
        {
            if let Some(of_group) = self.streams.get_mut(&key) {
                of_group.drop_first();
            }
            self.bytes -= extent.bytes;
            dropped.insert(key, (at.0, extent.last_block));
        }
        self.streams.retain(|_, of_group| !of_group.extents.is_empty());
        let mut dropped: VecDeque<_> = dropped
            .into_iter()
            .map(|((group, kind), (segment, last_block))| (SketchStream { segment, group, kind }, last_block))
            .collect();
        // Whatever order a map has: the same frames give the same commit.
        dropped.make_contiguous().sort();
        commit.dropped_sketches.extend(dropped);
    }

    /// The oldest rows of the run. Looked for only when the limit is passed, which one block at a time is.
    fn oldest(&self) -> Option<(GroupKind, (u32, u64), Extent)> {
        let first = |(key, of_group): (&GroupKind, &Stream)| {
            let (at, extent) = of_group.extents.first_key_value()?;
            Some((*at, key.clone(), *extent))
        };
        let oldest = self.streams.iter().filter_map(first).min_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        oldest.map(|(at, key, extent)| (key, at, extent))
    }
}

impl Stream {
    fn drop_first(&mut self) {
        if let Some((_, extent)) = self.extents.pop_first() {
            self.rows -= extent.rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use gradwatch_store::{RunId, SketchBlock, StepRow};

    use super::*;

    fn stream(segment: u32, group: &str) -> SketchStream {
        SketchStream { segment, group: group.into(), kind: Kind::Update }
    }

    fn block(segment: u32, group: &str, first_step: u64, rows: u32) -> SketchBlock {
        let last_step = first_step + u64::from(rows) - 1;
        SketchBlock {
            stream: stream(segment, group),
            first_step,
            last_step,
            rows,
            payload: vec![0; rows as usize * 10],
        }
    }

    fn dropped(kept: &mut KeptSketches, blocks: Vec<SketchBlock>) -> Vec<(SketchStream, u64)> {
        let mut commit = RunCommit::new(RunId(uuid::Uuid::nil()), 1);
        commit.sketches = blocks;
        commit.steps.push(StepRow {
            segment: 1,
            step: 1,
            seqs: Vec::new(),
            wall_time_us: 0,
            received_at_us: 0,
            learning_rate: None,
            weight_decay: None,
            phase: 0,
            complete: true,
            scalars: BTreeMap::new(),
            nonfinite_payloads: Vec::new(),
        });
        kept.admit(&mut commit);
        commit.dropped_sketches
    }

    #[test]
    fn the_last_rows_of_each_group_are_kept_over_segments() {
        let extent = SketchExtent { stream: stream(1, "all"), last_block: 60, rows: 64, bytes: 640 };
        let mut kept = KeptSketches::new(vec![extent], 128, u64::MAX);
        // Short blocks stand together until they are 64 rows.
        for first_step in 0..63 {
            assert_eq!(dropped(&mut kept, vec![block(2, "all", 100 + first_step, 1)]), []);
            assert_eq!(dropped(&mut kept, vec![block(1, "other", 100 + first_step, 1)]), []);
        }
        assert_eq!(dropped(&mut kept, vec![block(2, "all", 163, 1), block(2, "all", 164, 63)]), []);
        assert_eq!(dropped(&mut kept, vec![block(2, "all", 300, 1)]), [(stream(1, "all"), 60)]);
        // Late rows of an earlier attempt are the oldest, and go when there are enough others.
        assert_eq!(dropped(&mut kept, vec![block(1, "all", 70, 5)]), [(stream(1, "all"), 70)]);
        assert_eq!(dropped(&mut kept, vec![block(2, "all", 301, 64)]), [(stream(2, "all"), 163)]);
        assert_eq!(kept.bytes, (63 + 128) * 10);
    }

    #[test]
    fn the_oldest_of_the_run_make_room() {
        let mut kept = KeptSketches::new(Vec::new(), 1_000, 1_300);
        assert_eq!(dropped(&mut kept, vec![block(1, "b", 1, 64), block(1, "a", 2, 64)]), []);
        let gone = dropped(&mut kept, vec![block(2, "a", 1, 64), block(2, "a", 65, 10)]);
        assert_eq!(gone, [(stream(1, "a"), 2), (stream(1, "b"), 1)]);
        // One that is larger than the limit takes itself away.
        assert_eq!(dropped(&mut kept, vec![block(3, "c", 1, 200)]), [(stream(2, "a"), 65), (stream(3, "c"), 1)]);
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_to_be_kept() {
        let extent = SketchExtent { stream: stream(1, "all"), last_block: 60, rows: 64, bytes: 640 };
        let mut kept = KeptSketches::new(vec![extent], 0, u64::MAX);
        assert_eq!(dropped(&mut kept, Vec::new()), [(stream(1, "all"), 60)]);
        assert_eq!(dropped(&mut kept, Vec::new()), []);
    }
}
