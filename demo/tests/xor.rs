//! The slope of the cascade size on the network's size, over the family's widths, passes 1 where the task is solved.

use gradwatch_demo::Xor;
use gradwatch_spectral::cascade::{FleetDimension, FleetPoint, fleet_dimension, whole_cascade};

/// Networks of each width.
const SEEDS: u64 = 6;
/// A network may take this many steps to solve the task.
const MAX_STEPS: u64 = 5000;

/// D over the family at steps that many after each network's own solving step.
fn dimensions(first_seed: u64, offsets: &[i64]) -> Vec<FleetDimension> {
    let mut points = vec![Vec::new(); offsets.len()];
    for width in Xor::WIDTHS {
        for seed in first_seed..first_seed + SEEDS {
            let solved = Xor::solving_step(width, seed, MAX_STEPS).unwrap();
            let at: Vec<u64> = offsets.iter().map(|&offset| solved.saturating_add_signed(offset)).collect();
            let mut network = Xor::new(width, seed);
            for step in 0..=*at.iter().max().unwrap() {
                network.step();
                for (points, _) in points.iter_mut().zip(&at).filter(|(_, at)| **at == step) {
                    let ln_size = (whole_cascade(network.gradient()).unwrap().topplings as f64).ln();
                    points.push(FleetPoint { parameters: Xor::parameters_of(width) as u64, run: seed, ln_size });
                }
            }
        }
    }
    points.iter().map(|points| fleet_dimension(points)).collect()
}

/// Of the sixty sets of seeds tried when the step size was chosen and after, none did otherwise.
#[test]
fn the_dimension_rises_through_one_around_the_solving_step() {
    let offsets = [-10, 0, 20, 50];
    for set in 0..6 {
        let found = dimensions(set * SEEDS, &offsets);
        for found in &found {
            assert_eq!((found.widths, found.runs), (8, 48), "{found:?}");
        }
        let [before, at, after, later] = found.iter().map(|it| it.dimension.unwrap()).collect::<Vec<_>>()[..] else {
            panic!("{found:?}");
        };
        println!("seeds {}..: -10 {before:.3}  0 {at:.3}  +20 {after:.3}  +50 {later:.3}", set * SEEDS);
        assert!(before < 0.95 && before < at && at < later && later > 1.0, "set {set}: {before} {at} {after} {later}");
        assert!(found[0].high < found[3].low, "set {set}: the intervals meet: {found:?}");
    }
}
