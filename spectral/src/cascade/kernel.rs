//! The toppling rule.

use super::Graph;

/// The response of a graph to its loads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cascade {
    /// s: topplings; a site may count more than once.
    pub topplings: u64,
    /// a: distinct sites that toppled.
    pub area: u64,
    /// T: sweeps.
    pub sweeps: u64,
    /// s0: sites at or over the threshold at the start.
    pub initial: u64,
    /// Whether it was stopped by its cap.
    pub capped: bool,
}

/// When and how a site topples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// theta > 0.
    pub threshold: f64,
    /// Share of a load that a toppling passes on, 0..=1. Below 1 a cascade always stops: s ≤ Σz/((1 − alpha)·theta).
    pub alpha: f64,
    /// No sweep is begun once there were so many topplings. A cascade with alpha = 1 may never stop without.
    pub cap: Option<u64>,
}

/// Where more than one site in so many topples, looking at all sites in order is faster than sorting those that do.
const DENSE: usize = 8;

/// Puts `loads` (finite, ≥ 0) on the graph and lets it relax. In one sweep every site with z_i ≥ theta at the sweep's start
/// sends alpha·z_i/k_i to each of its k_i neighbours and is set to 0; until no site is left \[ours: the papers say
/// "conservative redistribution to neighbours"\].
///
/// # Panics
/// When there is not one load a site.
#[must_use]
pub fn relax(graph: &Graph, loads: &[f64], rule: Rule) -> Cascade {
    Relaxation::default().run(graph, loads, rule)
}

/// The memory of a relaxation, for many in a row.
#[derive(Debug, Default)]
pub(super) struct Relaxation {
    loads: Vec<f64>,
    toppled: Vec<bool>,
    /// Sites that topple in this sweep, ascending.
    frontier: Vec<u32>,
    /// What each of them sends to each of its neighbours.
    shares: Vec<f64>,
    /// Sites that topple in the next sweep.
    next: Vec<u32>,
}

impl Relaxation {
    /// See [`relax`].
    ///
    /// Invariant: the same loads give the same bits. All toppling sites are zeroed before anything is added, and every
    /// site is added to in ascending order of the sources, because the frontier is ascending.
    pub(super) fn run(&mut self, graph: &Graph, loads: &[f64], rule: Rule) -> Cascade {
        assert_eq!(loads.len(), graph.sites(), "one load a site");
        let Rule { threshold, alpha, cap } = rule;
        debug_assert!(threshold > 0.0 && (0.0..=1.0).contains(&alpha), "{rule:?}");
        self.loads.clear();
        self.loads.extend_from_slice(loads);
        self.toppled.clear();
        self.toppled.resize(loads.len(), false);
        self.frontier.clear();
        self.frontier.extend((0u32..).zip(loads).filter(|(_, load)| **load >= threshold).map(|(site, _)| site));

        let mut cascade = Cascade { initial: self.frontier.len() as u64, ..Cascade::default() };
        while !self.frontier.is_empty() {
            if cap.is_some_and(|cap| cascade.topplings >= cap) {
                cascade.capped = true;
                break;
            }
            cascade.topplings += self.frontier.len() as u64;
            cascade.sweeps += 1;
            cascade.area += self.sweep(graph, threshold, alpha);
        }
        cascade
    }

    /// One sweep; the number of sites that toppled for the first time.
    fn sweep(&mut self, graph: &Graph, threshold: f64, alpha: f64) -> u64 {
        let mut first_time = 0;
        self.shares.clear();
        for site in &self.frontier {
            let site = *site as usize;
            self.shares.push(alpha * self.loads[site] / graph.neighbours(site).len() as f64);
            self.loads[site] = 0.0;
            first_time += u64::from(!self.toppled[site]);
            self.toppled[site] = true;
        }
        // Every load is now below the threshold and only grows, so each site crosses it at most once.
        self.next.clear();
        for (site, share) in self.frontier.iter().zip(&self.shares) {
            for neighbour in graph.neighbours(*site as usize) {
                let load = &mut self.loads[*neighbour as usize];
                let before = *load;
                *load += share;
                if before < threshold && *load >= threshold {
                    self.next.push(*neighbour);
                }
            }
        }
        // Either way the next frontier is ascending: the sites over the threshold are exactly those that crossed it.
        if self.next.len() * DENSE > self.loads.len() {
            self.next.clear();
            self.next.extend((0u32..).zip(&self.loads).filter(|(_, load)| **load >= threshold).map(|(site, _)| site));
        } else {
            self.next.sort_unstable();
        }
        std::mem::swap(&mut self.frontier, &mut self.next);
        first_time
    }
}
