//! What lies in a spool, read apart from the client: by what is written about its files, bit by bit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gradwatch_client::Uuid;

/// Length, checksum, kind.
const HEADER_BYTES: usize = 9;
const FRAME: u8 = 1;
const FINISH: u8 = 3;

/// The files of one attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDisk {
    /// Steps of the frames that are there, by their seq.
    pub(super) frames: BTreeMap<u64, u64>,
    /// How the run ended is there.
    pub(super) finished: bool,
    /// Files that end in the middle of a record.
    pub(super) torn: u64,
}

/// Reads what the spool holds of an attempt.
pub(super) fn read(spool: &Path, run_id: Uuid, attempt_id: Uuid) -> OnDisk {
    let mut found = OnDisk::default();
    let folders = entries(&spool.join(run_id.to_string()));
    let wanted = format!("-{attempt_id}-");
    let of_attempt = folders.iter().filter(|path| path.to_string_lossy().contains(&wanted));
    for log in
        of_attempt.flat_map(|folder| entries(folder)).filter(|path| path.extension().is_some_and(|it| it == "log"))
    {
        // It may have been removed a moment ago: by a sync.
        let Ok(bytes) = fs::read(log) else { continue };
        found.read_log(&bytes);
    }
    found
}

/// What a folder holds; nothing where it is not there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

impl OnDisk {
    fn read_log(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let Some((kind, body, next)) = record(rest) else {
                self.torn += 1;
                return;
            };
            match kind {
                FRAME => {
                    self.frames.insert(number(body, 0), number(body, 8));
                }
                FINISH => self.finished = true,
                _ => {}
            }
            rest = next;
        }
    }
}

/// The next record, and what follows it. None where it is not whole.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (body, next) = rest.split_at_checked(word(0) as usize)?;
    (crc32(&bytes[HEADER_BYTES - 1..HEADER_BYTES + body.len()]) == word(4)).then_some((header[8], body, next))
}

fn number(body: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"))
}

/// CRC-32 as zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn the_checksum_is_the_one_that_everybody_has() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
