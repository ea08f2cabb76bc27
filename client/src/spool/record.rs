//! What files are made of: records with a length and a checksum, so that what was cut or changed is found out.

use bytes::Bytes;

use crate::buffer::{Entry, Stretch};

/// `u32` length of the body, `u32` CRC-32 of kind and body, `u8` kind; all numbers are little-endian.
pub(super) const HEADER_BYTES: usize = 9;

const FRAME: u8 = 1;
const DROPPED: u8 = 2;
const FINISH: u8 = 3;
/// The content of the file `attempt`.
pub(super) const ATTEMPT: u8 = 4;
/// The content of the file `acked`.
pub(super) const ACKED: u8 = 5;

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Entry(Entry),
    Finish(Finish),
}

/// How the run ended, and the last of the attempt's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finish {
    /// As on the wire.
    pub(super) outcome: i32,
    pub(super) last_seq: u64,
    pub(super) last_step: u64,
}

/// The header of a record, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) body_bytes: usize,
    crc: u32,
    kind: u8,
}

impl Header {
    pub(super) fn parse(header: [u8; HEADER_BYTES]) -> Self {
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = header;
        let body_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        Self { body_bytes, crc: u32::from_le_bytes([c0, c1, c2, c3]), kind }
    }

    fn is_of(&self, body: &[u8]) -> bool {
        checksum(self.kind, body) == self.crc
    }
}

fn checksum(kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(body);
    hasher.finalize()
}

/// A record of one kind. The parts make its body.
pub(super) fn seal(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut record = Vec::with_capacity(HEADER_BYTES + body_bytes);
    // What is larger than this is not taken: frames are bounded by the buffer, and see `is_too_long`.
    record.extend_from_slice(&(body_bytes as u32).to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.push(kind);
    parts.iter().for_each(|part| record.extend_from_slice(part));
    let crc = checksum(kind, &record[HEADER_BYTES..]);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
    record
}

/// The body of the one record that a file consists of.
pub(super) fn unseal(kind: u8, file: &[u8]) -> Option<&[u8]> {
    let (header, body) = file.split_first_chunk()?;
    let header = Header::parse(*header);
    (header.kind == kind && header.body_bytes == body.len() && header.is_of(body)).then_some(body)
}

/// Whether an entry does not fit a record.
pub(super) fn is_too_long(entry: &Entry) -> bool {
    entry.cost_bytes() > i32::MAX as usize
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Entry(entry) => encode_entry(entry),
            Self::Finish(finish) => {
                let Finish { outcome, last_seq, last_step } = finish;
                seal(FINISH, &[&outcome.to_le_bytes(), &last_seq.to_le_bytes(), &last_step.to_le_bytes()])
            }
        }
    }

    /// None when it was changed, or is of a kind that this version does not know.
    pub(super) fn decode(header: &Header, body: &Bytes) -> Option<Self> {
        if !header.is_of(body) {
            return None;
        }
        let mut rest = &body[..];
        let record = match header.kind {
            FRAME => {
                let (seq, step) = (take_u64(&mut rest)?, take_u64(&mut rest)?);
                let rows_bytes = u32::from_le_bytes(take(&mut rest)?) as usize;
                let rows_at = body.len() - rest.len();
                let attached_at = rows_at.checked_add(rows_bytes).filter(|&at| at <= body.len())?;
                let (bytes, attached) = (body.slice(rows_at..attached_at), body.slice(attached_at..));
                return Some(Self::Entry(Entry::Frame { seq, step, bytes, attached }));
            }
            DROPPED => Self::Entry(Entry::Dropped(Stretch {
                from_seq: take_u64(&mut rest)?,
                to_seq: take_u64(&mut rest)?,
                first_step: take_u64(&mut rest)?,
                last_step: take_u64(&mut rest)?,
            })),
            FINISH => Self::Finish(Finish {
                outcome: i32::from_le_bytes(take(&mut rest)?),
                last_seq: take_u64(&mut rest)?,
                last_step: take_u64(&mut rest)?,
            }),
            _ => return None,
        };
        rest.is_empty().then_some(record)
    }
}

/// Without a copy of the entry.
pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Frame { seq, step, bytes, attached } => {
            let rows_bytes = (bytes.len() as u32).to_le_bytes();
            seal(FRAME, &[&seq.to_le_bytes(), &step.to_le_bytes(), &rows_bytes, bytes, attached])
        }
        Entry::Dropped(Stretch { from_seq, to_seq, first_step, last_step }) => {
            let numbers = [from_seq, to_seq, first_step, last_step].map(|number| number.to_le_bytes());
            seal(DROPPED, &numbers.each_ref().map(|number| &number[..]))
        }
    }
}

/// The next bytes of a body.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

pub(super) fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_le_bytes)
}
