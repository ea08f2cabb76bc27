//! The inner loop: chunks, whole or ragged, added to the buckets they rotate to.
//!
//! **Invariant: every bucket receives its addends in ascending chunk order, one rounding each.** That order, and sign
//! flips instead of products, make all SIMD paths agree bit for bit: a bucket is never split over lanes, there is
//! nothing to fuse, and widening an element is exact.

use super::element::{Accumulator, Element};
use super::hash::{mix, sign};
use super::prefetch::prefetch_ahead;

/// Elements handled at a time: the float32 of one cache line, a multiple of every vector length.
const BLOCK: usize = 16;

const CACHE_LINE_BYTES: usize = 64;

/// How far ahead of the loop elements are fetched: far enough to hide memory (4 KiB is not), near enough to stay in the
/// level-1 cache until they are used.
const PREFETCH_BYTES: usize = 8192;

/// One call of [`super::Sketcher::add`]: adds the sketch of `values` to `acc`. Lengths and offset are checked already.
pub(super) struct AddSlice<'a, A, T> {
    /// d buckets.
    pub(super) acc: &'a mut [A],
    /// d column signs: 0x80 for −, 0 for +. As bytes they leave the level-1 cache to the buckets.
    pub(super) column_signs: &'a [u8],
    /// mix(seed ^ name).
    pub(super) tensor_key: u64,
    /// Flat index of `values[0]` in the tensor.
    pub(super) offset: u64,
    pub(super) values: &'a [T],
}

impl<A: Accumulator + From<T>, T: Element> pulp::NullaryFnOnce for AddSlice<'_, A, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { acc, column_signs, tensor_key, offset, mut values } = self;
        let d = column_signs.len();
        let mut chunk = offset / d as u64;
        let mut column = (offset % d as u64) as usize;
        while !values.is_empty() {
            let (part, rest) = values.split_at(values.len().min(d - column));
            let z = mix(tensor_key ^ chunk);
            let signs = &column_signs[column..column + part.len()];
            add_part(acc, signs, z, column, part);
            (values, column) = (rest, 0);
            chunk = chunk.wrapping_add(1); // Past the last chunk of a 64-bit index nothing is left to add.
        }
    }
}

/// Adds up to one chunk, whose first element lies in `column`. The low bits of `z` rotate it, the top bit is its
/// sign. Two runs of contiguous buckets, before and after the wrap.
#[inline(always)]
fn add_part<A: Accumulator + From<T>, T: Element>(acc: &mut [A], signs: &[u8], z: u64, column: usize, part: &[T]) {
    let d = acc.len();
    let chunk_sign = sign(z);
    let begin = column.wrapping_add(z as usize) & (d - 1);
    let before_wrap = part.len().min(d - begin);
    let (part, wrapped) = part.split_at(before_wrap);
    let (signs, wrapped_signs) = signs.split_at(before_wrap);
    add_run(&mut acc[begin..begin + part.len()], signs, chunk_sign, part);
    add_run(&mut acc[..wrapped.len()], wrapped_signs, chunk_sign, wrapped);
}

/// acc\[i\] += `chunk_sign` · sign\[i\] · value\[i\]; all three slices have the same length.
#[inline(always)]
fn add_run<A: Accumulator + From<T>, T: Element>(acc: &mut [A], signs: &[u8], chunk_sign: u8, values: &[T]) {
    let (bucket_blocks, buckets) = acc.as_chunks_mut::<BLOCK>();
    let (sign_blocks, signs) = signs.as_chunks::<BLOCK>();
    let (value_blocks, values) = values.as_chunks::<BLOCK>();
    for ((buckets, signs), values) in bucket_blocks.iter_mut().zip(sign_blocks).zip(value_blocks) {
        let line = CACHE_LINE_BYTES / size_of::<T>();
        for start in (0..BLOCK).step_by(line) {
            prefetch_ahead(values, PREFETCH_BYTES / size_of::<T>() + start);
        }
        // A copy, so that the block stays in registers: the compiler need not fear that the sources overlap it.
        let mut sums = *buckets;
        for i in 0..BLOCK {
            sums[i] = add_signed(sums[i], signs[i] ^ chunk_sign, values[i]);
        }
        *buckets = sums;
    }
    for ((bucket, sign), value) in buckets.iter_mut().zip(signs).zip(values) {
        *bucket = add_signed(*bucket, sign ^ chunk_sign, *value);
    }
}

#[inline(always)]
fn add_signed<A: Accumulator + From<T>, T: Element>(bucket: A, sign: u8, value: T) -> A {
    bucket + A::from(value.flip(u32::from(sign) << 24))
}
