//! What the dead-directions instrument says of one snapshot.

use crate::layers::{
    Reason,
    field::{reading, words},
};

words! {
    /// Which data a snapshot was taken on. The sign of the relation to the learning coefficient flips between them.
    BatchKind {
        /// Data that is trained on.
        Train => "train",
        /// Data that is not.
        HeldOut => "held_out",
    }
}

reading! {
    /// A reading of the dead-directions instrument. Only layers of equal width are to be compared.
    DeadDirectionsReading {
        reason: Reason, "word", Ours, "Why values are missing.";
        width: u64, "count", Source, "Width of the layer.";
        samples: u64, "count", Source, "n, the samples behind the snapshot.";
        batch: BatchKind, "word", Ours, "train or held_out: the sign of the relation to lambda flips between them.";
        lambda_min: f64, "u^2", Source, "Smallest eigenvalue of G above 1e-12 of the largest.";
        logdet: f64, "nats", Source, "Sum of ln of the eigenvalues above that cut: the active volume.";
        kept: u64, "count", Source, "Eigenvalues above that cut.";
        logdet_per_direction: f64, "nats", Source, "logdet/kept.";
        sigma_min: f64, "1", Source, "Smallest singular value of the activations: rounding noise when rank_deficient.";
        sigma_min_kept: f64, "1", Ours, "Smallest singular value above 1e-6 sigma_1.";
        rank: u64, "count", Source, "Singular values above that cut.";
        rank_deficient: bool, "flag", Ours, "rank < width.";
        structural_correlation: f64, "1", Source, "Spearman correlation of lambda_min with sigma_min_kept^2 over the last 20 readings; predicted +1.";
        count_slope: f64, "1", Ours, "Slope of logdet on ln lambda_min over the last 20 readings, broken when kept changes; at least 5, spanning 0.5: the number of dead directions when the approach is aligned.";
        count_gap: u64, "count", Ours, "Eigenvalues below the widest gap in the lower three quarters of the log spectrum, floored at 1e-16 of the largest; 0 when gap_nats < 2.";
        gap_nats: f64, "nats", Ours, "Width of that gap.";
        gauge_removed: u64, "count", Ours, "Gauge directions that the client projected out.";
        few_samples: bool, "flag", Source, "n < 100 width: lambda_min is biased low.";
        is_float32: bool, "flag", Source, "The spectrum was computed in float32.";
        kept_changed: bool, "flag", Ours, "kept differs from the reading before: count_slope starts again.";
        batch_changed: bool, "flag", Ours, "The batch kind differs from the reading before.";
    }
}
