//! Curvature (arXiv 2606.02596): how the loss curves along the singular directions of a layer's gradient.
//!
//! G = Σ sigma_k u_k v_kᵀ is the gradient of one matrix layer, averaged over a fixed evaluation batch, and
//! h_k = vec(u_k v_kᵀ)ᵀ H vec(u_k v_kᵀ) the curvature of the loss along its k-th direction, H the Hessian in this layer's
//! weights. h_k is a directional curvature, not an eigenvalue of H. The instrument fits power laws between sigma_k, h_k
//! and k: natural logarithms, plain least squares, no weights \[source\].
//!
//! [`gradient_directions`] and [`kronecker()`] are what a client needs around its own Hessian-vector products; [`reading()`]
//! is the instrument.

mod directions;
mod error;
mod fit;
mod instrument;
mod kept;
mod kronecker;
mod rank_model;
mod reading;
mod transfer;
mod zeta;

pub use directions::{GradientDirections, gradient_directions, kronecker};
pub use error::CurvatureError;
pub use instrument::{PRECONDITIONER_DELTA, reading};
pub use reading::{CurvatureReading, RankModel};
pub use zeta::zeta;

use error::{check_filled, check_finite, check_length};

/// A snapshot of one matrix layer on a fixed evaluation batch. The order of the directions does not matter: the instrument
/// sorts them by decreasing sigma, and the eigenvalues of the Kronecker factors by themselves.
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

impl CurvatureSnapshot {
    /// Whether it can be read at all. A curvature may be negative, and so may the rounding noise of a Kronecker factor.
    ///
    /// # Errors
    /// [`CurvatureError`] for the first field that is empty, does not fit the others, is not finite, or (sigma) negative.
    pub fn check(&self) -> Result<(), CurvatureError> {
        let count = self.sigma.len();
        check_filled("sigma", count)?;
        check_length("curvature", self.curvature.len(), count)?;
        check_finite("sigma", &self.sigma)?;
        check_finite("curvature", &self.curvature)?;
        if let Some(index) = self.sigma.iter().position(|sigma| *sigma < 0.0) {
            return Err(CurvatureError::Negative { field: "sigma", index });
        }
        self.kronecker.as_ref().map_or(Ok(()), |kronecker| kronecker.check(count))
    }
}

impl Kronecker {
    fn check(&self, count: usize) -> Result<(), CurvatureError> {
        check_length("kronecker.output_factor", self.output_factor.len(), count)?;
        check_length("kronecker.input_factor", self.input_factor.len(), count)?;
        if !self.sum_of_products.is_empty() {
            check_length("kronecker.sum_of_products", self.sum_of_products.len(), count)?;
        }
        check_finite("kronecker.output_factor", &self.output_factor)?;
        check_finite("kronecker.input_factor", &self.input_factor)?;
        check_finite("kronecker.output_eigenvalues", &self.output_eigenvalues)?;
        check_finite("kronecker.input_eigenvalues", &self.input_eigenvalues)?;
        check_finite("kronecker.sum_of_products", &self.sum_of_products)
    }
}
