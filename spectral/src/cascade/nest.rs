//! Cascades in nested blocks of one gradient: the slope of their size on the size of the block.

use super::{
    Graph,
    kernel::{Cascade, Relaxation, Rule},
    line::{LogFit, mean},
};

/// Neighbours a side of the ring that blocks are relaxed on \[ours\].
const RING_REACH: usize = 2;
/// Share of a load that a toppling passes on \[ours: the source's is 1, which does not always stop\].
const ALPHA: f64 = 0.9;
/// A block without a cascade counts as half a toppling \[ours\].
const QUIET: f64 = 0.5;

/// Block sizes, by doubling, that a window is cut into, and what iid Gaussian values give there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NestLayout {
    /// Smallest block.
    pub smallest: usize,
    /// Largest block, N_K: one window.
    pub largest: usize,
    /// b0, the slope for iid Gaussian values.
    pub null_slope: f64,
    /// sd0, the standard deviation of that slope over draws, for R = 16 windows.
    pub null_sd: f64,
}

impl NestLayout {
    /// Windows of the null table: `null_sd` holds for no other number.
    pub const NULL_WINDOWS: usize = 16;

    /// Those whose null is tabulated \[ours\]: 1,000 draws each by `examples/cascade_null.rs`.
    pub const ALL: [Self; 3] = [
        Self { smallest: 64, largest: 1024, null_slope: 1.059_04, null_sd: 0.005_63 },
        Self { smallest: 128, largest: 4096, null_slope: 1.022_51, null_sd: 0.001_54 },
        Self { smallest: 256, largest: 8192, null_slope: 1.011_00, null_sd: 0.000_78 },
    ];

    /// The one for windows of so many values.
    #[must_use]
    pub fn of(window_values: usize) -> Option<&'static Self> {
        const ALL: &[NestLayout] = &NestLayout::ALL;
        ALL.iter().find(|layout| layout.largest == window_values)
    }

    /// Block sizes, ascending.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        let largest = self.largest;
        std::iter::successors(Some(self.smallest), |size| Some(2 * size)).take_while(move |size| *size <= largest)
    }
}

/// Cascades in all blocks of some windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Nest {
    /// L_k: mean of ln max(s, ½) over windows and blocks, a value a block size.
    pub log_sizes: Vec<f64>,
    /// b: least-squares slope of L_k on ln N_k.
    pub slope: f64,
    /// Jackknife over windows; none for one window.
    pub slope_se: Option<f64>,
    /// The cascade of each whole window.
    pub largest: Vec<Cascade>,
}

/// Relaxes every block of every size on the ring of that size, all at one threshold \[ours\]. `values` are whole windows of
/// `layout.largest` magnitudes, one after the other.
///
/// # Panics
/// When `values` is not a whole number of windows, at least one.
#[must_use]
pub fn nest(values: &[f64], layout: &NestLayout, threshold: f64) -> Nest {
    let windows = values.len() / layout.largest;
    assert!(windows >= 1 && values.len().is_multiple_of(layout.largest), "{} values", values.len());
    let rule = Rule { threshold, alpha: ALPHA, cap: None };
    let mut relaxation = Relaxation::default();
    let mut largest = Vec::with_capacity(windows);
    // One row a block size, one column a window.
    let mut logs: Vec<Vec<f64>> = Vec::new();
    for size in layout.sizes() {
        let ring = Graph::ring(size, RING_REACH);
        let mut block_log = |block: &[f64]| {
            let cascade = relaxation.run(&ring, block, rule);
            if size == layout.largest {
                largest.push(cascade);
            }
            (cascade.topplings as f64).max(QUIET).ln()
        };
        let blocks = (layout.largest / size) as f64;
        let window_log = |window: &[f64]| window.chunks_exact(size).map(&mut block_log).sum::<f64>() / blocks;
        logs.push(values.chunks_exact(layout.largest).map(window_log).collect());
    }
    let fit = LogFit::on(layout.sizes().map(|size| size as f64));
    let log_sizes: Vec<f64> = logs.iter().map(|windows| mean(windows)).collect();
    let slopes: Vec<f64> =
        (0..windows).map(|window| fit.slope(&logs.iter().map(|row| row[window]).collect::<Vec<_>>())).collect();
    Nest { slope: fit.slope(&log_sizes), slope_se: jackknife_of_mean(&slopes), log_sizes, largest }
}

/// The slope is linear in L_k, hence the mean of the windows' slopes; leaving windows out one at a time then gives the
/// ordinary standard error of that mean.
fn jackknife_of_mean(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (values.len() >= 2).then(|| (squares / (count * (count - 1.0))).sqrt())
}
