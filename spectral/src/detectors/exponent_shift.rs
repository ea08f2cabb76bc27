//! A lasting change of the exponent by which a layer's curvature follows its gradient.

use serde::{Deserialize, Serialize};

use super::layer_config::ExponentShiftConfig;
use super::{Detector, Finding};
use crate::curvature::CurvatureReading;

/// An exponent and its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Estimate {
    exponent: f64,
    error: f64,
}

/// State of `curvature.shift` \[ours\]: exponent off the confirmed one by more than max(0.1, 3·sqrt(se² + se_ref²)), on
/// one side, for 2 readings in a row; the newest is then the confirmed one. The first reading confirms the first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExponentShift {
    confirmed: Option<Estimate>,
    /// Exponents in a row beyond the threshold on one side.
    run: Vec<f64>,
    rising: bool,
}

impl ExponentShift {
    /// Takes in a reading. One without an exponent is not seen, and breaks no row.
    pub(crate) fn see(&mut self, reading: &CurvatureReading, config: &ExponentShiftConfig) -> Option<Finding> {
        let now = Estimate { exponent: reading.exponent?, error: reading.exponent_se? };
        let confirmed = *self.confirmed.get_or_insert(now);
        let offset = now.exponent - confirmed.exponent;
        let error = now.error.hypot(confirmed.error);
        let threshold = config.least_change.max(config.error_factor * error);
        if offset.abs() <= threshold {
            self.run.clear();
            return None;
        }
        if self.rising != (offset > 0.0) {
            self.run.clear();
        }
        self.rising = offset > 0.0;
        self.run.push(now.exponent);
        if self.run.len() < config.confirm_readings as usize {
            return None;
        }
        self.confirmed = Some(now);
        let values = std::mem::take(&mut self.run);
        Some(Finding {
            detector: Detector::CurvatureShift,
            regimes: None,
            reading: "curvature.exponent",
            quantity: "curvature.exponent",
            confirmed: values.len() as u32,
            values,
            reference: Some(confirmed.exponent),
            spread: Some(error),
            threshold,
        })
    }
}
