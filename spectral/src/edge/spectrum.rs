//! Eigenvalues of a Gram matrix and its three leading eigenvectors.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, Par, Spec};

/// Modes whose eigenvectors are followed from window to window.
pub(super) const FOLLOWED_MODES: usize = 3;

/// Eigenvalues ≤ W·1e−14·lambda_1 are set to 0.
const ZERO_EIGENVALUE: f64 = 1e-14;

/// Spectrum of one window.
#[derive(Debug, Clone)]
pub(super) struct Spectrum {
    /// Eigenvalues, descending, never negative; those lost in rounding are 0.
    pub(super) lambda: Vec<f64>,
    /// Singular values of the window, sqrt(lambda).
    pub(super) sigma: Vec<f64>,
    /// Number of non-zero eigenvalues.
    pub(super) modes: usize,
    /// u_1, u_2, u_3, one after the other, W entries each, oldest row first.
    pub(super) vectors: Vec<f64>,
}

impl Spectrum {
    /// u_j, j 0-based and below 3.
    pub(super) fn vector(&self, j: usize) -> &[f64] {
        let rows = self.lambda.len();
        &self.vectors[j * rows..(j + 1) * rows]
    }
}

/// Sequential eigensolver for Gram matrices of one size, with its memory.
///
/// Invariant: the same Gram entries give the same bits on the same processor: no threads, no state between calls.
pub(super) struct Solver {
    rows: usize,
    gram: Mat<f64>,
    vectors: Mat<f64>,
    values: faer::diag::Diag<f64>,
    workspace: MemBuffer,
}

impl std::fmt::Debug for Solver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Solver").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Solver {
    pub(super) fn new(rows: usize) -> Self {
        let scratch = self_adjoint_evd_scratch::<f64>(rows, ComputeEigenvectors::Yes, Par::Seq, Spec::default());
        Self {
            rows,
            gram: Mat::zeros(rows, rows),
            vectors: Mat::zeros(rows, rows),
            values: faer::diag::Diag::zeros(rows),
            workspace: MemBuffer::new(scratch),
        }
    }

    /// Spectrum of the Gram matrix with entries `dot(i, j)`, index 0 the oldest row. None when the entries are so large
    /// that the trace overflows, or the iteration does not converge.
    pub(super) fn solve(&mut self, dot: impl Fn(usize, usize) -> f64) -> Option<Spectrum> {
        let n = self.rows;
        let trace: f64 = (0..n).map(|i| dot(i, i)).sum();
        if !trace.is_finite() {
            return None;
        }
        if trace <= 0.0 {
            return Some(Spectrum {
                lambda: vec![0.0; n],
                sigma: vec![0.0; n],
                modes: 0,
                vectors: vec![0.0; FOLLOWED_MODES * n],
            });
        }
        // A power of two brings the trace near 1, so that neither tiny nor huge updates meet the solver's own
        // thresholds; it is exact, and makes scaling of all updates by a power of two change nothing but the scale.
        let scale = power_of_two_below(trace);
        for j in 0..n {
            for i in j..n {
                let entry = dot(i, j) / scale;
                self.gram[(i, j)] = entry;
                self.gram[(j, i)] = entry;
            }
        }
        self.vectors.fill(0.0);
        self_adjoint_evd(
            self.gram.as_ref(),
            self.values.as_mut(),
            Some(self.vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut self.workspace),
            Spec::default(),
        )
        .ok()?;
        self.read_off(scale)
    }

    /// faer sorts ascending; readings want descending and clamped.
    fn read_off(&self, scale: f64) -> Option<Spectrum> {
        let n = self.rows;
        let values = self.values.column_vector();
        let floor = n as f64 * ZERO_EIGENVALUE * values[n - 1];
        let scaled = |j: usize| {
            let value = values[n - 1 - j];
            if value <= floor || value <= 0.0 { 0.0 } else { value }
        };
        let lambda: Vec<f64> = (0..n).map(|j| scaled(j) * scale).collect();
        if !lambda.iter().all(|l| l.is_finite()) {
            return None;
        }
        let sigma: Vec<f64> = lambda.iter().map(|l| l.sqrt()).collect();
        let modes = lambda.iter().take_while(|l| **l > 0.0).count();
        let mut vectors = Vec::with_capacity(FOLLOWED_MODES * n);
        for j in 0..FOLLOWED_MODES {
            vectors.extend((0..n).map(|i| self.vectors[(i, n - 1 - j)]));
        }
        Some(Spectrum { lambda, sigma, modes, vectors })
    }
}

/// The largest normal power of two not above `x`, for finite x > 0 (the smallest normal one for subnormal x).
pub(crate) fn power_of_two_below(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) & 0x7ff;
    f64::from_bits(exponent.max(1) << 52)
}
