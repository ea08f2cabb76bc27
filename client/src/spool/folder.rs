//! The folder of an attempt of a shard: who holds it, and what it says about itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use gradwatch_proto::v1;
use prost::Message as _;
use uuid::Uuid;

use super::acked::Acked;
use super::lock::Lock;
use super::record::{ATTEMPT, seal, take, unseal};

const ATTEMPT_FILE: &str = "attempt";
/// Of the file `attempt` and of the records in the logs.
const FORMAT_VERSION: u32 = 1;

/// A folder that this process holds the lock of.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// None while it is made again.
    lock: Option<Lock>,
}

/// Why a folder is not opened.
#[derive(Debug)]
pub(super) enum Held {
    /// Another process writes or delivers it.
    Live,
    Failed(io::Error),
}

/// What the name of a folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) started_at_us: i64,
    pub(super) attempt_id: Uuid,
    pub(super) shard: u32,
}

/// What the file `attempt` says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Declaration {
    pub(super) request: v1::OpenRunRequest,
    pub(super) server: String,
}

impl Folder {
    /// Makes the folder of an attempt.
    pub(super) fn create(dir: &Path, declaration: &Declaration) -> io::Result<Self> {
        let request = &declaration.request;
        let attempt = request.attempt.as_ref().ok_or_else(|| io::Error::other("there is no attempt"))?;
        // Digits so many that names sort like numbers.
        let name = format!("{:016}-{}-{}", attempt.started_at_us, attempt.attempt_id, request.shard);
        let mut folder = Self { path: dir.join(&request.run_id).join(name), lock: None };
        folder.make(declaration)?;
        Ok(folder)
    }

    /// Makes it, or again where somebody has deleted it.
    pub(super) fn make(&mut self, declaration: &Declaration) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        // That of a file that was deleted keeps nobody out.
        self.lock = None;
        self.lock = Some(Lock::take(&self.path).map_err(|held| match held {
            Held::Live => io::Error::other("another process writes this attempt of this shard"),
            Held::Failed(error) => error,
        })?);
        replace(&self.path.join(ATTEMPT_FILE), &declaration.encode())
    }

    /// Takes the lock of a folder that is there.
    pub(super) fn open(path: &Path) -> Result<Self, Held> {
        Ok(Self { path: path.to_owned(), lock: Some(Lock::take(path)?) })
    }

    /// Brings to the disk itself what says whose the logs are, and where they are: without that they are nothing.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(self.path.join(ATTEMPT_FILE))?.sync_all()?;
        // Its own, that of the run and that of the spool.
        self.path.ancestors().take(3).try_for_each(|folder| File::open(folder)?.sync_all())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder, the logs of which are gone already, and that of the run if it was the last.
    pub(super) fn remove(self) {
        // Whatever cannot be removed is found again, and says that nothing is left to send: `acked` goes last.
        let _ = fs::remove_file(self.path.join(ATTEMPT_FILE));
        Acked::remove(&self.path);
        let _ = Lock::remove_file(&self.path);
        let _ = fs::remove_dir(&self.path);
        if let Some(run) = self.path.parent() {
            let _ = fs::remove_dir(run);
        }
    }
}

/// Writes a file that is whole or not there, whatever happens meanwhile.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

impl Place {
    pub(super) fn of(name: &str) -> Option<Self> {
        let (started_at_us, rest) = name.split_once('-')?;
        let (attempt_id, shard) = rest.rsplit_once('-')?;
        Some(Self {
            started_at_us: started_at_us.parse().ok()?,
            attempt_id: attempt_id.parse().ok()?,
            shard: shard.parse().ok()?,
        })
    }
}

impl Declaration {
    /// Whether a folder has one, readable or not.
    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(ATTEMPT_FILE).exists()
    }

    fn encode(&self) -> Vec<u8> {
        let server_bytes = (self.server.len() as u32).to_le_bytes();
        let request = self.request.encode_to_vec();
        seal(ATTEMPT, &[&FORMAT_VERSION.to_le_bytes(), &server_bytes, self.server.as_bytes(), &request])
    }

    /// The words say what is wrong.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let file = fs::read(folder.join(ATTEMPT_FILE)).map_err(|error| format!("its file `attempt`: {error}"))?;
        let damaged = || "its file `attempt` is damaged".to_owned();
        let mut rest = unseal(ATTEMPT, &file).ok_or_else(damaged)?;
        let version = u32::from_le_bytes(take(&mut rest).ok_or_else(damaged)?);
        if version != FORMAT_VERSION {
            return Err(format!("it is of format {version}; this version reads {FORMAT_VERSION}"));
        }
        let server_bytes = u32::from_le_bytes(take(&mut rest).ok_or_else(damaged)?) as usize;
        let (server, request) = rest.split_at_checked(server_bytes).ok_or_else(damaged)?;
        let server = String::from_utf8(server.to_vec()).map_err(|_| damaged())?;
        let request = v1::OpenRunRequest::decode(request).map_err(|_| damaged())?;
        Ok(Self { request, server })
    }
}
