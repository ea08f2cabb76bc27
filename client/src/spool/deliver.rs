//! Sending what waits in a spool.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::buffer::SpooledBuffer;
use super::disk::Disk;
use super::folder::{Folder, Held};
use super::log::{Last, Log};
use super::reader::Reader;
use super::scan::{Found, SpooledAttempt, is_gone};
use crate::builder::DEFAULT_STALL_TIMEOUT;
use crate::credentials::{Authorization, Token, endpoint};
use crate::error::OpenError;
use crate::shared::Shared;
use crate::uploader::{Connection, SpooledDelivery};

/// Memory for frames.
const BUFFER_BYTES: usize = 64 << 20;
/// How long the server may acknowledge nothing unless told otherwise. Longer than one waits for a shard that does not come
/// (30 s, and 60 s more when it has just begun).
const DEFAULT_PATIENCE: Duration = Duration::from_secs(120);
/// How long there may be no connection.
const MAX_AWAY: Duration = Duration::from_secs(15);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A server to deliver to.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before something is delivered"]
pub struct Destination {
    server: String,
    token: Option<Token>,
    ca_certificate: Option<String>,
    patience: Duration,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Frames that waited.
    pub frames: u64,
    /// Of these, how many the server has: they were settled or rejected, now or before.
    pub settled: u64,
    /// A connection is open.
    pub connected: bool,
}

/// What became of an attempt, which is in the spool no longer. All is zero where somebody else has delivered it meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Frames that the server has committed, now or before.
    pub settled: u64,
    /// Frames that the server takes at no time: they are larger than its messages, or turned out to be damaged.
    pub dropped: u64,
    /// Frames that the server found invalid.
    pub rejected: u64,
    /// The server was told how the run ended.
    pub finished: bool,
    /// The server's newest rejections, oldest first: a few, however many there were.
    pub rejections: Vec<String>,
}

/// Why an attempt was not delivered. What was not acknowledged is still in the spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The server's address, the token or the certificate is none.
    #[error(transparent)]
    Argument(#[from] OpenError),
    /// Another process is writing or delivering it.
    #[error("another process is writing or delivering it")]
    Live,
    /// Its folder cannot be read.
    #[error("{reason}")]
    Unreadable {
        /// What is wrong.
        reason: String,
    },
    /// The server wants nothing of it.
    #[error("{reason}")]
    Refused {
        /// The server's words.
        reason: String,
    },
    /// There was no connection for 15 s, or the server acknowledged nothing for as long as [`Destination::patience`] says.
    #[error("the server has acknowledged nothing for {waited:?}{}", .cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Stalled {
        /// How long that was.
        waited: Duration,
        /// Why there is no connection, when there is none.
        cause: Option<String>,
    },
    /// This machine has no runtime to give.
    #[error("the delivery could not be started")]
    Runtime(#[source] io::Error),
}

impl Destination {
    /// A server such as `http://127.0.0.1:7700`.
    pub fn new(server: impl Into<String>) -> Self {
        Self { server: server.into(), token: None, ca_certificate: None, patience: DEFAULT_PATIENCE }
    }

    /// The token that lets it in, see [`RunBuilder::token`](crate::RunBuilder::token).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token(token.into()));
        self
    }

    /// See [`RunBuilder::ca_certificate`](crate::RunBuilder::ca_certificate).
    pub fn ca_certificate(mut self, pem: impl Into<String>) -> Self {
        self.ca_certificate = Some(pem.into());
        self
    }

    /// How long the server may acknowledge nothing before a delivery is given up. Default 2 minutes. Without a connection it
    /// is 15 s at most.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl SpooledAttempt {
    /// Sends everything that waits and, when all of it is settled, removes it from the spool. The run's end is told if
    /// it waits here; without, the server notices the silence. Blocks; `progress` is called now and then.
    ///
    /// Attempts of a run go in the order of [`scan`](super::scan). Shards of one attempt go at the same time, each on a
    /// thread of its own: a step is settled when all of them have brought it.
    ///
    /// # Errors
    /// [`DeliverError`]. What was acknowledged is not sent again another time.
    pub fn deliver(
        &self,
        destination: &Destination,
        mut progress: impl FnMut(Progress),
    ) -> Result<Delivered, DeliverError> {
        let connection = Connection::new(
            endpoint(&destination.server, destination.ca_certificate.as_deref())?,
            Authorization::new(destination.token.clone())?,
            DEFAULT_STALL_TIMEOUT,
        );
        let shared = Arc::new(Shared::new());
        let Some(delivery) = left_behind(&self.path, BUFFER_BYTES, &shared)? else { return Ok(Delivered::default()) };
        let frames = shared.status().spooled;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(DeliverError::Runtime)?;
        let mut tell = |shared: &Shared| {
            let status = shared.status();
            let settled = (status.settled + status.rejected).min(frames);
            progress(Progress { frames, settled, connected: status.connected });
        };
        let (patience, away) = (destination.patience, destination.patience.min(MAX_AWAY));
        let outcome = runtime.block_on(async {
            let mut delivery = pin!(delivery.run(connection, shared.clone()));
            let (mut done, mut since, mut connected_at) = (0, Instant::now(), Instant::now());
            loop {
                tokio::select! {
                    is_over = &mut delivery => return Ok(is_over),
                    () = sleep(PROGRESS_INTERVAL) => tell(&shared),
                }
                let status = shared.status();
                if status.connected {
                    connected_at = Instant::now();
                }
                let now_done = status.settled + status.rejected + status.dropped;
                if now_done > done {
                    (done, since) = (now_done, Instant::now());
                } else if connected_at.elapsed() >= away {
                    return Err(away);
                } else if since.elapsed() >= patience {
                    return Err(patience);
                }
            }
        });
        runtime.shutdown_background();
        tell(&shared);
        let words = shared.words();
        let status = shared.status();
        match outcome {
            _ if words.refusal.is_some() => Err(DeliverError::Refused { reason: words.refusal.unwrap_or_default() }),
            Ok(true) => Ok(Delivered {
                settled: status.settled,
                dropped: status.dropped,
                rejected: status.rejected,
                finished: shared.finished.load(Relaxed),
                rejections: words.rejections.into(),
            }),
            stopped => {
                let cause = words.interruption.or(words.spool_problem);
                Err(DeliverError::Stalled { waited: stopped.err().unwrap_or_default(), cause })
            }
        }
    }
}

/// What the uploader works by to deliver a folder. None where it is gone.
pub(crate) fn left_behind(
    path: &Path,
    buffer_bytes: usize,
    shared: &Arc<Shared>,
) -> Result<Option<SpooledDelivery>, DeliverError> {
    let folder = match Folder::open(path) {
        Ok(folder) => folder,
        Err(Held::Live) => return Err(DeliverError::Live),
        Err(Held::Failed(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(Held::Failed(error)) => return Err(DeliverError::Unreadable { reason: error.to_string() }),
    };
    if is_gone(path) {
        // Its lock may just have been made anew.
        folder.remove();
        return Ok(None);
    }
    // What was found before may have been delivered since.
    let Found { request, acked, content, .. } =
        Found::read(path).map_err(|reason| DeliverError::Unreadable { reason })?;
    let declared = acked.is_some();
    let acked = acked.unwrap_or_default();
    let settled = Last { seq: acked.settled_seq, step: acked.settled_step };
    let finish = content.finish;
    let end = finish.map(|finish| Last { seq: finish.last_seq, step: finish.last_step });
    // What is known to have been there, whether it is here or not.
    let last = [content.last, end, Some(settled)].into_iter().flatten().max_by_key(|last| last.seq).unwrap_or(settled);
    let log = Log::of_files(folder.path(), content.files, Some(last));
    let kept_seq = acked.keep_from_seq.max(log.first_seq().unwrap_or(0));
    let (first_seq, last_step) = if (1..=settled.seq).contains(&kept_seq) {
        // The step before it is not known, and settled.
        (kept_seq, None)
    } else {
        let resumed = request.attempt.as_ref().and_then(|attempt| attempt.resumes.as_ref()).map(|it| it.step);
        (settled.seq + 1, if settled.seq > 0 { Some(settled.step) } else { resumed })
    };
    let disk = Disk::of_folder(folder, log, acked, content.frames, shared.clone());
    let buffer = SpooledBuffer::of_disk(disk, Reader::after(last_step), first_seq, settled.seq, buffer_bytes);
    Ok(Some(SpooledDelivery {
        request,
        buffer: Box::new(buffer),
        buffer_bytes,
        settled_seq: settled.seq,
        last_seq: last.seq,
        declared,
        outcome: finish.map(|finish| finish.outcome),
    }))
}
