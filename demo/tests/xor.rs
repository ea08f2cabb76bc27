//! The slope of the cascade size on the network's size, over the family's widths, rises through 1 where the task is solved.

use std::ops::RangeInclusive;

use gradwatch_demo::Xor;
use gradwatch_spectral::cascade::{FleetDimension, FleetPoint, fleet_dimension, whole_cascade};

/// Networks of each width.
const SEEDS: u64 = 6;
/// A network may take this many steps to solve the task.
const MAX_STEPS: u64 = 5000;

/// D over the family, of all steps that are that far from each network's own solving step.
fn dimensions(first_seed: u64, windows: &[RangeInclusive<i64>]) -> Vec<FleetDimension> {
    let mut points = vec![Vec::new(); windows.len()];
    for width in Xor::WIDTHS {
        let parameters = Xor::parameters_of(width) as u64;
        for run in first_seed..first_seed + SEEDS {
            let solved = Xor::solving_step(width, run, MAX_STEPS).unwrap() as i64;
            let last = solved + windows.iter().map(|window| *window.end()).max().unwrap();
            let mut network = Xor::new(width, run);
            for offset in -solved..=last - solved {
                network.step();
                for (points, _) in points.iter_mut().zip(windows).filter(|(_, window)| window.contains(&offset)) {
                    let ln_size = (whole_cascade(network.gradient()).unwrap().topplings as f64).ln();
                    points.push(FleetPoint { parameters, run, ln_size });
                }
            }
        }
    }
    points.iter().map(|points| fleet_dimension(points)).collect()
}

#[test]
fn the_dimension_rises_through_one_around_the_solving_step() {
    for set in 1..=6 {
        let found = dimensions(set * SEEDS, &[-15..=-5, 0..=4, 20..=60]);
        assert!(found.iter().all(|found| found.widths == 8), "{found:?}");
        let dimension = |at: usize| found[at].dimension.unwrap();
        let (before, at, after) = (dimension(0), dimension(1), dimension(2));
        assert!(before < 1.0 && before < at && at < after && after > 1.0, "set {set}: {before} {at} {after}");
    }
}
