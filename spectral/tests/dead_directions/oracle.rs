//! Reduced-rank regression y = B A x, whose learning coefficient lambda is known in closed form.

use gradwatch_spectral::dead_directions::BatchKind;

use crate::network::{times, transposed};
use crate::support::Random;
use crate::{of_samples, read};

/// M inputs, N outputs, H hidden, true rank r.
#[derive(Debug, Clone, Copy)]
struct Model {
    inputs: i32,
    outputs: i32,
    hidden: i32,
    rank: i32,
}

impl Model {
    fn new((inputs, outputs, hidden, rank): (i32, i32, i32, i32)) -> Self {
        Self { inputs, outputs, hidden, rank }
    }

    /// (2 lambda, multiplicity): the regular rank-r part plus the smallest codimension of {rank A' = k, B'A' = 0}.
    fn by_strata(self) -> (i32, usize) {
        let Self { inputs: m, outputs: n, hidden: h, rank: r } = self;
        let codimension = |k: i32| k * (n - r) + (h - r - k) * (m - r - k);
        let strata = || 0..=(h - r).min(m - r);
        let least = strata().map(codimension).min().expect("k = 0 at least");
        (r * (m + n - r) + least, strata().filter(|k| codimension(*k) == least).count())
    }

    /// (8 lambda, multiplicity) of Aoyagi and Watanabe (2005).
    fn aoyagi_watanabe(self) -> (i32, usize) {
        let Self { inputs: m, outputs: n, hidden: h, rank: r } = self;
        if n + r <= m + h && m + r <= n + h && h + r <= m + n {
            let q = -(h + r) * (h + r) - m * m - n * n + 2 * (h + r) * (m + n) + 2 * m * n;
            if (m + h + n + r) % 2 == 0 { (q, 1) } else { (q + 1, 2) }
        } else if m + h < n + r {
            (4 * (h * m - h * r + n * r), 1)
        } else if n + h < m + r {
            (4 * (h * n - h * r + m * r), 1)
        } else {
            (4 * m * n, 1)
        }
    }

    fn lambda(self) -> f64 {
        f64::from(self.by_strata().0) / 2.0
    }
}

#[test]
fn both_formulas_of_lambda_agree_on_all_1808_models() {
    let mut models = 0;
    for inputs in 1..=8 {
        for outputs in 1..=8 {
            for hidden in 1..=8 {
                for rank in 0..=inputs.min(outputs).min(hidden) {
                    let model = Model { inputs, outputs, hidden, rank };
                    let (lambda2, multiplicity) = model.by_strata();
                    assert_eq!((4 * lambda2, multiplicity), model.aoyagi_watanabe(), "{model:?}");
                    models += 1;
                }
            }
        }
    }
    assert_eq!(models, 1808);
}

#[test]
fn spot_values_of_lambda() {
    assert_eq!((Model::new((5, 5, 3, 0)).lambda(), Model::new((5, 5, 3, 0)).by_strata().1), (6.5, 2));
    for (model, lambda) in [((5, 5, 4, 0), 8.0), ((4, 8, 3, 0), 6.0), ((3, 3, 3, 3), 4.5), ((10, 5, 3, 1), 11.0)] {
        assert_eq!(Model::new(model).lambda(), lambda, "{model:?}");
    }
}

/// Spearman correlation with average ranks.
fn spearman(x: &[f64], y: &[f64]) -> f64 {
    let ranks = |v: &[f64]| -> Vec<f64> {
        let rank = |a: f64| {
            let (below, equal) = v.iter().fold((0.0, 0.0), |(below, equal), b| {
                (below + f64::from(u8::from(*b < a)), equal + f64::from(u8::from(*b == a)))
            });
            below + 0.5 * (equal + 1.0)
        };
        v.iter().map(|a| rank(*a)).collect()
    };
    let (x, y) = (ranks(x), ranks(y));
    let mean = (x.len() + 1) as f64 / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    product(&x, &y) / (product(&x, &x) * product(&y, &y)).sqrt()
}

const INPUTS: usize = 10;
const OUTPUTS: usize = 5;
const SAMPLES: usize = 2000;

/// n × INPUTS inputs and the n × OUTPUTS label noise.
fn batch(random: &mut Random) -> (Vec<f64>, Vec<f64>) {
    let noise = random.gaussians(SAMPLES * OUTPUTS).iter().map(|z| 0.1 * z).collect();
    (random.gaussians(SAMPLES * INPUTS), noise)
}

/// B A after least squares on noisy labels of a teacher of that rank.
fn fitted(hidden: usize, rank: usize, inputs: &[f64], noise: &[f64], random: &mut Random) -> Vec<f64> {
    let n = SAMPLES as f64;
    let mut targets = noise.to_vec();
    for (y, x) in targets.chunks_exact_mut(OUTPUTS).zip(inputs.chunks_exact(INPUTS)) {
        (0..rank).for_each(|i| y[i] += x[i]);
    }
    let covariance: Vec<f64> =
        times(&transposed(inputs, INPUTS), inputs, SAMPLES, INPUTS).iter().map(|c| c / n).collect();
    let cross: Vec<f64> =
        times(&transposed(&targets, OUTPUTS), inputs, SAMPLES, INPUTS).iter().map(|c| c / n).collect();
    let mut a: Vec<f64> = random.gaussians(hidden * INPUTS).iter().map(|z| 0.3 * z).collect();
    let mut b: Vec<f64> = random.gaussians(OUTPUTS * hidden).iter().map(|z| 0.3 * z).collect();
    for _ in 0..3000 {
        let map = times(&b, &a, hidden, INPUTS);
        let residual: Vec<f64> =
            times(&map, &covariance, INPUTS, INPUTS).iter().zip(&cross).map(|(x, y)| x - y).collect();
        let to_a = times(&transposed(&b, hidden), &residual, OUTPUTS, INPUTS);
        let to_b = times(&residual, &transposed(&a, INPUTS), INPUTS, hidden);
        a.iter_mut().zip(&to_a).for_each(|(w, g)| *w -= 0.05 * g);
        b.iter_mut().zip(&to_b).for_each(|(w, g)| *w -= 0.05 * g);
    }
    times(&b, &a, hidden, INPUTS)
}

#[test]
fn the_sign_of_the_relation_to_lambda_flips_between_train_and_held_out() {
    let (mut lambda, mut train, mut held_out) = (Vec::new(), Vec::new(), Vec::new());
    for hidden in 2..=5 {
        for rank in 1..=hidden {
            let mut logdet = [0.0; 2];
            for seed in 0..4 {
                let mut random = Random::new(seed);
                let batches = [batch(&mut random), batch(&mut random)];
                let map = fitted(hidden, rank, &batches[0].0, &batches[0].1, &mut random);
                for (at, kind) in [BatchKind::Train, BatchKind::HeldOut].into_iter().enumerate() {
                    let (inputs, noise) = &batches[at];
                    let outputs = times(inputs, &transposed(&map, INPUTS), INPUTS, OUTPUTS);
                    let mut residuals: Vec<f64> = outputs.iter().zip(noise).map(|(a, e)| a - e).collect();
                    for (delta, x) in residuals.chunks_exact_mut(OUTPUTS).zip(inputs.chunks_exact(INPUTS)) {
                        (0..rank).for_each(|i| delta[i] -= x[i]);
                    }
                    let reading = read(&of_samples(&residuals, &outputs, OUTPUTS, kind));
                    // A layer behind a narrower one: sigma_min is rounding noise, and says so.
                    assert_eq!((reading.rank, reading.batch), (Some(hidden as u64), Some(kind)));
                    assert_eq!(reading.rank_deficient, Some(hidden < OUTPUTS));
                    logdet[at] += reading.logdet.expect("defined");
                }
            }
            lambda.push(Model::new((INPUTS as i32, OUTPUTS as i32, hidden as i32, rank as i32)).lambda());
            train.push(logdet[0]);
            held_out.push(logdet[1]);
        }
    }
    let (train, held_out) = (spearman(&train, &lambda), spearman(&held_out, &lambda));
    println!("Spearman of logdet with lambda: train {train:.3}, held out {held_out:.3}");
    assert!(train < -0.9, "train {train}");
    assert!(held_out > 0.4, "held out {held_out}");
}
