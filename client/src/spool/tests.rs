//! Files that were cut, changed or mixed up: whatever is whole is read, in order, and everything else is a hole.

use std::collections::VecDeque;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gradwatch_proto::v1;
use uuid::Uuid;

use super::folder::{Declaration, Folder, Held};
use super::log::Log;
use super::reader::Reader;
use super::record::Finish;
use super::scan::Found;
use super::{RunSpool, Spool, SpooledBuffer, scan};
use crate::buffer::{Buffer as _, Entry, Stretch};
use crate::random::SplitMix64;
use crate::shared::Shared;

fn declaration(run_id: Uuid, attempt_id: Uuid, started_at_us: i64, resumes: Option<Uuid>) -> Declaration {
    let resumes = resumes.map(|attempt_id| v1::Resumes { attempt_id: attempt_id.to_string(), step: 7 });
    let attempt = v1::Attempt { attempt_id: attempt_id.to_string(), started_at_us, resumes, unrelated: false };
    let request = v1::OpenRunRequest {
        run_id: run_id.to_string(),
        project: "p".to_owned(),
        name: "n".to_owned(),
        attempt: Some(attempt),
        shard: 1,
        shard_count: 2,
        ..v1::OpenRunRequest::default()
    };
    Declaration { request, server: "http://127.0.0.1:1".to_owned() }
}

fn create(dir: &Path) -> Folder {
    Folder::create(dir, &declaration(Uuid::new_v4(), Uuid::new_v4(), 5, None)).unwrap()
}

/// Frames with stretches between them, in files of at least `max_bytes / 8`.
fn write(folder: &Folder, random: &mut SplitMix64, max_bytes: u64, count: usize) -> Vec<Entry> {
    let mut log = Log::create(folder.path(), max_bytes);
    let mut entries = Vec::new();
    let mut seq = 1;
    for _ in 0..count {
        let entry = if random.below(5) == 0 {
            let to_seq = seq + random.below(4);
            Entry::Dropped(Stretch { from_seq: seq, to_seq, first_step: 10 * seq, last_step: 10 * to_seq })
        } else {
            let bytes = vec![seq as u8; random.below(60) as usize].into();
            let attached = vec![!seq as u8; random.below(20) as usize].into();
            Entry::Frame { seq, step: 10 * seq, bytes, attached }
        };
        log.append(&entry).unwrap();
        seq = entry.last_seq() + 1;
        entries.push(entry);
    }
    log.finish(Finish { outcome: 2, last_seq: seq - 1, last_step: 10 * (seq - 1) }).unwrap();
    entries
}

/// Everything that is read back, and the frames found to be damaged on the way.
fn read_all(log: &mut Log) -> (Vec<Entry>, u64) {
    let mut reader = Reader::after(None);
    let (mut entries, mut lost) = (Vec::new(), 0);
    let mut seq = 1;
    while let Some(read) = reader.read(log, seq).unwrap() {
        assert_eq!(read.entry.first_seq(), seq, "entries follow each other");
        let Stretch { first_step, last_step, .. } = read.entry.stretch();
        assert!(first_step <= last_step);
        seq = read.entry.last_seq() + 1;
        lost += read.lost_frames;
        entries.push(read.entry);
    }
    (entries, lost)
}

/// The log of a folder as a process that finds it sees it.
fn found(path: &Path) -> (Log, Found) {
    let mut found = Found::read(path).unwrap();
    let files = std::mem::take(&mut found.content.files);
    (Log::of_files(path, files, found.content.last), found)
}

/// Paths of the log's files, in order.
fn files(path: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

#[test]
fn a_tail_that_is_cut_anywhere_costs_what_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = create(dir.path());
    let entries = write(&folder, &mut SplitMix64(1), 8 << 20, 40);
    let [file] = &files(folder.path())[..] else { panic!("it is one file") };
    let whole = fs::read(file).unwrap();
    let (mut log, content) = found(folder.path());
    assert_eq!(content.content.finish.map(|finish| finish.outcome), Some(2));
    assert_eq!(read_all(&mut log), (entries.clone(), 0));
    let mut lengths = Vec::new();
    for cut in (0..whole.len()).rev() {
        fs::write(file, &whole[..cut]).unwrap();
        let (mut log, content) = found(folder.path());
        assert_eq!(content.content.finish, None);
        let (read, lost) = read_all(&mut log);
        assert_eq!(read, entries[..read.len()], "cut at {cut}");
        assert_eq!((lost, log.last().map_or(0, |last| last.seq)), (0, read.last().map_or(0, Entry::last_seq)));
        lengths.push(read.len());
    }
    // The end of the run is the last record.
    assert_eq!((lengths.first(), lengths.last()), (Some(&40), Some(&0)));
    assert!(lengths.windows(2).all(|pair| pair[0] == pair[1] || pair[0] == pair[1] + 1), "one record after the other");
}

#[test]
fn a_changed_byte_costs_the_rest_of_its_file_and_no_more() {
    let mut random = SplitMix64(2);
    let dir = tempfile::tempdir().unwrap();
    let folder = create(dir.path());
    let entries = write(&folder, &mut random, 8 * 1000, 100);
    let files = files(folder.path());
    assert!(files.len() > 4, "{files:?}");
    for _ in 0..500 {
        let file = &files[random.below(files.len() as u64) as usize];
        let whole = fs::read(file).unwrap();
        let mut changed = whole.clone();
        changed[random.below(whole.len() as u64) as usize] ^= 1 << random.below(8);
        // Damaged when it is found, or while it is delivered.
        let was_found = random.below(2) == 0;
        let before = found(folder.path()).0;
        fs::write(file, &changed).unwrap();
        let mut log = if was_found { found(folder.path()).0 } else { before };
        let (read, lost) = read_all(&mut log);
        fs::write(file, &whole).unwrap();
        assert!(!was_found || lost == 0, "it is known before it is read");
        // What is there is what was written, and one stretch stands for what is not.
        let holes: Vec<_> = read.iter().filter(|entry| !entries.contains(entry)).collect();
        assert!(holes.len() <= 1, "{holes:?}");
        let Some(Entry::Dropped(hole)) = holes.first() else {
            // The end of the run alone was damaged, or the end of the log is not there.
            assert_eq!(read, entries[..read.len()]);
            assert!(read.len() == entries.len() || file == files.last().unwrap());
            continue;
        };
        let missing: VecDeque<_> = entries.iter().filter(|entry| !read.contains(entry)).collect();
        assert_eq!((hole.from_seq, hole.to_seq), (missing[0].first_seq(), missing[missing.len() - 1].last_seq()));
        if !was_found {
            assert_eq!(lost, missing.iter().map(|entry| entry.frames()).sum::<u64>());
        }
    }
}

#[test]
fn a_file_that_is_gone_is_a_hole_between_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let folder = create(dir.path());
    let entries = write(&folder, &mut SplitMix64(3), 8 * 500, 50);
    let files = files(folder.path());
    for file in [0, 1, files.len() / 2] {
        let whole = fs::read(&files[file]).unwrap();
        fs::remove_file(&files[file]).unwrap();
        let (read, lost) = read_all(&mut found(folder.path()).0);
        fs::write(&files[file], whole).unwrap();
        let missing: Vec<_> = entries.iter().filter(|entry| !read.contains(entry)).collect();
        let first_step = if file == 0 { 0 } else { 10 * (missing[0].first_seq() - 1) + 1 };
        let (from_seq, to_seq) = (missing[0].first_seq(), missing[missing.len() - 1].last_seq());
        let hole = Stretch { from_seq, to_seq, first_step, last_step: 10 * (to_seq + 1) - 1 };
        assert!(read.contains(&Entry::Dropped(hole)), "{hole:?} is not in {read:?}");
        assert_eq!((read.len(), lost), (entries.len() - missing.len() + 1, 0));
    }
}

#[test]
fn what_is_too_old_is_given_up_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let max_age = Duration::from_millis(20);
    // Files of an eighth of this, all of which would fit.
    let spool = Spool::new(dir.path()).max_bytes(80_000).max_age(max_age);
    let shared = Arc::new(Shared::new());
    let request = declaration(Uuid::new_v4(), Uuid::new_v4(), 5, None).request;
    let mut buffer =
        SpooledBuffer::create(RunSpool::new(spool, String::new()), request, 1 << 20, false, shared.clone());
    let mut append = |seqs: RangeInclusive<u64>| {
        for seq in seqs {
            buffer.append(Entry::Frame { seq, step: seq, bytes: vec![1; 1_000].into(), attached: Bytes::new() });
        }
        (shared.status().spooled, shared.status().dropped)
    };
    append(1..=25);
    std::thread::sleep(2 * max_age);
    let (spooled, dropped) = append(26..=45);
    // The two files that were full before, at least: more where this machine stood still.
    assert!(dropped >= 20, "{dropped}");
    assert_eq!(spooled + dropped, 45);
    let path = scan(dir.path()).unwrap().remove(0).path;
    let (read, _) = read_all(&mut found(&path).0);
    let Entry::Dropped(hole) = &read[0] else { panic!("{read:?}") };
    assert_eq!((hole.from_seq, hole.to_seq, hole.last_step), (1, dropped, dropped));
    assert_eq!(read.len() as u64, 1 + spooled);
}

#[test]
fn a_declaration_that_was_changed_is_unreadable_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let folder = create(dir.path());
    write(&folder, &mut SplitMix64(4), 8 << 20, 3);
    let file = folder.path().join("attempt");
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&file, changed).unwrap();
        let [attempt] = &scan(dir.path()).unwrap()[..] else { panic!("it is found") };
        assert!(attempt.unreadable.as_ref().is_some_and(|words| words.contains("damaged")), "{attempt:?}");
    }
    fs::write(&file, whole).unwrap();
    let [attempt] = &scan(dir.path()).unwrap()[..] else { panic!("it is found") };
    assert_eq!((attempt.unreadable.as_ref(), attempt.frames, attempt.shard), (None, 3, 1));
    assert_eq!((attempt.project.as_str(), attempt.server.as_str()), ("p", "http://127.0.0.1:1"));
}

#[test]
fn a_folder_is_of_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let folder = create(dir.path());
    write(&folder, &mut SplitMix64(5), 8 << 20, 3);
    assert!(matches!(Folder::open(folder.path()), Err(Held::Live)));
    assert!(scan(dir.path()).unwrap()[0].live);
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!scan(dir.path()).unwrap()[0].live);
    assert!(Folder::open(&path).is_ok());
    // What is in the folder beside that is nobody's business.
    fs::create_dir_all(dir.path().join("notes")).unwrap();
    fs::write(dir.path().join("file"), "text").unwrap();
    assert_eq!(scan(dir.path()).unwrap().len(), 1);
    assert_eq!(scan(&dir.path().join("nowhere")).unwrap().len(), 0);
}

#[test]
fn attempts_come_in_the_order_to_deliver_them_in() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
    let (old_run, new_run) = (Uuid::new_v4(), Uuid::new_v4());
    // The clock of 2, which resumes 1, went back.
    let made = [(new_run, 0, 50, None), (old_run, 1, 40, None), (old_run, 2, 30, Some(1)), (old_run, 3, 60, Some(2))];
    for (run, id, started_at_us, resumes) in made {
        let resumes = resumes.map(|resumed: usize| ids[resumed]);
        Folder::create(dir.path(), &declaration(run, ids[id], started_at_us, resumes)).unwrap();
    }
    let found = scan(dir.path()).unwrap();
    assert_eq!(found.iter().map(|attempt| attempt.attempt_id).collect::<Vec<_>>(), [ids[1], ids[2], ids[3], ids[0]]);
    assert_eq!(found[1].resumes, Some((ids[1], 7)));
    // Files that say what cannot be do not stop it.
    Folder::create(dir.path(), &declaration(old_run, ids[1], 40, Some(ids[3]))).unwrap();
    assert_eq!(scan(dir.path()).unwrap().len(), 4);
}
