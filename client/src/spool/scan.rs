//! Finding what waits in a spool.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gradwatch_proto::v1;
use uuid::Uuid;

use super::acked::Acked;
use super::folder::{Declaration, Place};
use super::lock::Lock;
use super::log::{Last, LogFile};
use super::reader::{FileReader, Step};
use super::record::{Finish, Record};
use crate::run::Outcome;

/// What waits of one attempt of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledAttempt {
    /// Its folder.
    pub path: PathBuf,
    /// The run.
    pub run_id: Uuid,
    /// The attempt.
    pub attempt_id: Uuid,
    /// The shard's number, from 0.
    pub shard: u32,
    /// Of so many.
    pub shard_count: u32,
    /// When the attempt began: the job's clock, microseconds since the Unix epoch.
    pub started_at_us: i64,
    /// The attempt that it goes on with, and the last step of that which still stands.
    pub resumes: Option<(Uuid, u64)>,
    /// The run's project.
    pub project: String,
    /// The run's name.
    pub name: String,
    /// The server that it was meant for.
    pub server: String,
    /// Frames that are not known to be acknowledged.
    pub frames: u64,
    /// What its records take on disk.
    pub bytes: u64,
    /// When the oldest file that holds such frames was last written to.
    pub oldest_at: Option<SystemTime>,
    /// How the run ended, if that waits here.
    pub outcome: Option<Outcome>,
    /// Another process is writing or delivering it.
    pub live: bool,
    /// What was found to be damaged, in words. The rest is delivered all the same, and the server told of the hole.
    pub damage: Vec<String>,
    /// Why it cannot be delivered at all, in words.
    pub unreadable: Option<String>,
}

/// All that is needed to deliver an attempt.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) request: v1::OpenRunRequest,
    pub(super) server: String,
    pub(super) acked: Option<Acked>,
    pub(super) content: Content,
}

/// What whole records say.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) files: VecDeque<LogFile>,
    pub(super) last: Option<Last>,
    pub(super) finish: Option<Finish>,
    /// Frames that are not known to be settled.
    pub(super) frames: u64,
    oldest_at: Option<SystemTime>,
    damage: Vec<String>,
}

/// Finds what waits in a spool's folder, in the order to deliver it in: runs by their first start, attempts of a run by
/// what they resume, else by their start. A folder that is not there is empty. Every record is read and checked.
///
/// # Errors
/// The folder cannot be read.
pub fn scan(dir: &Path) -> io::Result<Vec<SpooledAttempt>> {
    let mut attempts = Vec::new();
    for run in folders(dir)? {
        let Some(run_id) = run.file_name().and_then(|name| name.to_str()?.parse::<Uuid>().ok()) else { continue };
        // It may be gone since it was listed.
        for path in folders(&run).unwrap_or_default() {
            let Some(place) = path.file_name().and_then(|name| Place::of(name.to_str()?)) else { continue };
            attempts.extend(look(path, run_id, place));
        }
    }
    Ok(in_order(attempts))
}

fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A file has no folders in it; one that is gone meanwhile neither.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn look(path: PathBuf, run_id: Uuid, place: Place) -> Option<SpooledAttempt> {
    let live = Lock::is_taken(&path);
    let mut attempt = SpooledAttempt {
        run_id,
        attempt_id: place.attempt_id,
        shard: place.shard,
        shard_count: 1,
        started_at_us: place.started_at_us,
        resumes: None,
        project: String::new(),
        name: String::new(),
        server: String::new(),
        frames: 0,
        bytes: 0,
        oldest_at: None,
        outcome: None,
        live,
        damage: Vec::new(),
        unreadable: None,
        path,
    };
    match Found::read(&attempt.path) {
        Ok(found) => attempt.describe(found),
        // It was just made, or is just being removed.
        Err(_) if !has_logs(&attempt.path) => return None,
        Err(words) => attempt.unreadable = Some(words),
    }
    Some(attempt)
}

/// Whether nothing is left to deliver: somebody else has done it.
pub(super) fn is_gone(path: &Path) -> bool {
    !Declaration::exists(path) && !has_logs(path)
}

fn has_logs(path: &Path) -> bool {
    log_files(path).is_ok_and(|files| !files.is_empty())
}

impl SpooledAttempt {
    fn describe(&mut self, found: Found) {
        let resumes = found.request.attempt.as_ref().and_then(|attempt| attempt.resumes.as_ref());
        self.resumes = resumes.and_then(|it| Some((it.attempt_id.parse().ok()?, it.step)));
        self.shard_count = found.request.shard_count;
        self.project = found.request.project;
        self.name = found.request.name;
        self.server = found.server;
        self.frames = found.content.frames;
        self.bytes = found.content.files.iter().map(|file| file.bytes).sum();
        self.oldest_at = found.content.oldest_at;
        self.outcome = found.content.finish.and_then(|finish| Outcome::from_wire(finish.outcome));
        // The end of a file that is being written may be half there.
        self.damage = if self.live { Vec::new() } else { found.content.damage };
    }
}

impl Found {
    /// Reads all of a folder. The words say why it cannot be.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let Declaration { request, server } = Declaration::read(path)?;
        let acked = Acked::read(path);
        let content = Content::read(path, acked.unwrap_or_default().settled_seq).map_err(|error| error.to_string())?;
        Ok(Self { request, server, acked, content })
    }
}

/// (first seq, path), in order.
fn log_files(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(first_seq) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
        {
            files.push((first_seq, path));
        }
    }
    files.sort();
    Ok(files)
}

impl Content {
    fn read(path: &Path, settled_seq: u64) -> io::Result<Self> {
        let mut content = Self::default();
        for (first_seq, path) in log_files(path)? {
            match content.read_file(first_seq, &path, settled_seq) {
                // It was acknowledged and deleted meanwhile, by the process that writes it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(content)
    }

    fn read_file(&mut self, first_seq: u64, path: &Path, settled_seq: u64) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let mut file = LogFile::starting_at(first_seq);
        file.newest_at = metadata.modified()?;
        let mut reader = FileReader::open(path)?;
        loop {
            let offset = reader.offset();
            match reader.next(metadata.len())? {
                Step::Record(Record::Entry(entry)) => {
                    file.count(entry.stretch(), entry.frames(), reader.offset() - offset);
                    self.last = Some(Last { seq: file.last_seq, step: file.last_step });
                    if file.last_seq > settled_seq {
                        self.frames += entry.frames();
                        self.oldest_at = self.oldest_at.or(Some(file.newest_at));
                    }
                }
                Step::Record(Record::Finish(finish)) => {
                    file.bytes += reader.offset() - offset;
                    self.finish = Some(finish);
                }
                Step::End => break,
                Step::Damaged => {
                    let left = metadata.len() - offset;
                    self.damage
                        .push(format!("the last {left} bytes of {} are no whole record", LogFile::name(first_seq)));
                    break;
                }
            }
        }
        self.files.push_back(file);
        Ok(())
    }
}

/// Runs by their first start; within a run no attempt before one that it resumes.
fn in_order(mut attempts: Vec<SpooledAttempt>) -> Vec<SpooledAttempt> {
    let mut first_start = HashMap::new();
    for attempt in &attempts {
        let start = first_start.entry(attempt.run_id).or_insert(attempt.started_at_us);
        *start = attempt.started_at_us.min(*start);
    }
    let start = |attempt: &SpooledAttempt| first_start.get(&attempt.run_id).copied();
    attempts.sort_by_key(|attempt| {
        (start(attempt), attempt.run_id, attempt.started_at_us, attempt.attempt_id, attempt.shard)
    });
    let mut ordered: Vec<SpooledAttempt> = Vec::with_capacity(attempts.len());
    let mut left = VecDeque::from(attempts);
    // A clock that went back may have put one before what it resumes.
    let mut put_off = 0;
    while let Some(attempt) = left.pop_front() {
        let resumed = attempt.resumes.map(|(resumed, _)| (attempt.run_id, resumed));
        let behind = left.iter().rposition(|other| Some((other.run_id, other.attempt_id)) == resumed);
        match behind {
            // Nothing resumes itself, but files may say anything.
            Some(behind) if put_off < left.len() => {
                left.insert(behind + 1, attempt);
                put_off += 1;
            }
            _ => {
                ordered.push(attempt);
                put_off = 0;
            }
        }
    }
    ordered
}
