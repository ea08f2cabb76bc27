//! An attempt that another process goes on with.

use uuid::Uuid;

use crate::error::OpenError;
use crate::validate::check_name;

/// An attempt whose frames can be made again at any time, from files for instance, so that another process can go on
/// with it where one has stopped, without a hole in its windows.
///
/// Invariant of the caller: the frame of a sequence number is always the same one, and one process at a time sends them.
#[derive(Clone, Debug)]
pub struct RepeatableAttempt {
    /// The attempt's id; of an attempt that goes on, the one it began with.
    pub attempt_id: Uuid,
    /// Who writes the attempt: the same name in every process that does.
    pub writer_id: String,
    /// Sequence number of the first frame that will be submitted, at least 1.
    pub first_seq: u64,
    /// The server has settled everything up to here, 0 when it knows nothing of the attempt. Frames from `first_seq` to
    /// this are submitted as if they were new; the server asks for them when its windows need them again.
    pub settled_seq: u64,
}

/// An attempt of which the server may have frames that this process never sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Continuation {
    pub(crate) first_seq: u64,
    pub(crate) settled_seq: u64,
}

impl RepeatableAttempt {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        check_name("repeatable_attempt: writer_id", &self.writer_id)?;
        if self.first_seq == 0 || self.first_seq > self.settled_seq.saturating_add(1) {
            let problem = format!("first_seq {} is not between 1 and settled_seq + 1", self.first_seq);
            return Err(OpenError::argument("repeatable_attempt", problem));
        }
        Ok(())
    }

    pub(crate) fn continuation(&self) -> Continuation {
        Continuation { first_seq: self.first_seq, settled_seq: self.settled_seq }
    }
}
