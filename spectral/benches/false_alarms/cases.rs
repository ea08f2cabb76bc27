//! Which quiet data, and which changes are planted in updates.

use std::fmt;

use gradwatch_spectral::detectors::Detector;

use crate::noise::{Family, Shape, family};
use crate::support::add;

pub(crate) const IID: Family = family("iid noise", Shape::Plain, 0.0, 0.0);
pub(crate) const AR_05: Family = family("AR(1) noise, rho = 0.5", Shape::Plain, 0.5, 0.0);
pub(crate) const STUDENT_T3: Family = family("Student-t(3) entries", Shape::StudentT3, 0.0, 0.0);

pub(crate) const ROW_SCALES: Family = family("log-normal row scales, 0.3", Shape::RowScales, 0.0, 0.0);
const AR_09: Family = family("AR(1) noise, rho = 0.9", Shape::Plain, 0.9, 0.0);

/// Quiet updates.
pub(crate) const UPDATES: [Family; 5] =
    [IID, AR_05, AR_09, family("AR(1) noise, rho = 0.5, decaying norm", Shape::Decaying, 0.5, 0.0), STUDENT_T3];

/// More of them.
pub(crate) const MORE_UPDATES: [Family; 8] = [
    ROW_SCALES,
    family("constant drift, SNR 0.1", Shape::Plain, 0.0, 0.1),
    family("constant drift, SNR 0.3", Shape::Plain, 0.0, 0.3),
    family("constant drift, SNR 1", Shape::Plain, 0.0, 1.0),
    family("constant drift, SNR 3", Shape::Plain, 0.0, 3.0),
    family("anisotropic 1/k noise", Shape::Anisotropic, 0.0, 0.0),
    family("anisotropic 1/k, rho = 0.5", Shape::Anisotropic, 0.5, 0.0),
    family("anisotropic 1/k, rho = 0.9", Shape::Anisotropic, 0.9, 0.0),
];

/// Noise of quiet layer readings.
pub(crate) const LAYERS: [Family; 5] = [IID, AR_05, AR_09, family("slow trend", Shape::Decaying, 0.0, 0.0), STUDENT_T3];

/// What happens at one update; directions are steady and measured in norms of the noise.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    Nothing,
    Appears(f64),
    Vanishes(f64),
    /// A second direction of the same size, its sign alternating, beside a steady one.
    Joins(f64),
    Turns {
        from: f64,
        to: f64,
    },
    Spike(f64),
    Scale(f64),
}

pub(crate) const CHANGES: [Change; 13] = [
    Change::Nothing,
    Change::Appears(0.5),
    Change::Appears(1.0),
    Change::Appears(2.0),
    Change::Vanishes(0.5),
    Change::Vanishes(1.0),
    Change::Vanishes(2.0),
    Change::Joins(4.0),
    Change::Turns { from: 4.0, to: 4.0 },
    Change::Turns { from: 4.0, to: 40.0 },
    Change::Spike(10.0),
    Change::Scale(0.1),
    Change::Scale(10.0),
];

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing (control)"),
            Self::Appears(snr) => write!(f, "direction appears, SNR {snr}"),
            Self::Vanishes(snr) => write!(f, "direction vanishes, SNR {snr}"),
            Self::Joins(snr) => write!(f, "second direction joins, SNR {snr} each"),
            Self::Turns { from, to } => write!(f, "direction turns by 90°, SNR {from} to {to}"),
            Self::Spike(factor) => write!(f, "one update ×{factor}"),
            Self::Scale(factor) => write!(f, "noise ×{factor} from then on"),
        }
    }
}

impl Change {
    /// The detectors made for such a change.
    pub(crate) fn fitting(self) -> &'static [Detector] {
        match self {
            Self::Nothing => &[],
            Self::Appears(_) => &[Detector::GapOpening],
            Self::Vanishes(_) => &[Detector::GapCollapse],
            Self::Joins(_) => &[Detector::PositionChange],
            Self::Turns { .. } => &[Detector::Rotation, Detector::EdgeRegime],
            Self::Spike(_) => &[Detector::UpdateSpike],
            Self::Scale(factor) if factor < 1.0 => &[Detector::EdgeRegime, Detector::GapOpening],
            Self::Scale(_) => &[Detector::EdgeRegime, Detector::GapOpening, Detector::UpdateSpike],
        }
    }

    /// Changes the row of one update as planned; `first` and `second` are orthogonal, of length 1.
    pub(crate) fn plant(self, update: usize, at: usize, row: &mut [f64], [first, second]: &[Vec<f64>; 2]) {
        let after = update >= at;
        match self {
            Self::Appears(snr) if after => add(row, snr, first),
            Self::Vanishes(snr) if !after => add(row, snr, first),
            Self::Joins(snr) => {
                add(row, snr, first);
                if after {
                    add(row, if update.is_multiple_of(2) { snr } else { -snr }, second);
                }
            }
            Self::Turns { from, .. } if !after => add(row, from, first),
            Self::Turns { to, .. } => add(row, to, second),
            Self::Spike(factor) if update == at => row.iter_mut().for_each(|x| *x *= factor),
            Self::Scale(factor) if after => row.iter_mut().for_each(|x| *x *= factor),
            _ => {}
        }
    }
}
