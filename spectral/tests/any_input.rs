//! Whatever a client sends: every instrument answers, every number is finite, and what says nothing says why.

mod support;

use gradwatch_spectral::cascade::{self, CascadeSnapshot, FleetPoint, WholeGradient, fleet_dimension};
use gradwatch_spectral::catalogue::EDGE_METRICS;
use gradwatch_spectral::curvature::{self, CurvatureSnapshot, Kronecker};
use gradwatch_spectral::dead_directions::{self, BatchKind, DeadDirectionsSnapshot, Spectrum};
use gradwatch_spectral::detectors::DetectorConfig;
use gradwatch_spectral::edge::{EdgeReading, EdgeStream, EdgeTerms};
use gradwatch_spectral::followers::Followers;
use gradwatch_spectral::layer_followers::LayerFollowers;
use gradwatch_spectral::layers::{FieldValue, LayerInstrument, LayerReading, Reason};
use gradwatch_spectral::learning_cell::{self, Activation, LearningCellSnapshot, ProbeBatch};
use support::Random;

/// Values of a few kinds at a time, so that lists of zeros, of equal values, of both ends of the range and plain ones all
/// come up.
struct Source {
    random: Random,
    kinds: Vec<u64>,
    spread: f64,
    /// Largest magnitude, and smallest that is not 0.
    range: (f64, f64),
}

impl Source {
    fn new(seed: u64, range: (f64, f64)) -> Self {
        Self { random: Random::new(seed), kinds: vec![], spread: 1.0, range }
    }

    /// Another mixture; NaN and infinity in few of them, since they hide what comes behind.
    fn change(&mut self) {
        let kinds = if self.below(8) == 0 { 12 } else { 9 };
        self.kinds = (0..1 + self.below(4)).map(|_| self.below(kinds)).collect();
        self.spread = [0.0, 1e-4, 1.0, 5.0, 40.0, 300.0][self.below(6) as usize];
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    fn value(&mut self) -> f64 {
        let kind = self.kinds[self.random.next_u64() as usize % self.kinds.len()];
        let (largest, smallest) = self.range;
        let size = (self.spread * self.random.gaussian()).exp().clamp(smallest, largest);
        match kind {
            0 => 0.0,
            1 => 1.0,
            2 => smallest * (1 + self.below(3)) as f64,
            3 => largest,
            4 => largest.sqrt(),
            5 | 6 => size,
            7 => self.random.gaussian(),
            8 => -size,
            9 => f64::NAN,
            10 => f64::INFINITY,
            _ => f64::NEG_INFINITY,
        }
    }

    fn values(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.value()).collect()
    }

    /// Magnitudes mostly.
    fn positive(&mut self, count: usize) -> Vec<f64> {
        let sign = if self.below(16) == 0 { -1.0 } else { 1.0 };
        self.values(count).into_iter().map(|value| sign * value.abs()).collect()
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        self.values(count).into_iter().map(|value| value as f32).collect()
    }

    /// `count`, but now and then another.
    fn about(&mut self, count: usize) -> usize {
        if self.below(24) == 0 { self.below(2 * count as u64 + 2) as usize } else { count }
    }
}

const FLOAT64: (f64, f64) = (f64::MAX, 5e-324);
const FLOAT32: (f64, f64) = (f32::MAX as f64, 1e-45);

/// How many readings of a test had a value beside counts, flags and words, and how many had a reason.
#[derive(Debug, Default)]
struct Tally {
    numbers: u32,
    reasons: u32,
}

impl Tally {
    #[track_caller]
    fn take(&mut self, reading: &LayerReading, of: &dyn std::fmt::Debug) {
        let mut numbers = false;
        for value in reading.values().into_iter().flatten() {
            match value {
                FieldValue::Number(number) => assert!(number.is_finite(), "{reading:?} of {of:?}"),
                FieldValue::List(list) => assert!(list.iter().all(|it| it.is_finite()), "{reading:?} of {of:?}"),
                FieldValue::Count(count) => assert!(i64::try_from(count).is_ok(), "{reading:?} of {of:?}"),
                FieldValue::Flag(_) | FieldValue::Word(_) => continue,
            }
            numbers = true;
        }
        assert!(numbers || reading.reason().is_some(), "says nothing and not why: {of:?}");
        // An eigensolver that does not converge is the only failure there may be, and none is known.
        assert_ne!(reading.reason(), Some(Reason::Failed), "{of:?}");
        self.numbers += u32::from(numbers);
        self.reasons += u32::from(reading.reason().is_some());
    }

    /// Neither kind of reading may be too rare for the test to mean anything.
    #[track_caller]
    fn check(&self, least: u32) {
        println!("{self:?}");
        assert!(self.numbers >= least && self.reasons >= least, "{self:?}");
    }
}

#[test]
fn any_cascade_snapshot() {
    let mut source = Source::new(1, FLOAT64);
    let mut tally = Tally::default();
    for case in 0..600 {
        source.range = if case % 2 == 0 { FLOAT64 } else { (65_504.0, 6e-8) };
        source.change();
        let length = [0, 1, 3, 1024, 1024, 1024, 1024, 4096][source.below(8) as usize];
        let count = source.below(4) as usize;
        let windows = (0..count)
            .map(|_| {
                let length = source.about(length);
                source.positive(length)
            })
            .collect();
        source.change();
        let whole = match source.below(3) {
            0 => None,
            1 => {
                let count = source.below(400) as usize;
                Some(WholeGradient::Entries(source.values(count)))
            }
            // Ingest refuses 2^53 sites.
            _ => Some(WholeGradient::Fraction {
                sites: source.random.next_u64() >> (11 + case % 53),
                phi: source.value(),
            }),
        };
        let snapshot = CascadeSnapshot { windows, whole };
        tally.take(&LayerReading::Cascade(cascade::reading(&snapshot)), &case);
    }
    tally.check(150);
}

#[test]
fn any_curvature_snapshot() {
    let mut source = Source::new(2, FLOAT64);
    let mut tally = Tally::default();
    let mut followers = LayerFollowers::new(LayerInstrument::Curvature, &DetectorConfig::default());
    for case in 0..3000 {
        let count = source.below(24) as usize;
        let mut list = |positive: bool| {
            source.change();
            let count = source.about(count);
            if positive { source.positive(count) } else { source.values(count) }
        };
        let (mut sigma, curvature) = (list(true), list(false));
        if case % 3 > 0 {
            // As a layer's: positive and within the numerical rank of each other.
            let largest = sigma.iter().copied().filter(|it| it.is_finite()).fold(1e-300, f64::max);
            sigma.iter_mut().enumerate().for_each(|(k, it)| *it = it.max(largest * 0.7f64.powi(k as i32)));
        }
        let kronecker = (case % 2 == 0).then(|| Kronecker {
            output_factor: list(false),
            input_factor: list(true),
            output_eigenvalues: list(true),
            input_eigenvalues: list(true),
            sum_of_products: if case % 4 == 0 { vec![] } else { list(false) },
        });
        let snapshot = CurvatureSnapshot { sigma, curvature, kronecker };
        let mut reading = LayerReading::Curvature(curvature::reading(&snapshot));
        followers.follow(case, &mut reading);
        tally.take(&reading, &snapshot);
    }
    tally.check(400);
}

#[test]
fn any_dead_directions_snapshot() {
    let mut source = Source::new(3, FLOAT64);
    let mut tally = Tally::default();
    let mut followers = LayerFollowers::new(LayerInstrument::DeadDirections, &DetectorConfig::default());
    for case in 0..3000 {
        let width = if case % 2 == 0 { 6 } else { source.below(14) as usize };
        source.change();
        let spectrum = match source.below(3) {
            0 => {
                let length = source.about(width * width);
                let mut gram = source.values(length);
                if length == width * width {
                    for i in 0..width {
                        // Symmetric, and half of the time diagonally dominant, hence positive.
                        (0..i).for_each(|j| gram[i * width + j] = gram[j * width + i]);
                        if case % 4 == 0 {
                            let row: f64 = gram[i * width..(i + 1) * width].iter().map(|it| it.abs()).sum();
                            gram[i * width + i] = if row.is_finite() { row } else { f64::MAX };
                        }
                    }
                }
                Spectrum::Gram(gram)
            }
            _ => {
                let length = source.about(width);
                Spectrum::Eigenvalues(source.positive(length))
            }
        };
        source.change();
        let count = source.about(width);
        let snapshot = DeadDirectionsSnapshot {
            spectrum,
            singular_values: source.positive(count),
            samples: [width as u64, 1 << 52, u64::MAX, 0][(source.below(16) / 5) as usize],
            width: width as u32,
            batch: if source.below(2) == 0 { BatchKind::Train } else { BatchKind::HeldOut },
            is_float32: source.below(4) == 0,
            gauge_removed: if source.below(8) == 0 { source.random.next_u64() as u32 % 16 } else { 0 },
        };
        // Ingest refuses 2^53 samples.
        let snapshot = DeadDirectionsSnapshot { samples: snapshot.samples.min((1 << 53) - 1), ..snapshot };
        let mut reading = LayerReading::DeadDirections(dead_directions::reading(&snapshot));
        followers.follow(case, &mut reading);
        tally.take(&reading, &snapshot);
    }
    tally.check(400);
}

#[test]
fn any_learning_cell_snapshot() {
    let mut source = Source::new(4, FLOAT32);
    let mut tally = Tally::default();
    let mut followers = LayerFollowers::new(LayerInstrument::LearningCell, &DetectorConfig::default());
    for case in 0..3000 {
        let neurons = if case % 50 == 0 { 310 } else { source.below(14) as usize };
        let width = source.below(5) as usize;
        let mut list = |count: usize| {
            source.change();
            let count = source.about(count);
            source.floats(count)
        };
        let (outer, inner) = (list(neurons), list(neurons * width));
        let probe = (case % 2 == 0)
            .then(|| ProbeBatch { inputs: list(40 * width), targets: if case % 4 == 0 { list(40) } else { vec![] } });
        let activation = Activation::ALL[case as usize % Activation::ALL.len()];
        let snapshot = LearningCellSnapshot { outer, inner, width, activation, probe };
        let mut reading = LayerReading::LearningCell(learning_cell::reading(&snapshot));
        followers.follow(case, &mut reading);
        tally.take(&reading, &snapshot);
    }
    tally.check(400);
}

#[test]
fn any_points_of_a_fleet() {
    let mut source = Source::new(5, FLOAT64);
    let (mut published, mut refused) = (0, 0);
    for case in 0..3000 {
        source.change();
        let slope = source.value();
        let points: Vec<FleetPoint> = (0..source.below(20))
            .map(|at| {
                let parameters = if case % 5 == 0 { source.random.next_u64() } else { 10 << (at / 3) };
                let scatter = source.value();
                let ln_size = if case % 2 == 0 { slope * (parameters as f64).ln() } else { scatter };
                FleetPoint { parameters, run: at % 3, ln_size }
            })
            .collect();
        let found = fleet_dimension(&points);
        let numbers = [found.r2, found.dimension, found.low, found.high].into_iter().flatten();
        let left_out = found.leave_one_out.iter().map(|it| it.dimension);
        assert!(numbers.chain(left_out).all(f64::is_finite), "{found:?} of {points:?}");
        assert_eq!(found.dimension.is_some(), found.reason.is_none(), "{found:?} of {points:?}");
        published += u32::from(found.dimension.is_some());
        refused += u32::from(found.reason.is_some());
    }
    assert!(published > 300 && refused > 300, "{published} {refused}");
}

#[test]
fn any_terms_of_an_edge() {
    let mut source = Source::new(6, FLOAT32);
    let mut with_terms = 0;
    for case in 0..60 {
        let mut stream = EdgeStream::new(16, &[4], 16, true).expect("valid");
        let mut followers = Followers::new(4, &DetectorConfig::default());
        for step in 0..60 {
            source.kinds = vec![2 + case % 3, 5, 7];
            source.spread = if step % 7 == 0 { 40.0 } else { 0.5 };
            source.range = FLOAT32;
            let row = source.floats(16);
            let mut reading: EdgeReading = stream.push(&row, None).expect("finite row").remove(0);
            source.range = FLOAT64;
            source.change();
            let mut terms = || std::array::from_fn(|_| source.value());
            let loss: [f64; 6] = std::array::from_fn(|at| terms()[at % 2]);
            let terms = EdgeTerms {
                position: reading.position.unwrap_or(1),
                curvatures: Some(terms()),
                projections: Some(terms()),
                loss_projections: Some([[loss[0], loss[1], loss[2]], [loss[3], loss[4], loss[5]]]),
            };
            let (eta, omega) = (source.value(), source.value());
            reading.add_terms(&terms, Some(eta), Some(omega));
            followers.follow(step, &mut reading);
            for metric in EDGE_METRICS {
                assert!(reading.value(metric.short).is_none_or(f64::is_finite), "{} of {terms:?}", metric.name);
            }
            with_terms += u32::from(reading.gap_flow_curvature.is_some());
        }
    }
    assert!(with_terms > 300, "{with_terms}");
}
