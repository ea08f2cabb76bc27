//! Made readings of layers through their followers.

use std::fmt;

use gradwatch_spectral::cascade::CascadeReading;
use gradwatch_spectral::curvature::CurvatureReading;
use gradwatch_spectral::dead_directions::DeadDirectionsReading;
use gradwatch_spectral::detectors::{Detector, DetectorConfig};
use gradwatch_spectral::layer_followers::LayerFollowers;
use gradwatch_spectral::layers::{LayerInstrument, LayerReading};

use crate::QUIET_READINGS;
use crate::followed::Followed;
use crate::noise::{Family, Noise};
use crate::support::Random;

/// The detectors over layer readings, and the instrument of each.
pub(crate) const DETECTORS: [Detector; 3] =
    [Detector::CascadeShift, Detector::DeadCountChange, Detector::CurvatureShift];
const INSTRUMENTS: [LayerInstrument; 3] =
    [LayerInstrument::Cascade, LayerInstrument::DeadDirections, LayerInstrument::Curvature];

/// Singular values of a gradient that the curvature is known along.
const DIRECTIONS: usize = 20;
/// Width of the layer with dead directions.
const WIDTH: usize = 64;
/// A dead direction's eigenvalue is this far below the live ones, in nats.
const DEAD_NATS: f64 = 6.0;

/// What happens to a layer.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Nothing,
    /// phi by so many of its standard deviations.
    Phi(f64),
    /// So many directions die.
    Die(usize),
    /// The exponent, 1.5 before, becomes this.
    Exponent(f64),
}

pub(crate) const CHANGES: [Change; 4] = [Change::Nothing, Change::Phi(6.0), Change::Die(2), Change::Exponent(2.0)];

impl Change {
    /// The detectors made for such a change.
    pub(crate) fn fitting(self) -> &'static [Detector] {
        match self {
            Self::Nothing => &[],
            Self::Phi(_) => &[Detector::CascadeShift],
            Self::Die(_) => &[Detector::DeadCountChange],
            Self::Exponent(_) => &[Detector::CurvatureShift],
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing (control)"),
            Self::Phi(sigmas) => write!(f, "`phi` by {sigmas} standard deviations"),
            Self::Die(count) => write!(f, "`count_gap` 0 to {count}"),
            Self::Exponent(to) => write!(f, "`exponent` 1.5 to {to}"),
        }
    }
}

/// What happens in a run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) family: Family,
    pub(crate) change: Change,
    /// Readings, and the first one that the change touches.
    pub(crate) readings: usize,
    pub(crate) planted_at: usize,
}

/// Follows one run of every layer instrument by every set of rules.
pub(crate) fn run(plan: Plan, rules: &[DetectorConfig], seed: u64) -> Vec<Followed> {
    let Plan { family, change, readings, planted_at } = plan;
    let mut random = Random::new(seed);
    // A trend is one of the level, as slow in short runs as in quiet ones; the noise about it stays.
    let mut trend = Noise::new(family, 1, QUIET_READINGS, &mut random);
    let steady = Family { shape: family.shape.without_decay(), ..family };
    let mut noises = [3, WIDTH, DIRECTIONS].map(|dim| Noise::new(steady, dim, QUIET_READINGS, &mut random));
    let mut followers: Vec<_> =
        rules.iter().map(|rules| INSTRUMENTS.map(|it| LayerFollowers::new(it, rules))).collect();
    let mut followed = vec![Followed::default(); rules.len()];
    for at in 0..readings {
        let change = if at >= planted_at { change } else { Change::Nothing };
        let level = trend.size() - 1.0;
        trend.next(&mut random);
        let [cascade, dead, curvature] = noises.each_mut().map(|noise| noise.next(&mut random));
        let made = [
            LayerReading::Cascade(cascade_reading(&cascade, level, change)),
            LayerReading::DeadDirections(dead_reading(&dead, level, change)),
            LayerReading::Curvature(curvature_reading(&curvature, level, change)),
        ];
        for (followers, followed) in followers.iter_mut().zip(&mut followed) {
            followed.readings += 1;
            for (follower, reading) in followers.iter_mut().zip(&made) {
                let detections = follower.follow(at as u64, &mut reading.clone());
                followed.alarms.extend(detections.into_iter().map(|detection| (detection.detector, at)));
            }
        }
    }
    followed
}

/// Levels of iid Gaussian gradients, with about the spread that they have from snapshot to snapshot.
fn cascade_reading(noise: &[f64], level: f64, change: Change) -> CascadeReading {
    let shift = if let Change::Phi(sigmas) = change { sigmas } else { 0.0 };
    CascadeReading {
        phi: Some(0.14 + 0.003 * (noise[0] + shift) + 0.02 * level),
        nest_dimension: Some(1.0 + 0.002 * noise[1] + 0.02 * level),
        branching: Some(0.29 + 0.004 * noise[2] + 0.02 * level),
        ..CascadeReading::default()
    }
}

/// count_gap and gap_nats of a made spectrum: eigenvalues over five e-foldings, each off by 0.3 nats of noise.
fn dead_reading(noise: &[f64], level: f64, change: Change) -> DeadDirectionsReading {
    let dead = if let Change::Die(count) = change { count } else { 0 };
    let log_eigenvalue = |(k, z): (usize, &f64)| {
        let alive = 5.0 * k as f64 / WIDTH as f64 + 0.3 * z + level;
        if k < dead { alive - DEAD_NATS } else { alive }
    };
    let mut logs: Vec<f64> = noise.iter().enumerate().map(log_eigenvalue).collect();
    logs.sort_by(f64::total_cmp);
    // The definition of METRICS: floored at 1e-16 of the largest, the first of the widest of the first ¾ of the gaps.
    let floor = logs[WIDTH - 1] + 1e-16f64.ln();
    let gap = |i: usize| logs[i + 1].max(floor) - logs[i].max(floor);
    let widest = (0..WIDTH * 3 / 4).reduce(|best, i| if gap(i) > gap(best) { i } else { best }).unwrap_or_default();
    let gap_nats = gap(widest);
    DeadDirectionsReading {
        count_gap: Some(if gap_nats < 2.0 { 0 } else { widest as u64 + 1 }),
        gap_nats: Some(gap_nats),
        kept: Some(WIDTH as u64),
        ..DeadDirectionsReading::default()
    }
}

/// exponent and its standard error, from the least-squares fit of ln h = exponent · ln sigma with 0.2 nats of noise, where
/// sigma falls by the power 1.
fn curvature_reading(noise: &[f64], level: f64, change: Change) -> CurvatureReading {
    let exponent = if let Change::Exponent(to) = change { to } else { 1.5 + 0.2 * level };
    let x: Vec<f64> = (1..=DIRECTIONS).map(|k| -(k as f64).ln()).collect();
    let mean_x = x.iter().sum::<f64>() / DIRECTIONS as f64;
    let residuals: Vec<f64> = noise.iter().map(|z| 0.2 * z).collect();
    let mean = residuals.iter().sum::<f64>() / DIRECTIONS as f64;
    let spread = x.iter().map(|x| (x - mean_x).powi(2)).sum::<f64>();
    let slope = x.iter().zip(&residuals).map(|(x, r)| (x - mean_x) * (r - mean)).sum::<f64>() / spread;
    let rest = x.iter().zip(&residuals).map(|(x, r)| (r - mean - slope * (x - mean_x)).powi(2)).sum::<f64>();
    CurvatureReading {
        exponent: Some(exponent + slope),
        exponent_se: Some((rest / (DIRECTIONS - 2) as f64 / spread).sqrt()),
        ..CurvatureReading::default()
    }
}
