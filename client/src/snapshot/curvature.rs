//! Curvature along a layer's gradient directions.

use gradwatch_proto::v1;
use gradwatch_spectral::curvature::Kronecker;

use super::{Fault, check_count, check_length};

const MAX_DIRECTIONS: usize = 4_096;
/// Of one Kronecker factor.
const MAX_EIGENVALUES: usize = 65_536;

/// How the loss curves along the leading singular directions of a matrix layer's gradient, on a fixed evaluation batch.
///
/// sigma_k, u_k and v_k come from [`spectra::gradient_directions`](crate::spectra::gradient_directions); h_k is
/// vec(u_k v_kᵀ)ᵀ H vec(u_k v_kᵀ), by an exact Hessian-vector product along
/// [`GradientDirections::rank_one`](crate::spectra::GradientDirections::rank_one).
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a snapshot says nothing until its frame is submitted"]
pub struct CurvatureSnapshot<'a> {
    sigma: &'a [f64],
    curvature: &'a [f64],
    kronecker: Option<&'a Kronecker>,
}

impl<'a> CurvatureSnapshot<'a> {
    /// sigma_k, decreasing, at most 4,096, and as many h_k.
    pub fn new(sigma: &'a [f64], curvature: &'a [f64]) -> Self {
        Self { sigma, curvature, kronecker: None }
    }

    /// What the accounting by Kronecker factors needs, from [`spectra::kronecker`](crate::spectra::kronecker).
    pub fn kronecker(mut self, kronecker: &'a Kronecker) -> Self {
        self.kronecker = Some(kronecker);
        self
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let directions = self.sigma.len();
        check_count("sigma", directions, MAX_DIRECTIONS)?;
        let as_sigma = |field, values: &[f64]| check_length(field, values.len(), directions, "sigma");
        as_sigma("curvature", self.curvature)?;
        let Some(kronecker) = self.kronecker else { return Ok(()) };
        as_sigma("kronecker.output_factor", &kronecker.output_factor)?;
        as_sigma("kronecker.input_factor", &kronecker.input_factor)?;
        check_count("kronecker.output_eigenvalues", kronecker.output_eigenvalues.len(), MAX_EIGENVALUES)?;
        check_count("kronecker.input_eigenvalues", kronecker.input_eigenvalues.len(), MAX_EIGENVALUES)?;
        if !kronecker.sum_of_products.is_empty() {
            as_sigma("kronecker.sum_of_products", &kronecker.sum_of_products)?;
        }
        Ok(())
    }

    pub(super) fn to_wire(self) -> v1::CurvatureSnapshot {
        v1::CurvatureSnapshot {
            sigma: self.sigma.to_vec(),
            curvature: self.curvature.to_vec(),
            kronecker: self.kronecker.cloned().map(|kronecker| v1::Kronecker {
                output_factor: kronecker.output_factor,
                input_factor: kronecker.input_factor,
                output_eigenvalues: kronecker.output_eigenvalues,
                input_eigenvalues: kronecker.input_eigenvalues,
                sum_of_products: kronecker.sum_of_products,
            }),
        }
    }
}
