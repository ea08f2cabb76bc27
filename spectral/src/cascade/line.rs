//! Plain least squares of y on ln N.

/// A line through points at fixed x.
#[derive(Debug, Clone)]
pub(super) struct LogFit {
    /// x − mean(x).
    centred: Vec<f64>,
    sum_of_squares: f64,
}

impl LogFit {
    /// Fits on ln N; at least two different N, each at least 1.
    pub(super) fn on(sizes: impl IntoIterator<Item = f64>) -> Self {
        let x: Vec<f64> = sizes.into_iter().map(f64::ln).collect();
        let mean = mean(&x);
        let centred: Vec<f64> = x.iter().map(|x| x - mean).collect();
        let sum_of_squares = centred.iter().map(|x| x * x).sum();
        Self { centred, sum_of_squares }
    }

    /// Slope of y, one value a size.
    pub(super) fn slope(&self, y: &[f64]) -> f64 {
        debug_assert_eq!(y.len(), self.centred.len());
        let mean = mean(y);
        self.centred.iter().zip(y).map(|(x, y)| x * (y - mean)).sum::<f64>() / self.sum_of_squares
    }

    /// Share of the variance of y that the line explains; none when y does not vary, or its square leaves float64.
    pub(super) fn r2(&self, y: &[f64]) -> Option<f64> {
        let (slope, mean) = (self.slope(y), mean(y));
        let total: f64 = y.iter().map(|y| (y - mean) * (y - mean)).sum();
        let left: f64 = self.centred.iter().zip(y).map(|(x, y)| (y - mean - slope * x).powi(2)).sum();
        Some(1.0 - left / total).filter(|share| total > 0.0 && share.is_finite())
    }
}

/// Mean of at least one value.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
