//! A kept row as bytes. Rows of a block stand one behind the other:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | flags: 1 it began a window, 2 it has a learning rate, 4 its entries are float16 |
//! | 8 | step |
//! | 8 | base step |
//! | 4 | phase |
//! | 8 | learning rate, where there is one |
//! | 4 + 2·d, or 4·d | scale and float16 entries as they came, or float32 entries |
//!
//! Everything little-endian. The table is fixed: rows outlive the version that wrote them.

use gradwatch_spectral::encoding::{decode_f16, decode_f32};

use crate::pipeline::frame::Body;

const BEGAN: u8 = 1;
const HAS_LEARNING_RATE: u8 = 2;
const IS_F16: u8 = 4;

/// A row that was kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeptRow {
    pub(crate) step: u64,
    /// The step that the update starts from.
    pub(crate) base_step: u64,
    pub(crate) phase: u32,
    pub(crate) learning_rate: Option<f64>,
    /// It was the first of its window.
    pub(crate) began: bool,
    /// As it entered the window.
    pub(crate) entries: Vec<f32>,
}

/// A row on its way into a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRow<'a> {
    pub(crate) step: u64,
    pub(crate) base_step: u64,
    pub(crate) phase: u32,
    pub(crate) learning_rate: Option<f64>,
    pub(crate) began: bool,
    /// The body of its only part; none where several were added up.
    pub(crate) body: Option<&'a Body>,
    /// As it entered the window.
    pub(crate) entries: &'a [f32],
}

impl NewRow<'_> {
    /// Invariant (promise 10): what is written is decoded to the bits that entered the window: bytes as they came where one
    /// shard brings all, else the sum, which was rounded to float32.
    pub(super) fn write(&self, payload: &mut Vec<u8>) {
        let f16 = match self.body {
            Some(Body::F16 { scale, values }) => Some((scale, values)),
            _ => None,
        };
        let mut flags = if self.began { BEGAN } else { 0 };
        flags |= if self.learning_rate.is_some() { HAS_LEARNING_RATE } else { 0 };
        flags |= if f16.is_some() { IS_F16 } else { 0 };
        payload.push(flags);
        payload.extend_from_slice(&self.step.to_le_bytes());
        payload.extend_from_slice(&self.base_step.to_le_bytes());
        payload.extend_from_slice(&self.phase.to_le_bytes());
        if let Some(learning_rate) = self.learning_rate {
            payload.extend_from_slice(&learning_rate.to_le_bytes());
        }
        match f16 {
            Some((scale, values)) => {
                payload.extend_from_slice(&scale.to_le_bytes());
                payload.extend_from_slice(values);
            }
            None => self.entries.iter().for_each(|entry| payload.extend_from_slice(&entry.to_le_bytes())),
        }
    }
}

/// Bytes that are no rows of sketches of dimension `dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of kept sketches cannot be read")]
pub(crate) struct UnreadableRows;

/// The rows of a block, of `dim` entries each.
pub(crate) fn decode_rows(mut payload: &[u8], dim: usize) -> Result<Vec<KeptRow>, UnreadableRows> {
    let mut rows = Vec::new();
    while !payload.is_empty() {
        let [flags] = take(&mut payload)?;
        if flags & !(BEGAN | HAS_LEARNING_RATE | IS_F16) != 0 {
            return Err(UnreadableRows);
        }
        let step = u64::from_le_bytes(take(&mut payload)?);
        let base_step = u64::from_le_bytes(take(&mut payload)?);
        let phase = u32::from_le_bytes(take(&mut payload)?);
        let learning_rate =
            if flags & HAS_LEARNING_RATE != 0 { Some(f64::from_le_bytes(take(&mut payload)?)) } else { None };
        let mut entries = vec![0.0; dim];
        let counts = if flags & IS_F16 != 0 {
            let scale = f32::from_le_bytes(take(&mut payload)?);
            decode_f16(scale, take_slice(&mut payload, 2 * dim)?, &mut entries)
        } else {
            decode_f32(take_slice(&mut payload, 4 * dim)?, &mut entries)
        };
        if !counts.is_ok_and(|counts| counts.is_empty()) {
            return Err(UnreadableRows);
        }
        rows.push(KeptRow { step, base_step, phase, learning_rate, began: flags & BEGAN != 0, entries });
    }
    Ok(rows)
}

fn take<const N: usize>(payload: &mut &[u8]) -> Result<[u8; N], UnreadableRows> {
    let (bytes, rest) = payload.split_first_chunk::<N>().ok_or(UnreadableRows)?;
    *payload = rest;
    Ok(*bytes)
}

fn take_slice<'a>(payload: &mut &'a [u8], length: usize) -> Result<&'a [u8], UnreadableRows> {
    let (bytes, rest) = payload.split_at_checked(length).ok_or(UnreadableRows)?;
    *payload = rest;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use gradwatch_spectral::encoding::{EncodedSketch, Encoding, encode};

    use super::*;

    const DIM: usize = 5;

    #[test]
    fn rows_come_back_to_the_bit() {
        let update = [0.1, -0.0, 3e-41, -7.25e20, 1e-3];
        let EncodedSketch::F16 { scale, bytes } = encode(&update, Encoding::F16) else { panic!("finite") };
        let body = Body::F16 { scale, values: bytes.clone().into() };
        let mut decoded = [0.0_f32; DIM];
        decode_f16(scale, &bytes, &mut decoded).expect("a sketch");
        let exact = update.map(|entry| entry as f32);
        let rows = [
            NewRow {
                step: 7,
                base_step: 5,
                phase: 3,
                learning_rate: Some(1e-3),
                began: true,
                body: Some(&body),
                entries: &decoded,
            },
            NewRow {
                step: (1 << 53) - 1,
                base_step: 7,
                phase: u32::MAX,
                learning_rate: None,
                began: false,
                body: None,
                entries: &exact,
            },
        ];
        let mut payload = Vec::new();
        rows.iter().for_each(|row| row.write(&mut payload));
        assert_eq!(payload.len(), (21 + 8 + 4 + 2 * DIM) + (21 + 4 * DIM));
        let read = decode_rows(&payload, DIM).expect("rows");
        let bits = |entries: &[f32]| entries.iter().map(|entry| entry.to_bits()).collect::<Vec<_>>();
        for (read, written) in read.iter().zip(&rows) {
            assert_eq!((read.step, read.base_step, read.phase), (written.step, written.base_step, written.phase));
            assert_eq!((read.learning_rate, read.began), (written.learning_rate, written.began));
            assert_eq!(bits(&read.entries), bits(written.entries));
        }
        assert_eq!(read.len(), rows.len());
        for cut in 1..payload.len() {
            let whole = cut == 21 + 8 + 4 + 2 * DIM;
            assert_eq!(decode_rows(&payload[..cut], DIM).is_ok(), whole, "{cut} bytes");
        }
        payload[0] |= 8;
        assert_eq!(decode_rows(&payload, DIM), Err(UnreadableRows));
    }
}
