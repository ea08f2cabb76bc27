//! How the loss curves along the singular directions of a layer's gradient: exact Hessian-vector products in float64.
//!
//! ⟨D, H D⟩ is the second derivative of the loss at t = 0 along weights + t·D. With e(t) the errors on that line it is the
//! mean of 2(‖e'‖² + ⟨e, e''⟩), which Pearlmutter's R-operator ("Fast exact multiplication by the Hessian", 1994), applied
//! twice, gives without any difference. For D of rank one the network's two layers make it cheap: no product depends on
//! the number of pairs and of units at once, so that the batch can be all that is trained on.

use faer::linalg::solvers::Svd;
use faer::{Col, ColRef, Mat};

use crate::evaluation::Evaluation;

/// sigma_k of a layer's gradient, and h_k.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spectrum {
    /// Singular values of the gradient, decreasing.
    pub(crate) sigma: Vec<f64>,
    /// Curvature of the loss along u_k v_kᵀ.
    pub(crate) curvature: Vec<f64>,
}

impl Evaluation<'_> {
    /// The leading `count` directions of W's gradient, or as many as there are.
    pub(crate) fn hidden_spectrum(&self, count: usize) -> Spectrum {
        spectrum(&self.hidden_gradient, count, |unit, input| self.hidden_curvature(unit, input))
    }

    /// The leading `count` directions of V's gradient, or as many as there are.
    pub(crate) fn output_spectrum(&self, count: usize) -> Spectrum {
        spectrum(&self.output_gradient, count, |unit, output| self.output_curvature(unit, output))
    }

    /// ⟨D, H D⟩ for the change D of W by which unit h gets `unit[h]` times the sum of `input` over the pair's two inputs.
    ///
    /// With c = input·x, z' = c·unit for each pair, so e' = 2c P V diag(unit) W x and e'' = 2c² P V unit². Both matrices are
    /// the same for all pairs.
    pub(crate) fn hidden_curvature(&self, unit: ColRef<'_, f64>, input: ColRef<'_, f64>) -> f64 {
        let scaled = Mat::from_fn(self.width, 2 * self.modulus, |h, i| unit[h] * self.hidden[(h, i)]);
        let first_order = self.output.transpose() * scaled;
        let second_order = self.output.transpose() * Col::from_fn(self.width, |h| unit[h].powi(2));
        let per_pair = self.pairs.iter().zip(self.errors.col_iter()).map(|(pair, errors)| {
            let (a, b) = (pair.a, self.modulus + pair.b);
            let change: f64 =
                first_order.col(a).iter().zip(first_order.col(b).iter()).map(|(a, b)| (a + b).powi(2)).sum();
            let bend: f64 = errors.iter().zip(second_order.iter()).map(|(error, bend)| error * bend).sum();
            (input[a] + input[b]).powi(2) * (4.0 * change + 2.0 * bend)
        });
        2.0 * per_pair.sum::<f64>() / self.pairs.len() as f64
    }

    /// ⟨D, H D⟩ for the change `output`·`unit`ᵀ of V: e' = (unit·z²) P `output`, and e is linear in V.
    pub(crate) fn output_curvature(&self, unit: ColRef<'_, f64>, output: ColRef<'_, f64>) -> f64 {
        let mean = output.iter().sum::<f64>() / self.modulus as f64;
        let centred: f64 = output.iter().map(|entry| (entry - mean).powi(2)).sum();
        let change = self.squares.transpose() * unit;
        2.0 * centred * change.squared_norm_l2() / self.pairs.len() as f64
    }
}

/// `curvature` is told the left and the right singular vector.
fn spectrum(
    gradient: &Mat<f64>,
    count: usize,
    curvature: impl Fn(ColRef<'_, f64>, ColRef<'_, f64>) -> f64,
) -> Spectrum {
    // It does not converge on NaN and infinity alone. There are no directions then, and the value says why.
    let Ok(svd) = Svd::new_thin(gradient.as_ref()) else {
        return Spectrum { sigma: vec![f64::NAN], curvature: vec![f64::NAN] };
    };
    let sigma: Vec<f64> = svd.S().column_vector().iter().copied().take(count).collect();
    let curvature = (0..sigma.len()).map(|k| curvature(svd.U().col(k), svd.V().col(k))).collect();
    Spectrum { sigma, curvature }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense;

    /// The second derivative at 0 of what is a polynomial of degree 4 at most: this difference then has no error but
    /// rounding, whatever the step.
    fn second_difference(loss: impl Fn(f64) -> f64) -> f64 {
        const STEP: f64 = 0.25;
        let near = loss(STEP) + loss(-STEP);
        let far = loss(2.0 * STEP) + loss(-2.0 * STEP);
        (16.0 * near - far - 30.0 * loss(0.0)) / (12.0 * STEP * STEP)
    }

    /// `point` + t · `column` `row`ᵀ, with the column's index the faster one.
    fn moved(point: &[f64], t: f64, column: ColRef<'_, f64>, row: ColRef<'_, f64>) -> Vec<f64> {
        let height = column.nrows();
        point.iter().enumerate().map(|(i, value)| value + t * column[i % height] * row[i / height]).collect()
    }

    #[track_caller]
    fn assert_six_digits(spectrum: &Spectrum, k: usize, difference: f64) {
        let (curvature, largest) =
            (spectrum.curvature[k], spectrum.curvature.iter().fold(0.0, |a: f64, b| a.max(b.abs())));
        assert!(curvature.abs() > 1e-4 * largest, "{k}: nothing to compare: {:?}", spectrum.curvature);
        assert!((curvature / difference - 1.0).abs() < 1e-6, "{k}: {curvature} instead of {difference}");
    }

    #[test]
    fn curvatures_along_the_gradients_directions_agree_with_second_differences_of_the_dense_loss() {
        let (weights, table) = dense::instance(24);
        let evaluation = Evaluation::new(&weights, table.train());
        let (hidden, output) = (dense::float64(&weights.hidden), dense::float64(&weights.output));
        let loss = |hidden: &[f64], output: &[f64]| dense::loss(hidden, output, weights.modulus, table.train());

        let spectrum = evaluation.hidden_spectrum(20);
        assert_eq!((spectrum.sigma.len(), spectrum.curvature.len()), (20, 20));
        let svd = evaluation.hidden_gradient.thin_svd().unwrap();
        for k in 0..20 {
            let line = |t: f64| loss(&moved(&hidden, t, svd.U().col(k), svd.V().col(k)), &output);
            assert_six_digits(&spectrum, k, second_difference(line));
            let slope = (line(1e-5) - line(-1e-5)) / 2e-5;
            assert!((slope - spectrum.sigma[k]).abs() < 1e-6 * spectrum.sigma[0], "{slope} {}", spectrum.sigma[k]);
        }

        // Errors sum to zero, so of as many directions as outputs the last one carries nothing.
        let spectrum = evaluation.output_spectrum(20);
        assert_eq!(spectrum.sigma.len(), dense::MODULUS);
        assert!(spectrum.sigma[dense::MODULUS - 1] < 1e-12 * spectrum.sigma[0], "{:?}", spectrum.sigma);
        let svd = evaluation.output_gradient.thin_svd().unwrap();
        for k in 0..dense::MODULUS - 1 {
            let line = |t: f64| loss(&hidden, &moved(&output, t, svd.U().col(k), svd.V().col(k)));
            assert_six_digits(&spectrum, k, second_difference(line));
        }
    }

    #[test]
    fn curvature_is_exact_along_any_rank_one_change() {
        let (weights, table) = dense::instance(24);
        let evaluation = Evaluation::new(&weights, table.train());
        let (hidden, output) = (dense::float64(&weights.hidden), dense::float64(&weights.output));
        let unit = Col::from_fn(24, |h| (h as f64).sin());
        let input = Col::from_fn(2 * dense::MODULUS, |i| 0.1 * i as f64 - 1.0);
        // Far from centred, so that what the network takes off matters.
        let answer = Col::from_fn(dense::MODULUS, |c| 1.0 + (c as f64).cos());
        let along_hidden = second_difference(|t| {
            dense::loss(&moved(&hidden, t, unit.as_ref(), input.as_ref()), &output, weights.modulus, table.train())
        });
        let along_output = second_difference(|t| {
            dense::loss(&hidden, &moved(&output, t, unit.as_ref(), answer.as_ref()), weights.modulus, table.train())
        });
        for (curvature, difference) in [
            (evaluation.hidden_curvature(unit.as_ref(), input.as_ref()), along_hidden),
            (evaluation.output_curvature(unit.as_ref(), answer.as_ref()), along_output),
        ] {
            assert!((curvature / difference - 1.0).abs() < 1e-9, "{curvature} instead of {difference}");
        }
    }

    #[test]
    fn weights_that_are_not_finite_give_a_spectrum_that_says_so() {
        let (mut weights, table) = dense::instance(24);
        weights.hidden[0] = f32::NAN;
        let evaluation = Evaluation::new(&weights, table.train());
        for spectrum in [evaluation.hidden_spectrum(20), evaluation.output_spectrum(20)] {
            assert!(spectrum.sigma.iter().any(|sigma| sigma.is_nan()), "{spectrum:?}");
        }
    }
}
