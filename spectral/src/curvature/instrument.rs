//! From a snapshot to a reading.

use super::kept::KeptDirections;
use super::rank_model::rank_model;
use super::transfer::{transfer_error, transfer_null};
use super::{CurvatureReading, CurvatureSnapshot, fit, kronecker, zeta};
use crate::layers::Reason;

/// An exponent fit with a lower R² is flagged \[source\].
const LOW_R2: f64 = 0.8;

/// delta_rel of the preconditioner: its damping delta as a share of sigma_1^alpha. The source's 0.1 has the units of
/// sigma^alpha and fits its own gradients' scale only; relative to sigma_1^alpha it fits any.
pub const PRECONDITIONER_DELTA: f64 = 0.1;

/// Reads a snapshot. The same snapshot gives the same bits. Content that cannot be read at all (see
/// [`CurvatureSnapshot::check`]) gives a reading that is null but for the reason.
pub fn reading(snapshot: &CurvatureSnapshot) -> CurvatureReading {
    if let Err(error) = snapshot.check() {
        return CurvatureReading { reason: Some(error.reason()), ..Default::default() };
    }
    let kept = KeptDirections::of(snapshot);
    let mut reading = CurvatureReading {
        directions: Some(snapshot.sigma.len() as u64),
        k_eff: Some(kept.count() as u64),
        participation: fit::participation(&kept.curvature),
        participation_gradient: fit::participation(&kept.sigma),
        negative: Some(kept.curvature.iter().filter(|h| **h <= 0.0).count() as u64),
        ..Default::default()
    };
    let accounted = match &snapshot.kronecker {
        Some(kronecker) => {
            reading.concentration = kronecker::concentration(&kept, kronecker);
            kronecker::account(&mut reading, &kept, kronecker)
        }
        None => Ok(()),
    };
    // The first of them says most.
    reading.reason = fit_power_laws(&mut reading, &kept).and(accounted).err();
    reading
}

/// Everything that is fitted to sigma and h alone. What could be fitted stays when the rest could not.
fn fit_power_laws(reading: &mut CurvatureReading, kept: &KeptDirections) -> Result<(), Reason> {
    if kept.count() == 0 {
        return Err(Reason::AllZero);
    }
    let ln_sigma: Vec<f64> = kept.sigma.iter().map(|sigma| sigma.ln()).collect();
    let rank_decay = fit::decay(&ln_sigma).ok_or(Reason::TooFewSingularValues)?;
    reading.rank_decay = Some(rank_decay.slope);
    reading.rank_decay_r2 = rank_decay.r2;
    reading.rank_model = rank_model(&ln_sigma);

    let positive: Vec<usize> = (0..kept.count()).filter(|k| kept.curvature[*k] > 0.0).collect();
    let x: Vec<f64> = positive.iter().map(|k| ln_sigma[*k]).collect();
    let y: Vec<f64> = positive.iter().map(|k| kept.curvature[*k].ln()).collect();
    let mut sorted = y.clone();
    fit::sort_decreasing(&mut sorted);
    let hessian_decay = fit::decay(&sorted).ok_or(Reason::TooFewPositiveCurvatures)?;
    reading.hessian_decay = Some(hessian_decay.slope);
    reading.hessian_decay_r2 = hessian_decay.r2;

    // A near tie has one mean curvature: a line through it alone would be flat whatever the layer is like.
    if kept.are_one_tie(&positive) {
        return Err(Reason::DuplicateSingularValues);
    }
    let exponent = fit::line(&x, &y).ok_or(Reason::DuplicateSingularValues)?;
    reading.exponent = Some(exponent.slope);
    reading.exponent_r2 = exponent.r2;
    reading.exponent_se = Some(exponent.slope_se);
    reading.r2_low = exponent.r2.map(|r2| r2 < LOW_R2);
    reading.transfer_error = transfer_error(hessian_decay.slope, exponent.slope, rank_decay.slope);
    if reading.transfer_error.is_some() {
        reading.transfer_null = transfer_null(&x, &y, &exponent, rank_decay.slope);
    }
    reading.participation_zeta_ratio =
        reading.participation.zip(zeta_participation(exponent.slope * rank_decay.slope)).map(|(p, bound)| p / bound);
    reading.preconditioner = preconditioner(&kept.sigma, exponent.slope);
    Ok(())
}

/// zeta(ag)²/zeta(2ag), the participation of the endless power law k^−ag; none unless ag > 1 \[source\].
fn zeta_participation(ag: f64) -> Option<f64> {
    Some(zeta(ag)?.powi(2) / zeta(2.0 * ag)?)
}

/// T(sigma_k; alpha) = sigma_k/(sigma_k^alpha + delta), delta = 0.1·sigma_1^alpha; none where a value would not be finite.
/// With r = sigma_k/sigma_1 it is sigma_1^(1−alpha)·r/(r^alpha + 0.1), in which nothing overflows that need not.
fn preconditioner(sigma: &[f64], exponent: f64) -> Option<Vec<f64>> {
    let largest = sigma[0];
    let scale = largest.powf(1.0 - exponent);
    let transfer: Vec<f64> = sigma
        .iter()
        .map(|sigma| sigma / largest)
        .map(|ratio| scale * (ratio / (ratio.powf(exponent) + PRECONDITIONER_DELTA)))
        .collect();
    transfer.iter().all(|value| value.is_finite()).then_some(transfer)
}
