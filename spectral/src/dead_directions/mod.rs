//! Dead directions (arXiv 2606.21158, 2606.05957): directions of a layer along which per-sample gradients vanish.

mod reading;

pub use reading::{BatchKind, DeadDirectionsReading};

/// A snapshot of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadDirectionsSnapshot {
    /// Of G = (1/n) Σ delta_i delta_iᵀ, delta_i the gradient of sample i's loss to the layer's pre-activation.
    pub spectrum: Spectrum,
    /// Singular values of the n × width activation matrix X, decreasing; min(n, width) of them.
    pub singular_values: Vec<f64>,
    /// n.
    pub samples: u64,
    /// Width of the layer.
    pub width: u32,
    /// Which data the samples are.
    pub batch: BatchKind,
    /// The spectrum was computed in float32: small eigenvalues are rounding noise.
    pub is_float32: bool,
    /// Gauge directions that the client has projected out.
    pub gauge_removed: u32,
}

/// G, or what is needed of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Spectrum {
    /// Its eigenvalues, in any order.
    Eigenvalues(Vec<f64>),
    /// G itself, width × width, row-major; width at most 1,024.
    Gram(Vec<f64>),
}
