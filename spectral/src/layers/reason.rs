//! Why a reading says nothing, or not all.

super::field::words! {
    /// Why a layer's reading, or part of it, is null.
    Reason {
        /// The run's backlog of snapshots was over its limit in bytes: this one was the oldest.
        Skipped => "skipped",
        /// The instrument failed on this snapshot, which is a bug of ours.
        Failed => "failed",
        /// The snapshot holds no values.
        Empty => "empty",
        /// The snapshot holds NaN or infinity.
        NonFinite => "non_finite",
        /// The snapshot contradicts itself or its instrument: lengths that do not fit, a Gram matrix that is not symmetric.
        Inconsistent => "inconsistent",
        /// A value that cannot be negative is.
        Negative => "negative",
        /// Every value that matters is zero.
        AllZero => "all_zero",
        /// Fewer than 4,096 gradient entries: no window can be cut. Of a whole gradient: fewer than 3, no graph.
        TooSmall => "too_small",
        /// The threshold is 0: more than nine tenths of the gradient's entries are.
        Degenerate => "degenerate",
        /// Fewer than 5 singular values above the numerical rank (K_eff < 5): no fit.
        TooFewSingularValues => "too_few_singular_values",
        /// Fewer than 5 positive curvatures: no exponent.
        TooFewPositiveCurvatures => "too_few_positive_curvatures",
        /// The singular values are all the same, or in one near tie: no slope.
        DuplicateSingularValues => "duplicate_singular_values",
        /// Fewer samples than the layer is wide (n < width): its Gram matrix cannot have full rank.
        TooFewSamples => "too_few_samples",
        /// Fewer than 5 directions with positive curvature and positive Kronecker factors: no accounting of the exponent.
        TooFewKroneckerDirections => "too_few_kronecker_directions",
        /// Fewer than 4 widths: no slope over widths.
        TooFewWidths => "too_few_widths",
        /// The fit explains less than nine tenths of the variance (R^2 < 0.9).
        PoorFit => "poor_fit",
        /// More than the instrument takes.
        TooLarge => "too_large",
        /// No atom holds 2 % of the block: what it computes is spread over more than 50 neurons.
        NoAtoms => "no_atoms",
        /// Fewer than 300 neurons: no moment order.
        TooFewNeurons => "too_few_neurons",
    }
}
