//! The graphs that loads are put on.

use crate::{random::SplitMix64, sketch::mix};

/// An undirected graph without loops and double edges, as compressed adjacency lists.
///
/// Invariant: the same call gives the same graph for ever: nothing but its arguments and our own generator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Where the neighbours of site i start; one more entry than sites.
    offsets: Vec<usize>,
    neighbours: Vec<u32>,
}

impl Graph {
    /// A ring: each site is joined to the next `reach` sites on either side. Neighbours in memory are neighbours on it.
    ///
    /// # Panics
    /// When the two sides would meet: `sites` ≤ 2·`reach`.
    #[must_use]
    pub fn ring(sites: usize, reach: usize) -> Self {
        assert!(sites > 2 * reach, "a ring of {sites} sites is too small for {reach} neighbours a side");
        let edges = (0..sites).flat_map(|i| (1..=reach).map(move |d| (i, (i + d) % sites)));
        Self::from_edges(sites, edges)
    }

    /// A square lattice with open borders, ⌈sqrt(sites)⌉ wide, filled row by row.
    #[must_use]
    pub fn lattice(sites: usize) -> Self {
        let floor = sites.isqrt();
        let width = if floor * floor < sites { floor + 1 } else { floor };
        let edges = (0..sites).flat_map(move |i| {
            let right = ((i + 1) % width != 0).then_some((i, i + 1));
            [right, Some((i, i + width))].into_iter().flatten().filter(move |(_, to)| *to < sites)
        });
        Self::from_edges(sites, edges)
    }

    /// A Barabási–Albert graph: a star on `links` + 1 sites, then one site at a time, joined to `links` different sites
    /// that are drawn in proportion to their neighbours.
    ///
    /// # Panics
    /// When `links` is 0 or `sites` < `links` + 1.
    #[must_use]
    pub fn barabasi_albert(sites: usize, links: usize, seed: u64) -> Self {
        assert!(links >= 1 && sites > links, "{sites} sites are too few for a star of {links} links");
        // Frozen by (kind, N, seed): "BA" and m are the kind.
        let kind = 0x4241_0000 ^ links as u64;
        let mut random = SplitMix64::new(mix(mix(seed ^ kind) ^ sites as u64));
        let mut edges: Vec<(usize, usize)> = (0..links).map(|leaf| (links, leaf)).collect();
        // Both ends of every edge, so that a uniform draw finds a site in proportion to its degree.
        let mut ends: Vec<u32> = edges.iter().flat_map(|(a, b)| [*a as u32, *b as u32]).collect();
        let mut picked = Vec::with_capacity(links);
        for site in links + 1..sites {
            picked.clear();
            while picked.len() < links {
                let candidate = ends[random.below(ends.len())];
                if !picked.contains(&candidate) {
                    picked.push(candidate);
                }
            }
            picked.sort_unstable();
            for to in &picked {
                edges.push((site, *to as usize));
                ends.extend([site as u32, *to]);
            }
        }
        Self::from_edges(sites, edges.iter().copied())
    }

    /// Lists every edge at both of its ends. Two passes, so the iterator is cloned rather than collected.
    fn from_edges(sites: usize, edges: impl Iterator<Item = (usize, usize)> + Clone) -> Self {
        let mut offsets = vec![0; sites + 1];
        for (a, b) in edges.clone() {
            offsets[a + 1] += 1;
            offsets[b + 1] += 1;
        }
        for site in 0..sites {
            offsets[site + 1] += offsets[site];
        }
        let mut next = offsets.clone();
        let mut neighbours = vec![0; offsets[sites]];
        for (a, b) in edges {
            neighbours[next[a]] = b as u32;
            neighbours[next[b]] = a as u32;
            next[a] += 1;
            next[b] += 1;
        }
        Self { offsets, neighbours }
    }

    /// N, the number of sites.
    #[must_use]
    pub fn sites(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The neighbours of a site, each once, in no particular order.
    #[must_use]
    pub fn neighbours(&self, site: usize) -> &[u32] {
        &self.neighbours[self.offsets[site]..self.offsets[site + 1]]
    }
}
