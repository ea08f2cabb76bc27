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

/// The steps before the solving step, at it, and after it.
const WINDOWS: [RangeInclusive<i64>; 3] = [-15..=-5, 0..=4, 20..=60];

/// `cargo test --workspace --test xor -- --nocapture` prints the figures in docs/instruments/cascade.md. Seeds from 1000 on were
/// never looked at when the family's step size was chosen.
#[test]
fn the_dimension_rises_through_one_around_the_solving_step() {
    for first_seed in (0..10).map(|set| 1000 + set * SEEDS) {
        let found = dimensions(first_seed, &WINDOWS);
        for at in &found {
            assert_eq!(at.widths, 8, "{at:?}");
        }
        let of = |at: usize| (found[at].dimension.unwrap(), found[at].low.unwrap(), found[at].high.unwrap());
        let shown = |at: usize| format!("{:.3} ({:.3} to {:.3})", of(at).0, of(at).1, of(at).2);
        println!("seeds {first_seed} to {}: {} | {} | {}", first_seed + SEEDS - 1, shown(0), shown(1), shown(2));
        let (before, at, after) = (of(0).0, of(1).0, of(2).0);
        assert!(before < 1.0 && before < at && at < after && after > 1.0, "{first_seed}: {before} {at} {after}");
    }
}
