//! A stream that begins: its attempt is loaded, its shard known, its writer the one that opened it.

use std::sync::Arc;

use gradwatch_store::{Segment, ShardMark};

use super::Actor;
use crate::{
    clock,
    error::{Error, ErrorCode},
    pipeline::{
        command::{StreamOpen, StreamOpened},
        held::Connection,
        load,
        owner::RunOwner,
        work::StreamId,
    },
};

impl Actor {
    /// Gives a shard's stream its place with the owner; loads what the owner does not hold yet.
    pub(super) async fn open(&mut self, owner: &mut RunOwner, open: &StreamOpen) -> Result<StreamOpened, Error> {
        let Some(segment) = owner.segments().iter().find(|segment| segment.attempt_id == open.attempt_id) else {
            let message =
                format!("attempt {} of run {} was not opened; call OpenRun first", open.attempt_id, self.run_id);
            return Err(Error { field: Some("attempt_id".into()), ..Error::new(ErrorCode::NotFound, message) });
        };
        let number = segment.segment;
        if open.shard >= segment.shard_count {
            let message = format!("{} is not one of the attempt's {} shards", open.shard, segment.shard_count);
            return Err(Error::invalid("shard", message));
        }
        let unopened = || {
            let message = format!("shard {} of this attempt was not opened; call OpenRun first", open.shard);
            Error::invalid("shard", message)
        };
        if owner.attempt(number).is_none() {
            let (segment, marks) = self.segment_and_marks(number).await?;
            let segment = segment.ok_or_else(unopened)?;
            let (suspect, poisoned) = (Arc::clone(&self.suspect), self.faults.poisoned(number));
            let loaded =
                load::segment_owner(&self.shared, (self.run_id, owner.project()), segment, &marks, suspect, poisoned)
                    .await?;
            owner.insert(loaded);
        }
        let shard = |owner: &RunOwner| owner.attempt(number)?.shard(open.shard)?.writer_id.clone();
        if shard(owner).is_none() {
            let marks = self.shared.store.shard_marks(self.run_id, number).await?;
            let mark = marks.iter().find(|mark| mark.shard == open.shard).ok_or_else(unopened)?;
            owner.open_shard(number, mark);
        }
        let attempt = owner.attempt(number);
        let (attempt, shard) = attempt
            .and_then(|attempt| Some((attempt, attempt.shard(open.shard)?)))
            .ok_or_else(|| Error::internal("an attempt that was loaded is gone"))?;
        if shard.writer_id.as_ref() != Some(&open.writer_id) {
            let message = format!("another process already writes shard {} of attempt {}", open.shard, open.attempt_id);
            return Err(Error { field: Some("writer_id".into()), ..Error::new(ErrorCode::AlreadyExists, message) });
        }
        self.generation += 1;
        let generation = self.generation;
        let opened = StreamOpened {
            id: StreamId { segment: number, shard: open.shard, generation },
            spec: Arc::new(attempt.segment.spec.clone()),
            refill_from_seq: attempt.refill_from_seq(open.shard),
            settled: shard.mark.subscribe(),
        };
        let connection = Connection { generation, outbox: open.outbox.clone() };
        owner.connect(number, open.shard, connection, clock::now_us());
        Ok(opened)
    }

    /// An attempt and its marks as they are committed.
    async fn segment_and_marks(&self, number: u32) -> Result<(Option<Segment>, Vec<ShardMark>), Error> {
        let store = &self.shared.store;
        let segments = store.segments(self.run_id).await?;
        let segment = segments.into_iter().find(|segment| segment.segment == number);
        Ok((segment, store.shard_marks(self.run_id, number).await?))
    }
}
