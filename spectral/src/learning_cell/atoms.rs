//! Atoms: what is left of the neurons when silent ones are dropped and equal ones joined \[ours\].

use super::{
    activation::Parity,
    features::{BLOCK, Features},
    spectrum,
};

/// A neuron that contributes less than this part of the mean is silent.
const SILENT: f64 = 1e-3;
/// Features with a larger cosine are the same atom.
const SAME: f64 = 0.98;
/// An atom with less than this part of the l1 total is dropped. So there are at most 50.
const SMALL: f64 = 0.02;
/// Rank cut, as a part of the largest eigenvalue.
const RANK_CUT: f64 = 1e-6;

/// The active atoms, by decreasing contribution of the neuron that stands for each.
#[derive(Debug)]
pub(super) struct Atoms {
    /// The neuron whose feature the atom is.
    pub(super) neurons: Vec<usize>,
}

impl Atoms {
    /// `loads` are the signed contributions a_i‖act(w_i·x)‖/N.
    ///
    /// Neurons come by decreasing contribution (the earlier one first where equal) and join the atom of largest cosine, if that
    /// exceeds 0.98, else found one. With a parity the sign of the cosine is that of the coefficient that is added.
    pub(super) fn find(features: &Features, loads: &[f64], parity: Parity) -> Self {
        let mean = loads.iter().map(|load| load.abs()).sum::<f64>() / loads.len() as f64;
        let mut order: Vec<usize> =
            (0..loads.len()).filter(|i| loads[*i] != 0.0 && loads[*i].abs() >= SILENT * mean).collect();
        order.sort_by(|i, j| loads[*j].abs().total_cmp(&loads[*i].abs()));

        let score = |cosine: f64| if parity == Parity::None { cosine } else { cosine.abs() };
        let (mut founders, mut coefficients) = (Vec::<usize>::new(), Vec::<f64>::new());
        let mut panel = features.panel(&[]);
        for block in order.chunks(BLOCK) {
            let known = panel.len();
            let with_known = features.cosines(block, &panel, known);
            let with_each_other = features.cosines(block, &features.panel(block), block.len());
            // Places within the block of those that found an atom.
            let mut fresh: Vec<usize> = Vec::new();
            for (place, neuron) in block.iter().enumerate() {
                let old = with_known[place * known..(place + 1) * known].iter().copied();
                let new = fresh.iter().map(|founder| with_each_other[place * block.len() + founder]);
                let mut best = (0, 0.0);
                for (atom, cosine) in old.chain(new).enumerate() {
                    if score(cosine) > score(best.1) {
                        best = (atom, cosine);
                    }
                }
                if score(best.1) > SAME {
                    coefficients[best.0] += loads[*neuron] * best.1.signum();
                } else {
                    fresh.push(place);
                    founders.push(*neuron);
                    coefficients.push(loads[*neuron]);
                    features.add_to(&mut panel, *neuron);
                }
            }
        }
        let total: f64 = coefficients.iter().map(|it| it.abs()).sum();
        let large = |coefficient: &f64| *coefficient != 0.0 && coefficient.abs() >= SMALL * total;
        Self {
            neurons: founders
                .iter()
                .zip(&coefficients)
                .filter(|(_, it)| large(it))
                .map(|(neuron, _)| *neuron)
                .collect(),
        }
    }

    /// S.
    pub(super) fn count(&self) -> usize {
        self.neurons.len()
    }

    /// Rank of the Gram matrix of the atoms' unit features at 1e−6 of its largest eigenvalue. Less than S is a relation
    /// beyond signs and permutations. None when the eigenvalues cannot be found.
    pub(super) fn rank(&self, features: &Features) -> Option<u64> {
        if self.neurons.is_empty() {
            return Some(0);
        }
        spectrum::rank(&features.gram(&self.neurons), |largest| RANK_CUT * largest).map(|rank| rank as u64)
    }
}
