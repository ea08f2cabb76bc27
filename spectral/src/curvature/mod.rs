//! Curvature (arXiv 2606.02596): how the loss curves along the singular directions of a layer's gradient.

mod reading;

pub use reading::{CurvatureReading, RankModel};

/// A snapshot of one matrix layer on a fixed evaluation batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurvatureSnapshot {
    /// sigma_k of the batch-mean gradient, decreasing, k = 1…K.
    pub sigma: Vec<f64>,
    /// h_k = vec(u_k v_kᵀ)ᵀ H vec(u_k v_kᵀ), by exact Hessian-vector products; as many as `sigma`.
    pub curvature: Vec<f64>,
    /// What the Kronecker accounting needs.
    pub kronecker: Option<Kronecker>,
}

/// The Kronecker factors along the gradient's directions. C_delta = (1/B) deltaᵀ delta, C_A = (1/B) Aᵀ A.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kronecker {
    /// u_kᵀ C_delta u_k, as many as sigma.
    pub output_factor: Vec<f64>,
    /// v_kᵀ C_A v_k, as many as sigma.
    pub input_factor: Vec<f64>,
    /// ld_k, eigenvalues of C_delta, decreasing.
    pub output_eigenvalues: Vec<f64>,
    /// la_k, eigenvalues of C_A, decreasing.
    pub input_eigenvalues: Vec<f64>,
    /// (1/B) Σ_i (u_kᵀ delta_i)² (v_kᵀ a_i)², as many as sigma or none.
    pub sum_of_products: Vec<f64>,
}
