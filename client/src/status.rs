//! What a run can say about itself, while it goes and when it is over.

use std::fmt;
use std::path::PathBuf;

/// A snapshot of a run. What is submitted and in none of `settled`, `dropped` and `rejected` is still under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Frames taken by [`Run::submit`](crate::Run::submit).
    pub submitted: u64,
    /// Frames that the server has committed.
    pub settled: u64,
    /// Frames given up for lack of room, or larger than the server takes. The server marks the run as lossy.
    pub dropped: u64,
    /// Frames that the server found invalid.
    pub rejected: u64,
    /// Frames under way that are on disk, in the spool: nothing but the disk can lose them.
    pub spooled: u64,
    /// What the run's spool takes on disk, acknowledged frames that the server may need again included.
    pub spooled_bytes: u64,
    /// Bytes held for the server: frames under way, and those it may need again after a restart.
    pub buffered_bytes: usize,
    /// Whether the stream is open.
    pub connected: bool,
    /// The server's number for the attempt that is being delivered. None before the first contact.
    pub segment: Option<u32>,
}

/// What became of a run's frames: `submitted = settled + dropped + rejected + spooled
/// + undelivered`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Frames taken by [`Run::submit`](crate::Run::submit).
    pub submitted: u64,
    /// Frames that the server has committed.
    pub settled: u64,
    /// Frames given up for lack of room, or larger than the server takes.
    pub dropped: u64,
    /// Frames that the server found invalid.
    pub rejected: u64,
    /// Frames that wait on disk for [`spool::SpooledAttempt::deliver`](crate::spool::SpooledAttempt::deliver), which is
    /// what `gradwatch sync` does.
    pub spooled: u64,
    /// Frames that the server has not acknowledged and that are not on disk. It may have some of them all the same.
    pub undelivered: u64,
    /// The spool, when frames or the run's end wait in it.
    pub spool_dir: Option<PathBuf>,
    /// What went wrong with the delivery of frames or of the run's end. None when nothing did.
    pub reason: Option<String>,
    /// The server's newest rejections, oldest first: a few, however many there were.
    pub rejections: Vec<String>,
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gradwatch: {} of {} frames settled", self.settled, self.submitted)?;
        for (count, fate) in
            [(self.dropped, "dropped"), (self.rejected, "rejected"), (self.undelivered, "not delivered")]
        {
            if count > 0 {
                write!(f, ", {count} {fate}")?;
            }
        }
        if let Some(dir) = &self.spool_dir {
            let what =
                if self.spooled == 0 { "the run's end waits".to_owned() } else { format!("{} wait", self.spooled) };
            write!(f, ", {what} in {} until `gradwatch sync` sends them", dir.display())?;
        }
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(rejection) = self.rejections.last() {
            write!(f, "; last rejection: {rejection}")?;
        }
        Ok(())
    }
}
