//! A gradient for the cascade instrument.

use gradwatch_proto::v1::{self, cascade_snapshot::Whole};
use gradwatch_spectral::cascade::{WINDOW_VALUES, windows};
use half::f16;

use super::{Fault, check_count, fault};
use crate::validate::MAX_STEP;

/// The largest gradient whose entries are sent.
const MAX_WHOLE: usize = 1 << 20;

/// A gradient whose cascade is to be read: 16 windows of 4,096 magnitudes are cut out of it, 128 KiB in all. Windows lie
/// where the tensors' lengths say, so give the same tensors in the same order every time.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a snapshot says nothing until its frame is submitted"]
pub struct CascadeSnapshot<'a> {
    tensors: Vec<&'a [f32]>,
    whole: Option<WholeGradient>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum WholeGradient {
    Entries,
    Fraction { sites: u64, phi: f64 },
}

impl<'a> CascadeSnapshot<'a> {
    /// The gradient of these tensors, each row-major. A gradient of fewer than 4,096 entries has no windows: only the
    /// whole of it can be sent.
    pub fn of_gradient<V: AsRef<[f32]> + ?Sized + 'a>(tensors: impl IntoIterator<Item = &'a V>) -> Self {
        Self { tensors: tensors.into_iter().map(AsRef::as_ref).collect(), whole: None }
    }

    /// Sends all entries as well, at most 1,048,576, for readings across a family of widths.
    pub fn with_whole(mut self) -> Self {
        self.whole = Some(WholeGradient::Entries);
        self
    }

    /// The same for a gradient too large to be sent: the fraction phi = s/N of it that the caller found, with
    /// [`spectra::whole_cascade`](crate::spectra::whole_cascade). `sites` is N.
    pub fn with_fraction(mut self, sites: u64, phi: f64) -> Self {
        self.whole = Some(WholeGradient::Fraction { sites, phi });
        self
    }

    fn entries(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.len()).sum()
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        let entries = self.entries();
        check_count("tensors", entries, usize::MAX)?;
        match self.whole {
            Some(WholeGradient::Entries) if entries > MAX_WHOLE => {
                fault("whole", format!("{entries} entries, at most {MAX_WHOLE}: send the fraction"))
            }
            Some(WholeGradient::Fraction { sites, .. }) if !(1..=MAX_STEP).contains(&sites) => {
                fault("whole_fraction", format!("{sites} sites are not between 1 and 2^53"))
            }
            None if entries < WINDOW_VALUES => {
                fault("tensors", format!("{entries} entries, a window has {WINDOW_VALUES}: send the whole gradient"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn to_wire(&self) -> v1::CascadeSnapshot {
        let whole = self.whole.map(|whole| match whole {
            WholeGradient::Entries => Whole::WholeF32(super::float_bytes(&self.tensors.concat())),
            WholeGradient::Fraction { sites, phi } => Whole::WholeFraction(v1::WholeFraction { sites, phi }),
        });
        v1::CascadeSnapshot { windows_f16: self.windows_f16().into(), whole }
    }

    /// Of a gradient that is not finite, one window of NaN: each of its windows would say no more.
    fn windows_f16(&self) -> Vec<u8> {
        if self.entries() < WINDOW_VALUES {
            return Vec::new();
        }
        let windows = windows(&self.tensors).unwrap_or_else(|_| vec![vec![f32::NAN; WINDOW_VALUES]]);
        windows.iter().flatten().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
    }
}
