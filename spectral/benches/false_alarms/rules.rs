//! The rules that are compared.

use gradwatch_spectral::detectors::DetectorConfig;

/// Places of the sets of rules in every list of them.
pub(crate) const SHIPPED: usize = 0;
pub(crate) const FIRST: usize = 1;

/// What a server does that is told nothing else.
pub(crate) fn shipped() -> DetectorConfig {
    DetectorConfig::default()
}

/// The rules over updates as they were first designed, on these same families, as far as thresholds make the difference:
/// that readings of several regimes confirm the nearest holds for both.
pub(crate) fn first() -> DetectorConfig {
    let mut rules = DetectorConfig::default();
    rules.regime.confirm_windows = 0.0;
    rules.gap.sudden_ratio = rules.gap.ratio;
    rules.position.margin = 1.25;
    rules.rotation.stood_out_windows = 0.0;
    rules.spike.ratio = 1.0;
    rules
}
