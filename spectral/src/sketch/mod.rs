//! The sketch: a linear map S from a parameter-sized vector to d numbers that preserves inner products in expectation.
//!
//! \[ours\] A count sketch (Charikar, Chen and Farach-Colton, ICALP 2002) whose buckets are laid out in chunks, so that
//! it runs at memory speed, needs no index array and never depends on the order of tensors. A tensor is flattened
//! row-major; element i lies in chunk c = i / d, column j = i mod d. With z = mix(mix(seed ^ name) ^ c), the chunk's
//! sign u is the top bit of z, its rotation r = z mod d; the column's sign v_j is the top bit of mix(mix(seed) ^ j)
//! (a set bit means −). Then y\[(j + r) mod d\] += u · v_j · x_i.
//!
//! What follows from it:
//! - it is linear, so the sketch of an update is a difference of two sketches of the parameters, and the sketch of a
//!   group is the sum of its tensors' sketches;
//! - shards of one tensor, each sketching its own flat range, add up to the sketch of the whole;
//! - the error of an inner product ⟨Sx, Sy⟩ has zero mean and a standard deviation of at most 2/√d · ‖x‖ · ‖y‖, and
//!   √(2/d) · ‖x‖ · ‖y‖ for most vectors;
//! - there is one accumulator per bucket, so tensors in a given order with chunks ascending give the same bits on
//!   every machine and SIMD path.
//!
//! ```
//! use gradwatch_spectral::sketch::{DEFAULT_DIM, Sketcher, TensorName};
//!
//! let sketcher = Sketcher::new(DEFAULT_DIM, 7)?;
//! let (mut before, mut after) = (vec![0.0_f64; DEFAULT_DIM], vec![0.0_f64; DEFAULT_DIM]);
//! let name = TensorName::new("blocks.0.attn.wq");
//! sketcher.add(&mut before, name, 0, &[0.50_f32, 0.25])?;
//! sketcher.add(&mut after, name, 0, &[0.75_f32, 0.25])?;
//! let update: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
//! assert_eq!(update.iter().map(|y| y * y).sum::<f64>(), 0.0625);
//! # Ok::<(), gradwatch_spectral::sketch::SketchError>(())
//! ```

mod element;
mod hash;
mod kernel;
mod prefetch;
mod simd;

pub use element::{Accumulator, Element};
pub use hash::{fnv1a, mix};
#[doc(hidden)]
pub use simd::SimdPath;

/// The smallest dimension d of a sketch.
pub const MIN_DIM: usize = 64;
/// The largest dimension d of a sketch.
pub const MAX_DIM: usize = 65_536;
/// The dimension d unless the user chooses one: about 1 % error of the gap ratio at a window of 10 rows.
pub const DEFAULT_DIM: usize = 4096;

/// Why a sketch was refused. Nothing was added to the accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// d is not a power of two in range.
    #[error("d: {d} is not a power of two between {MIN_DIM} and {MAX_DIM}")]
    Dimension {
        /// The dimension asked for.
        d: usize,
    },
    /// The accumulator does not have d buckets.
    #[error("acc: has {actual} buckets, the sketch has {expected}")]
    AccumulatorLength {
        /// d, the dimension of the sketcher.
        expected: usize,
        /// The accumulator's length.
        actual: usize,
    },
    /// The slice would end past index 2^64 − 1 of its tensor.
    #[error("offset: {offset} leaves no room for {len} values in a 64-bit index")]
    Offset {
        /// Flat index of the first value.
        offset: u64,
        /// Number of values.
        len: usize,
    },
}

/// A tensor's name, hashed once: all that the sketch needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorName(u64);

impl TensorName {
    /// Hashes the tensor's name with [`fnv1a`].
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(fnv1a(name))
    }

    /// The same from what [`TensorName::key`] gave.
    #[must_use]
    pub fn from_key(key: u64) -> Self {
        Self(key)
    }

    /// The name's hash.
    #[must_use]
    pub fn key(self) -> u64 {
        self.0
    }
}

/// The map S for one dimension and seed. Immutable: share one between threads, each with its own accumulator.
#[derive(Clone, Debug)]
pub struct Sketcher {
    seed: u64,
    /// v_j, 0x80 for −, 0 for +; its length is d.
    column_signs: Box<[u8]>,
    path: SimdPath,
}

impl Sketcher {
    /// The sketch of dimension `d`, a power of two between [`MIN_DIM`] and [`MAX_DIM`], for a run's `seed`.
    ///
    /// # Errors
    /// [`SketchError::Dimension`] for any other `d`.
    pub fn new(d: usize, seed: u64) -> Result<Self, SketchError> {
        Self::with_path(d, seed, SimdPath::best())
    }

    /// [`Sketcher::new`] on a chosen instruction set; all of them give the same bits.
    #[doc(hidden)]
    pub fn with_path(d: usize, seed: u64, path: SimdPath) -> Result<Self, SketchError> {
        if !d.is_power_of_two() || !(MIN_DIM..=MAX_DIM).contains(&d) {
            return Err(SketchError::Dimension { d });
        }
        let key = mix(seed);
        let column_signs = (0..d as u64).map(|column| hash::sign(mix(key ^ column))).collect();
        Ok(Self { seed, column_signs, path })
    }

    /// d, the number of buckets.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.column_signs.len()
    }

    /// The run's seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The rotation r of a tensor's chunk, and whether its sign u is −: for sketching on another device, which has to
    /// repeat them.
    #[must_use]
    pub fn chunk(&self, tensor: TensorName, chunk: u64) -> (usize, bool) {
        let z = mix(mix(self.seed ^ tensor.0) ^ chunk);
        (z as usize & (self.dim() - 1), hash::sign(z) != 0)
    }

    /// Whether the sign v_j of each column is −.
    pub fn column_is_negative(&self) -> impl Iterator<Item = bool> {
        self.column_signs.iter().map(|sign| *sign != 0)
    }

    /// y += S(slice): adds the sketch of a contiguous row-major slice of a tensor to the d buckets of `acc`.
    ///
    /// `offset` is the flat index of `values[0]` in the whole tensor: 0 unless `values` is a shard or a piece of it.
    /// `f32` values go into `f64` or `f32` buckets, `f64` values into `f64` buckets. A value that is not finite makes
    /// its bucket so. An empty slice adds nothing.
    ///
    /// # Errors
    /// [`SketchError::AccumulatorLength`] unless `acc.len() == self.dim()`; [`SketchError::Offset`] when
    /// `offset + values.len()` exceeds 2^64 − 1.
    pub fn add<A, T>(&self, acc: &mut [A], tensor: TensorName, offset: u64, values: &[T]) -> Result<(), SketchError>
    where
        A: Accumulator + From<T>,
        T: Element,
    {
        if acc.len() != self.dim() {
            return Err(SketchError::AccumulatorLength { expected: self.dim(), actual: acc.len() });
        }
        if offset.checked_add(values.len() as u64).is_none() {
            return Err(SketchError::Offset { offset, len: values.len() });
        }
        self.path.run(kernel::AddSlice {
            acc,
            column_signs: &self.column_signs,
            tensor_key: mix(self.seed ^ tensor.0),
            offset,
            values,
        });
        Ok(())
    }
}
