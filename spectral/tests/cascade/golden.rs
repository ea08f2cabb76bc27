//! Values that every implementation of the instrument must give.

use gradwatch_spectral::cascade::{Cascade, CascadeSnapshot, Graph, NestLayout, Rule, nest, reading, relax, threshold};

/// (s, a, T, s0) of the golden loads z_i = 0.203 + 0.097·((7i) mod 11).
#[track_caller]
fn assert_golden(graph: &Graph, alpha: f64, theta: f64, expected: (u64, u64, u64, u64)) {
    let loads: Vec<f64> = (0..graph.sites()).map(|i| 0.203 + 0.097 * ((7 * i) % 11) as f64).collect();
    let (topplings, area, sweeps, initial) = expected;
    let expected = Cascade { topplings, area, sweeps, initial, capped: false };
    assert_eq!(relax(graph, &loads, Rule { threshold: theta, alpha, cap: None }), expected);
}

#[test]
fn golden_ring_of_32_with_one_neighbour_a_side() {
    let ring = Graph::ring(32, 1);
    assert_golden(&ring, 0.9, 1.0, (36, 21, 5, 6));
    assert_golden(&ring, 0.9, 0.9, (78, 32, 7, 9));
    assert_golden(&ring, 0.5, 1.0, (9, 9, 2, 6));
    assert_golden(&ring, 0.5, 0.9, (18, 18, 3, 9));
}

#[test]
fn golden_ring_of_32_with_two_neighbours_a_side() {
    let ring = Graph::ring(32, 2);
    assert_golden(&ring, 0.9, 1.0, (47, 32, 9, 6));
    assert_golden(&ring, 0.9, 0.9, (67, 32, 9, 9));
    assert_golden(&ring, 0.5, 1.0, (13, 13, 3, 6));
    assert_golden(&ring, 0.5, 0.9, (24, 24, 3, 9));
}

#[test]
fn golden_open_lattice_of_36() {
    let lattice = Graph::lattice(36);
    assert_golden(&lattice, 0.9, 1.0, (41, 32, 6, 6));
    assert_golden(&lattice, 0.9, 0.9, (60, 35, 14, 9));
}

#[test]
fn golden_pipeline_without_random_numbers() {
    let value = |i: usize| -(((i + 1) as f64 * 0.618_033_988_749_894_9).fract()).ln();
    let windows: Vec<Vec<f64>> = (0..16).map(|r| (r * 4096..(r + 1) * 4096).map(value).collect()).collect();
    let values = windows.concat();
    let theta = threshold(&values).unwrap();
    assert!((theta - 2.302291).abs() < 1e-6, "{theta}");

    let layout = NestLayout::of(4096).unwrap();
    let nest = nest(&values, layout, theta);
    let expected = [2.886138, 3.584836, 4.282903, 4.972264, 5.665698, 6.360822];
    assert_eq!(nest.log_sizes.len(), expected.len());
    for (found, expected) in nest.log_sizes.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    assert!((nest.slope - 1.001864).abs() < 1e-6, "{}", nest.slope);

    let reading = reading(&CascadeSnapshot { windows, whole: None });
    assert_eq!((reading.reason, reading.windows), (None, Some(16)));
    assert_eq!(reading.threshold, Some(theta));
    assert_eq!(reading.nest_dimension, Some(1.0 + nest.slope - layout.null_slope));
    assert_eq!(reading.nest_z, Some((nest.slope - layout.null_slope) / layout.null_sd));
    assert!((reading.phi.unwrap() - 0.141312).abs() < 1e-6, "{reading:?}");
    assert!((reading.branching.unwrap() - 0.292110).abs() < 1e-6, "{reading:?}");
    assert_eq!(reading.duration, Some(7.8125));
}

#[test]
fn a_block_without_a_cascade_counts_as_half_a_toppling() {
    let layout = NestLayout::of(1024).unwrap();
    let quiet = nest(&[0.1; 1024], layout, 1.0);
    assert_eq!(quiet.log_sizes, [0.5f64.ln(); 5]);
    // One site over the threshold, which moves no other: one block of each size has s = 1, the others none.
    let mut values = vec![0.0; 1024];
    values[0] = 1.0;
    let single = nest(&values, layout, 1.0);
    for (found, blocks) in single.log_sizes.iter().zip([16.0, 8.0, 4.0, 2.0, 1.0]) {
        assert!((found - 0.5f64.ln() * (blocks - 1.0) / blocks).abs() < 1e-15, "{found} {blocks}");
    }
}

/// The rule as it is written, site by site.
fn relax_plainly(graph: &Graph, loads: &[f64], rule: Rule) -> Cascade {
    let mut loads = loads.to_vec();
    let mut toppled = vec![false; loads.len()];
    let mut cascade = Cascade::default();
    loop {
        let frontier: Vec<usize> = (0..loads.len()).filter(|site| loads[*site] >= rule.threshold).collect();
        if cascade.sweeps == 0 {
            cascade.initial = frontier.len() as u64;
        }
        if frontier.is_empty() {
            break;
        }
        if rule.cap.is_some_and(|cap| cascade.topplings >= cap) {
            cascade.capped = true;
            break;
        }
        let before: Vec<f64> = frontier.iter().map(|site| std::mem::take(&mut loads[*site])).collect();
        for (site, load) in frontier.iter().zip(before) {
            toppled[*site] = true;
            let neighbours = graph.neighbours(*site);
            neighbours.iter().for_each(|to| loads[*to as usize] += rule.alpha * load / neighbours.len() as f64);
        }
        cascade.topplings += frontier.len() as u64;
        cascade.sweeps += 1;
    }
    cascade.area = toppled.iter().filter(|it| **it).count() as u64;
    cascade
}

/// Loads of a few levels, whose sums meet the threshold exactly or miss it by rounding.
#[test]
fn cascades_are_those_of_the_plain_rule() {
    let mut random = crate::support::Random::new(4);
    let mut sweeps = 0;
    for draw in 0..4000 {
        let sites = 20 + draw % 40;
        let graph = match draw % 3 {
            0 => Graph::ring(sites, 2),
            1 => Graph::lattice(sites),
            _ => Graph::barabasi_albert(sites, 2, draw as u64),
        };
        let levels = [0.0, 0.1, 0.3, 0.7, 0.9, 1.0, 1.3];
        let loads: Vec<f64> = (0..sites).map(|_| levels[(random.next_u64() % 7) as usize]).collect();
        let alpha = [0.5, 0.9, 1.0][draw % 3];
        let rule = Rule { threshold: [1.0, 0.9, 1.15][draw / 3 % 3], alpha, cap: Some(20 * sites as u64) };
        let cascade = relax(&graph, &loads, rule);
        assert_eq!(cascade, relax_plainly(&graph, &loads, rule), "draw {draw}");
        sweeps = sweeps.max(cascade.sweeps);
    }
    assert!(sweeps > 10, "{sweeps}");
}

#[test]
fn graphs_are_frozen() {
    // A star of 3, then links in proportion to degree, from our own generator.
    let graph = Graph::barabasi_albert(8, 2, 0);
    let lists: Vec<Vec<u32>> = (0..8).map(|site| graph.neighbours(site).to_vec()).collect();
    assert_eq!(lists, FROZEN.map(<[u32]>::to_vec));
    assert_ne!(graph, Graph::barabasi_albert(8, 2, 1), "the seed matters");
}

/// Neighbours of the 8 sites of the Barabási–Albert graph with m = 2 and seed 0.
const FROZEN: [&[u32]; 8] =
    [&[2], &[2, 3, 4], &[0, 1, 3, 4, 5, 6], &[1, 2, 6, 7], &[1, 2, 5], &[2, 4, 7], &[2, 3], &[3, 5]];

#[test]
fn graphs_have_the_links_they_should() {
    let degrees = |graph: &Graph| (0..graph.sites()).map(|site| graph.neighbours(site).len()).collect::<Vec<_>>();
    assert!(degrees(&Graph::ring(64, 2)).iter().all(|degree| *degree == 4));
    let lattice = degrees(&Graph::lattice(36));
    assert_eq!((lattice[0], lattice[1], lattice[7]), (2, 3, 4));
    // 7 sites are 3 wide: the last row holds one.
    assert_eq!(degrees(&Graph::lattice(7)), [2, 3, 2, 3, 3, 2, 1]);

    let grown = Graph::barabasi_albert(2000, 2, 0);
    let degrees = degrees(&grown);
    // 2 links of the star, then 2 a site.
    assert_eq!(degrees.iter().sum::<usize>(), 2 * (2 + 2 * 1997));
    assert!(degrees[3..].iter().all(|degree| *degree >= 2));
    assert!(*degrees.iter().max().unwrap() > 40, "hubs: {:?}", degrees.iter().max());
    for site in 0..grown.sites() {
        let mut neighbours = grown.neighbours(site).to_vec();
        neighbours.sort_unstable();
        assert!(neighbours.windows(2).all(|pair| pair[0] < pair[1]), "a double edge at {site}");
        assert!(neighbours.iter().all(|to| grown.neighbours(*to as usize).contains(&(site as u32))), "{site}");
    }
}

#[test]
fn a_cascade_with_loss_stops_below_its_bound() {
    let mut random = crate::support::Random::new(3);
    for graph in [Graph::ring(512, 2), Graph::lattice(500), Graph::barabasi_albert(500, 2, 0)] {
        for alpha in [0.0, 0.5, 0.9, 0.99] {
            let loads: Vec<f64> = (0..graph.sites()).map(|_| random.gaussian().exp()).collect();
            let cascade = relax(&graph, &loads, Rule { threshold: 2.0, alpha, cap: None });
            assert!(cascade.topplings as f64 <= loads.iter().sum::<f64>() / ((1.0 - alpha) * 2.0));
            assert!(!cascade.capped && cascade.initial <= cascade.area && cascade.area <= cascade.topplings);
            assert_eq!(cascade.sweeps == 1, cascade.initial == cascade.topplings, "{cascade:?}");
        }
    }
}

#[test]
fn a_cascade_without_loss_and_enough_load_is_stopped_by_its_cap() {
    let ring = Graph::ring(64, 2);
    let cascade = relax(&ring, &[1.0; 64], Rule { threshold: 1.0, alpha: 1.0, cap: Some(20 * 64) });
    // All 64 topple in every sweep; the cap is looked at before each.
    assert_eq!(cascade, Cascade { topplings: 1280, area: 64, sweeps: 20, initial: 64, capped: true });
    let cascade = relax(&ring, &[1.0; 64], Rule { threshold: 1.0, alpha: 1.0, cap: Some(65) });
    assert_eq!((cascade.topplings, cascade.capped), (128, true), "a sweep that was begun is finished");
}

#[test]
fn a_quiet_graph_does_not_topple() {
    let cascade = relax(&Graph::ring(64, 2), &[0.5; 64], Rule { threshold: 1.0, alpha: 1.0, cap: Some(0) });
    assert_eq!(cascade, Cascade::default());
}
