//! What depends on more of the past than a window: the norm's z-value, the gap flow, and the detectors.

use serde::{Deserialize, Serialize};

use crate::detectors::{
    Detection, Detector, DetectorConfig, Finding, PositionChange, Quantity, Regime, RegimeDetector, Rotation, Shift,
    Spike,
};
use crate::edge::{EdgeReading, GapFlow};
use crate::health::NormHistory;

/// x = ln ratio_1 of the gap rules.
const LEADING_GAP: Quantity = Quantity {
    reading: "edge.ratio_1",
    quantity: "ln edge.ratio_1",
    rose: Detector::GapOpening,
    fell: Detector::GapCollapse,
};
/// x = ln(gap23_rel + offset) of the gap rules.
const SECOND_GAP: Quantity = Quantity {
    reading: "edge.gap23_rel",
    quantity: "ln(edge.gap23_rel + offset)",
    rose: Detector::GapOpening,
    fell: Detector::GapCollapse,
};

/// Follows the readings of one (segment, group, kind, window).
///
/// Invariant: a pure function of the reading sequence. A state that was serialised and read back continues with the same
/// bits (any format that keeps float64 exactly), under the configuration it was made with, which is part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Followers {
    window: usize,
    config: DetectorConfig,
    reports_spike: bool,
    /// Step of the previous reading of an unbroken stretch, and the steps between the last two.
    last_step: Option<u64>,
    interval_steps: Option<u64>,
    norms: NormHistory,
    gap_flow: GapFlow,
    regime: RegimeDetector,
    leading_gap: Shift,
    second_gap: Shift,
    position: PositionChange,
    rotation: Rotation,
    spike: Spike,
}

impl Followers {
    /// Followers of readings with window length `window` (rows). `config` is taken as valid, see
    /// [`DetectorConfig::validate`].
    pub fn new(window: usize, config: &DetectorConfig) -> Self {
        Self {
            window,
            config: config.clone(),
            reports_spike: true,
            last_step: None,
            interval_steps: None,
            norms: NormHistory::default(),
            gap_flow: GapFlow::default(),
            regime: RegimeDetector::default(),
            leading_gap: Shift::default(),
            second_gap: Shift::default(),
            position: PositionChange::default(),
            rotation: Rotation::default(),
            spike: Spike::default(),
        }
    }

    /// The same, but silent about `update.spike`. The norm's z-value does not depend on the window length: with several
    /// lengths over one stream, all but the first are made like this, so that a spike is reported once. `norm_z` is
    /// filled all the same.
    #[must_use]
    pub fn without_spike(mut self) -> Self {
        self.reports_spike = false;
        self
    }

    /// Takes in the reading at an optimizer step: fills its `norm_z` and gap flow, and answers what the detectors say,
    /// in a fixed order. A warming reading shows the detectors nothing but its norm; one that holds a single row begins a
    /// new window (see [`Self::window_restarted`], which then need not be called).
    pub fn follow(&mut self, step: u64, reading: &mut EdgeReading) -> Vec<Detection> {
        if reading.is_warming() && reading.rows <= 1 {
            self.window_restarted();
        }
        self.measure_interval(step);
        let mut findings = Vec::new();
        let excess = self.norms.push(reading.update_norm);
        reading.norm_z = excess.map(|excess| excess.z);
        if let Some(excess) = excess
            && self.reports_spike
        {
            findings.extend(self.spike.see(excess, &self.config.spike));
        }
        if !reading.is_warming() {
            self.fit_gap_flow(step, reading);
            self.detect(reading, &mut findings);
        }
        let window_steps = self.interval_steps.and_then(|steps| steps.checked_mul(self.window as u64));
        findings.into_iter().map(|finding| finding.into_detection(step, Some(self.window), window_steps)).collect()
    }

    /// To be called when the window restarts without a row (a hole, a non-finite row): nothing that needs consecutive
    /// readings may span it.
    ///
    /// Forgotten: the gap flow's readings, rotation's previous overlaps, every count of readings in a row, the update
    /// interval. Kept: the norm history and an ongoing spike (norms need no window), the regime with its past and how
    /// long it has lasted, the pasts of the gaps, the confirmed position, rotation's rest.
    pub fn window_restarted(&mut self) {
        self.last_step = None;
        self.interval_steps = None;
        self.gap_flow.clear();
        self.regime.window_restarted();
        self.leading_gap.window_restarted();
        self.second_gap.window_restarted();
        self.position.window_restarted();
        self.rotation.window_restarted();
    }

    /// The regime after the last reading.
    pub fn regime(&self) -> Regime {
        self.regime.regime()
    }

    fn measure_interval(&mut self, step: u64) {
        if let Some(interval) = self.last_step.and_then(|last| step.checked_sub(last)) {
            self.interval_steps = Some(interval);
        }
        self.last_step = Some(step);
    }

    fn fit_gap_flow(&mut self, step: u64, reading: &mut EdgeReading) {
        let Some(sigma) = &reading.sigma else {
            self.gap_flow.clear();
            return;
        };
        self.gap_flow.push(step, sigma, reading.flow_terms());
        if let Some(position) = reading.position {
            let fit = self.gap_flow.fit(self.window, position);
            reading.gap_flow_rate = fit.rate;
            reading.gap_flow_equilibrium = fit.equilibrium;
            reading.gap_flow_r2 = fit.r2;
        }
        if let Some((position, _)) = reading.flow_terms() {
            let fit = self.gap_flow.fit_terms(self.window, position);
            reading.gap_flow_r2_unit = fit.r2_unit;
            reading.gap_flow_r2_free = fit.r2_free;
        }
    }

    fn detect(&mut self, reading: &EdgeReading, findings: &mut Vec<Finding>) {
        let (window, config) = (self.window, &self.config);
        findings.extend(self.regime.see(reading, window, &config.regime));
        let gap_rule = config.gap.rule(window);
        if let Some(ratio) = reading.ratio_1 {
            findings.extend(self.leading_gap.see(ratio.ln(), LEADING_GAP, &gap_rule));
        }
        if let Some(gap) = reading.gap23_rel {
            findings.extend(self.second_gap.see((gap + config.gap.gap23_offset).ln(), SECOND_GAP, &gap_rule));
        }
        findings.extend(self.position.see(reading, window, &config.position));
        findings.extend(self.rotation.see(reading, window, &config.rotation));
    }
}
