//! What the learning cell says of one snapshot.

use crate::layers::{
    Reason,
    field::{reading, words},
};

words! {
    /// An activation function.
    Activation {
        /// tanh(z).
        Tanh => "tanh",
        /// max(0, z).
        Relu => "relu",
        /// z Phi(z).
        Gelu => "gelu",
        /// z/(1 + e^-z).
        Silu => "silu",
        /// 1/(1 + e^-z).
        Sigmoid => "sigmoid",
        /// erf(z).
        Erf => "erf",
        /// z^2.
        Square => "square",
        /// z.
        Identity => "identity",
        /// z^3 - 3z.
        He3 => "he3",
    }
}

reading! {
    /// A reading of the learning-cell instrument.
    LearningCellReading {
        reason: Reason, "word", Ours, "Why values are missing.";
        neurons: u64, "count", Source, "N.";
        moment_order: f64, "1", Ours, "Growth order of the moments of the pooled weights: ln M_k = c + k b + order ln k!.";
        moment_radius: f64, "1", Ours, "e^b of that fit.";
        moment_k: u64, "count", Ours, "K, the moments that the weights support.";
        hill_index: f64, "1", Ours, "Tail index of the top 5 %, where there is no order.";
        heavy_tail: bool, "flag", Ours, "order > 1.3, or no order and Hill index < 5.";
        moment_propagation: bool, "flag", Ours, "order <= the first reading's order + 0.1.";
        active_atoms: u64, "count", Ours, "S, atoms left after dropping silent neurons and joining equal ones.";
        atom_rank: u64, "count", Ours, "Rank of the atoms' Gram matrix at 1e-6: below S there is a relation beyond signs and permutations.";
        refit_curve: Vec<f64>, "1", Ours, "r(S), S = 1, 2, ...: relative squared residual of the best S atoms found greedily.";
        atoms_at_2pct: u64, "count", Ours, "First S with r(S) <= 0.02.";
        orbit_depth: u64, "degree", Ours, "Least degree D whose kernel separates all distinct atoms; null when not reached by 9.";
        variety_depth: u64, "degree", Ours, "Least degree D at which the truncated Gram matrix reaches the full rank; null when not reached by 9.";
        hermite_tail: f64, "y^2", Ours, "E[y^2] - sum of E_k, k <= D: what of the targets is beyond degree D = variety_depth.";
        path_norm: f64, "1", Ours, "Mean |a_i| ||w_i||, a Barron proxy.";
        chaos_upper: f64, "y^2", Ours, "V/N, V the mean over inputs of Var_i[a_i act(w_i x)]: an upper proxy of the particle error, sharp only at initialisation.";
    }
}
