//! Kept rows of windows.

use gradwatch_store::{Kind, RunCommit, SketchBlock, SketchBlockInfo, SketchExtent, SketchStream, StoreError};

use crate::fixture::{AnyStore, owned, resume, run_id, step, wide_analysis};

pub(crate) fn stream(segment: u32, group: &str, kind: Kind) -> SketchStream {
    SketchStream { segment, group: group.to_owned(), kind }
}

pub(crate) fn block(segment: u32, group: &str, first_step: u64, rows: u32) -> SketchBlock {
    let last_step = first_step + u64::from(rows) - 1;
    let stream = stream(segment, group, Kind::Update);
    SketchBlock { stream, first_step, last_step, rows, payload: vec![first_step as u8; 3 * rows as usize] }
}

/// The first steps of the blocks of a stream.
async fn kept(store: &AnyStore, segment: u32, group: &str) -> Vec<u64> {
    let index = store.sketch_index(run_id(1), &stream(segment, group, Kind::Update)).await.unwrap();
    index.iter().map(|block| block.first_step).collect()
}

async fn commit(store: &AnyStore, commit: &RunCommit, change: impl FnOnce(&mut RunCommit)) {
    let mut next = commit.clone();
    change(&mut next);
    store.commit(&[next]).await.unwrap();
}

pub(crate) async fn blocks_come_back_in_order(store: AnyStore) {
    let of_run = owned(&store, 1).await;
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    let blocks = [block(1, "all", 65, 30), block(1, "all", 1, 64), block(2, "all", 6, 1), block(1, "other", 1, 2)];
    commit(&store, &of_run, |commit| {
        commit.sketches = blocks.to_vec();
        let gradient = SketchBlock { stream: stream(1, "all", Kind::Gradient), ..block(1, "all", 1, 5) };
        commit.sketches.push(gradient);
    })
    .await;
    let all = stream(1, "all", Kind::Update);
    let info = |first_step, rows: u32, bytes| SketchBlockInfo {
        first_step,
        last_step: first_step + u64::from(rows) - 1,
        rows,
        bytes,
    };
    assert_eq!(store.sketch_index(run_id(1), &all).await.unwrap(), [info(1, 64, 192), info(65, 30, 90)]);
    assert_eq!(store.sketch_blocks(run_id(1), &all, (0, 65)).await.unwrap(), [blocks[1].clone(), blocks[0].clone()]);
    assert_eq!(store.sketch_blocks(run_id(1), &all, (2, 65)).await.unwrap(), [blocks[0].clone()]);
    assert_eq!(store.sketch_blocks(run_id(1), &all, (2, 64)).await.unwrap(), []);
    let extent = |segment, group: &str, kind, last_block, rows, bytes| SketchExtent {
        stream: stream(segment, group, kind),
        last_block,
        rows,
        bytes,
    };
    let of_gradient = extent(1, "all", Kind::Gradient, 1, 5, 15);
    let of_others = [extent(2, "all", Kind::Update, 6, 1, 3), extent(1, "other", Kind::Update, 1, 2, 6)];
    let together = [of_gradient.clone(), extent(1, "all", Kind::Update, 65, 94, 282)];
    assert_eq!(store.sketch_extents(run_id(1), 94).await.unwrap(), [&together[..], &of_others[..]].concat());
    let apart = [of_gradient, extent(1, "all", Kind::Update, 1, 64, 192), extent(1, "all", Kind::Update, 65, 30, 90)];
    assert_eq!(store.sketch_extents(run_id(1), 93).await.unwrap(), [&apart[..], &of_others[..]].concat());
    // Once each.
    let again = store.commit(&[RunCommit { sketches: vec![blocks[0].clone()], ..of_run.clone() }]).await;
    assert!(matches!(again, Err(StoreError::UniqueViolation(_))), "{again:?}");
    let nowhere = store.commit(&[RunCommit { sketches: vec![block(3, "all", 1, 1)], ..of_run }]).await;
    assert!(matches!(nowhere, Err(StoreError::Data(_))), "{nowhere:?}");
}

pub(crate) async fn a_deletion_takes_all_that_is_older(store: AnyStore) {
    let (of_run, other) = (owned(&store, 1).await, owned(&store, 2).await);
    store.open_attempt(&resume(1, 101, 100, 5)).await.unwrap();
    for of in [&of_run, &other] {
        commit(&store, of, |commit| {
            for first_step in [1, 65, 129] {
                commit.sketches.push(block(1, "all", first_step, 64));
                commit.sketches.push(block(1, "other", first_step, 64));
            }
        })
        .await;
    }
    commit(&store, &of_run, |commit| {
        commit.sketches = vec![block(2, "all", 6, 10), block(2, "all", 16, 10)];
        // What comes in the same commit can go in it.
        commit.dropped_sketches = vec![(stream(2, "all", Kind::Update), 6), (stream(1, "other", Kind::Update), 65)];
    })
    .await;
    assert_eq!(kept(&store, 1, "all").await, [] as [u64; 0]);
    assert_eq!(kept(&store, 2, "all").await, [16]);
    assert_eq!(kept(&store, 1, "other").await, [129]);
    assert_eq!(store.sketch_extents(run_id(2), 1).await.unwrap().len(), 6);
}

pub(crate) async fn what_an_analysis_reads_is_not_deleted(store: AnyStore) {
    let of_run = owned(&store, 1).await;
    commit(&store, &of_run, |commit| {
        commit.steps = vec![step(1, 128)];
        commit.sketches = vec![block(1, "all", 1, 64), block(1, "all", 65, 64)];
    })
    .await;
    store.create_analysis(&wide_analysis("wide")).await.unwrap();
    let drop_up_to = |commit: &mut RunCommit, first_step| {
        commit.dropped_sketches = vec![(stream(1, "all", Kind::Update), first_step)];
    };
    commit(&store, &of_run, |commit| {
        commit.sketches = vec![block(1, "all", 129, 64)];
        drop_up_to(commit, 129);
    })
    .await;
    // What is behind the mark is not pinned.
    assert_eq!(kept(&store, 1, "all").await, [1, 65]);
    assert!(store.mark_analysis_deleting(run_id(1), "wide").await.unwrap());
    commit(&store, &of_run, |commit| {
        commit.sketches = vec![block(1, "all", 193, 64), block(1, "all", 257, 64)];
        drop_up_to(commit, 193);
    })
    .await;
    assert_eq!(kept(&store, 1, "all").await, [257]);
}
