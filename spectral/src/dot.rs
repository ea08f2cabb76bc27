//! Dot products with one fixed order of additions, whatever the processor can do.

use pulp::{Arch, Simd, WithSimd};

/// Running sums a dot product is split into: four AVX2 registers of float64, enough to hide the latency of an addition.
const LANES: usize = 16;

/// ⟨x, y⟩ accumulated in float64.
///
/// Invariant: element i is added to lane i mod 16, in ascending order of i, with a rounded multiplication and a rounded
/// addition; then lanes are folded 16 → 8 → 4 → 2 → 1 by adding the upper half to the lower. Nothing here depends on
/// the width of a register, so every path gives the same bits. (The product of two float32 is exact in float64.)
#[inline(always)]
pub(crate) fn dot_in_lanes<T: Copy + Into<f64>>(x: &[T], y: &[T]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (a, b) in x_chunks.iter().zip(y_chunks) {
        for lane in 0..LANES {
            let product: f64 = a[lane].into() * b[lane].into();
            lanes[lane] += product;
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        let product: f64 = (*a).into() * (*b).into();
        *lane += product;
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The dot products of one row with several others, as one unit of work that is compiled once per instruction set.
struct DotsOf<'a, T> {
    row: &'a [T],
    others: &'a [&'a [T]],
    out: &'a mut [f64],
}

impl<T: Copy + Into<f64>> WithSimd for DotsOf<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        for (out, other) in self.out.iter_mut().zip(self.others) {
            *out = dot_in_lanes(self.row, other);
        }
    }
}

/// Writes ⟨row, others[i]⟩ into `out[i]`, with the best instruction set this processor has.
pub(crate) fn dots_of<T: Copy + Into<f64>>(row: &[T], others: &[&[T]], out: &mut [f64]) {
    debug_assert!(others.iter().all(|other| other.len() == row.len()) && out.len() == others.len());
    Arch::new().dispatch(DotsOf { row, others, out });
}

/// ⟨x, y⟩ on every path this processor can run, by name: for the test that all give the same bits.
#[doc(hidden)]
pub fn dot_on_every_path(x: &[f32], y: &[f32]) -> Vec<(&'static str, f64)> {
    fn on(path: impl FnOnce(DotsOf<'_, f32>), x: &[f32], y: &[f32]) -> f64 {
        let mut out = [0.0];
        path(DotsOf { row: x, others: &[y], out: &mut out });
        out[0]
    }
    let mut paths = vec![("plain", dot_in_lanes(x, y))];
    paths.push(("scalar", on(|op| pulp::Scalar.vectorize(op), x, y)));
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        paths.push(("x86-v3", on(|op| Simd::vectorize(simd, op), x, y)));
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V4::try_new() {
        paths.push(("x86-v4", on(|op| Simd::vectorize(simd, op), x, y)));
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        paths.push(("neon", on(|op| Simd::vectorize(simd, op), x, y)));
    }
    paths.push(("dispatched", on(|op| Arch::new().dispatch(op), x, y)));
    paths
}
