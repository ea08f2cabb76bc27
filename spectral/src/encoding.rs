//! How a sketch travels: little-endian float32, or float16 with one float32 scale.
//!
//! A client subtracts in float64, then rounds once, here. A sketch that is not finite travels as counts, without
//! bytes, so that it can never poison a window.

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};

/// max|y| is stored as 2^15: a factor of two below the largest float16 (65,504), as far as possible above its
/// subnormals (below 2^-14).
const F16_FULL_SCALE: f64 = 32_768.0;

/// The number format of a stream's sketches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// IEEE binary32, 4 bytes a bucket.
    F32,
    /// IEEE binary16, 2 bytes a bucket, and one float32 scale a sketch.
    #[default]
    F16,
}

/// How many buckets of a sketch are not finite, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFiniteCounts {
    /// Buckets that are not a number.
    pub nan: u64,
    /// Buckets at +infinity.
    pub positive_infinity: u64,
    /// Buckets at −infinity.
    pub negative_infinity: u64,
}

impl NonFiniteCounts {
    /// Counts the values that are not finite.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        Self::count(values.iter().copied())
    }

    /// Whether every value was finite.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn count(values: impl Iterator<Item = f64>) -> Self {
        let mut counts = Self::default();
        for value in values.filter(|value| !value.is_finite()) {
            let counter = if value.is_nan() {
                &mut counts.nan
            } else if value > 0.0 {
                &mut counts.positive_infinity
            } else {
                &mut counts.negative_infinity
            };
            *counter += 1;
        }
        counts
    }
}

/// A sketch as it goes on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodedSketch {
    /// 4·d bytes: little-endian float32.
    F32 {
        /// The buckets.
        bytes: Vec<u8>,
    },
    /// 2·d bytes: little-endian float16; a bucket is value · `scale`.
    F16 {
        /// Finite and not negative; 0 exactly when every bucket of the update is 0.
        scale: f32,
        /// The buckets.
        bytes: Vec<u8>,
    },
    /// The update was not finite in float32; nothing but the counts is sent.
    NonFinite(NonFiniteCounts),
}

/// Why bytes are no sketch. The row may have been written in part.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The number of bytes does not fit the sketch's dimension.
    #[error("bytes: {actual} bytes, a sketch of this dimension and encoding has {expected}")]
    Length {
        /// Bytes of a row of this dimension.
        expected: usize,
        /// Bytes received.
        actual: usize,
    },
    /// The scale of a float16 sketch is negative or not finite.
    #[error("scale: {scale} is not a finite number of at least 0")]
    Scale {
        /// The scale received.
        scale: f32,
    },
}

/// Encodes the sketch of an update: d buckets, accumulated in float64 \[ours\].
///
/// - `F32` rounds each bucket to float32.
/// - `F16` stores y/scale with scale = max|y|/32768, both rounded to nearest; the relative error of a bucket above
///   max|y|·2^-29 is at most 2^-11. Decoding gives finite numbers. An all-zero update has scale 0.
/// - A bucket that is not finite, or is not once rounded to float32 (|y| ≥ 2^128 − 2^103), makes it `NonFinite` in
///   both encodings; the counts then are those of the update rounded to float32.
///
/// Tiny updates: where max|y|/32768 falls among the subnormal numbers (below 2^-126) the rounded scale is what the
/// division uses, so accuracy stays; where it would round to 0 the scale is the least positive float32, 2^-149. No
/// division by zero, no infinite quotient, and nothing is lost that float32 would have kept.
#[must_use]
pub fn encode(update: &[f64], encoding: Encoding) -> EncodedSketch {
    let counts = NonFiniteCounts::count(update.iter().map(|&y| f64::from(y as f32)));
    if !counts.is_empty() {
        return EncodedSketch::NonFinite(counts);
    }
    match encoding {
        Encoding::F32 => EncodedSketch::F32 { bytes: update.iter().flat_map(|&y| (y as f32).to_le_bytes()).collect() },
        Encoding::F16 => {
            let scale = f16_scale(update.iter().fold(0.0_f64, |max, y| max.max(y.abs())));
            if scale == 0.0 {
                return EncodedSketch::F16 { scale, bytes: vec![0; 2 * update.len()] };
            }
            // By way of float32, which is what hardware conversions do: the same bits with and without F16C.
            let quotient = |y: f64| f16::from_f32((y / f64::from(scale)) as f32);
            EncodedSketch::F16 { scale, bytes: update.iter().flat_map(|&y| quotient(y).to_le_bytes()).collect() }
        }
    }
}

/// max/32768 in float32, 0 only for 0. Rounding moves it by half of 2^-149 at most, so max/scale stays below
/// 1.5 · 32768 = 49,152: inside float16 for every max.
fn f16_scale(max: f64) -> f32 {
    let least = f32::from_bits(1);
    if max == 0.0 { 0.0 } else { ((max / F16_FULL_SCALE) as f32).max(least) }
}

/// Decodes little-endian float32 into `row`. The counts are empty when every bucket is finite.
///
/// # Errors
/// [`DecodeError::Length`] unless there are 4 bytes a bucket.
pub fn decode_f32(bytes: &[u8], row: &mut [f32]) -> Result<NonFiniteCounts, DecodeError> {
    check_length(bytes, size_of_val(row))?;
    for (bucket, bytes) in row.iter_mut().zip(bytes.as_chunks().0) {
        *bucket = f32::from_le_bytes(*bytes);
    }
    Ok(count_row(row))
}

/// Decodes little-endian float16 into `row`: value · `scale`, in float32. The counts are empty when every bucket is
/// finite; a product past the largest float32 counts as infinite.
///
/// # Errors
/// [`DecodeError::Length`] unless there are 2 bytes a bucket; [`DecodeError::Scale`] for a scale that is negative or
/// not finite.
pub fn decode_f16(scale: f32, bytes: &[u8], row: &mut [f32]) -> Result<NonFiniteCounts, DecodeError> {
    check_length(bytes, size_of_val(row) / 2)?;
    if !scale.is_finite() || scale < 0.0 {
        return Err(DecodeError::Scale { scale });
    }
    let mut block = [f16::ZERO; 64];
    for (buckets, bytes) in row.chunks_mut(block.len()).zip(bytes.chunks(2 * block.len())) {
        let halves = &mut block[..buckets.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves.convert_to_f32_slice(buckets);
        for bucket in buckets {
            *bucket *= scale;
        }
    }
    Ok(count_row(row))
}

fn check_length(bytes: &[u8], expected: usize) -> Result<(), DecodeError> {
    if bytes.len() == expected { Ok(()) } else { Err(DecodeError::Length { expected, actual: bytes.len() }) }
}

fn count_row(row: &[f32]) -> NonFiniteCounts {
    NonFiniteCounts::count(row.iter().map(|&y| f64::from(y)))
}
