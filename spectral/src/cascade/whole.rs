//! The cascade of a whole gradient, for the fit over widths.

use super::{
    Graph,
    kernel::{Cascade, Rule, relax},
    threshold::threshold,
};
use crate::layers::Reason;

/// m of the Barabási–Albert graph \[ours: the papers do not say; 3 behaves the same\].
const LINKS: usize = 2;
/// Every whole gradient of N entries is read on the same graph.
const GRAPH_SEED: u64 = 0;
/// A cascade is stopped at so many topplings a site: with alpha = 1 it need not stop by itself.
const CAP_PER_SITE: u64 = 20;

/// Lets a whole gradient (raw entries, at least 3) relax on the Barabási–Albert graph of its size, at its own
/// 0.9-quantile and without loss: alpha = 1, at most 20·N topplings \[source; graph, order and cap ours\].
///
/// # Errors
/// Why there is no such cascade.
pub fn whole_cascade(entries: &[f64]) -> Result<Cascade, Reason> {
    let magnitudes: Vec<f64> = entries.iter().map(|entry| entry.abs()).collect();
    let threshold = threshold(&magnitudes)?;
    if entries.len() <= LINKS {
        return Err(Reason::TooSmall);
    }
    let graph = Graph::barabasi_albert(entries.len(), LINKS, GRAPH_SEED);
    let cap = Some(CAP_PER_SITE * entries.len() as u64);
    Ok(relax(&graph, &magnitudes, Rule { threshold, alpha: 1.0, cap }))
}
