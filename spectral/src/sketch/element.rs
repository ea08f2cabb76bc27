//! The number types a sketch reads and adds up in.

use std::ops::Add;

mod sealed {
    /// Keeps both traits to the types whose bits the tests fix.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A tensor's element type: `f32` or `f64`. Sealed.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// `self` with its sign flipped when bit 31 of `sign_bit` is set (the other bits are zero). Exact for every value.
    #[doc(hidden)]
    #[must_use]
    fn flip(self, sign_bit: u32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn flip(self, sign_bit: u32) -> Self {
        f32::from_bits(self.to_bits() ^ sign_bit)
    }
}

impl Element for f64 {
    #[inline(always)]
    fn flip(self, sign_bit: u32) -> Self {
        f64::from_bits(self.to_bits() ^ (u64::from(sign_bit) << 32))
    }
}

/// A bucket's type: `f64`, or `f32` for gradients. Sealed.
///
/// It takes the element types that convert to it without loss (`A: From<T>`): `f32` goes into either, `f64` into `f64`.
pub trait Accumulator: sealed::Sealed + Copy + Send + Sync + Add<Output = Self> + 'static {}

impl Accumulator for f32 {}
impl Accumulator for f64 {}
