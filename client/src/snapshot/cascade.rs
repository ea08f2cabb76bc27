//! A gradient for the cascade instrument.

use bytes::Bytes;
use gradwatch_proto::v1::{self, cascade_snapshot::Whole};
use gradwatch_spectral::cascade::{WINDOW_VALUES, windows};
use half::f16;

use super::{Fault, check_count, fault};
use crate::validate::MAX_STEP;

/// The largest gradient whose entries are sent.
const MAX_WHOLE: usize = 1 << 20;
/// The most windows that a server takes.
const MAX_WINDOWS: usize = 64;

/// A gradient whose cascade is to be read: 16 windows of 4,096 magnitudes are cut out of it, 128 KiB in all. Windows lie
/// where the tensors' lengths say, so give the same tensors in the same order every time.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a snapshot says nothing until its frame is submitted"]
pub struct CascadeSnapshot<'a> {
    source: Source<'a>,
    whole: Option<WholeGradient>,
}

#[derive(Clone, Debug, PartialEq)]
enum Source<'a> {
    Gradient(Vec<&'a [f32]>),
    Windows(&'a [f32]),
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
        Self::new(Source::Gradient(tensors.into_iter().map(AsRef::as_ref).collect()))
    }

    /// Windows that the caller has cut, one after the other, 4,096 values each and at most 64 of them: with
    /// [`spectra::windows`](crate::spectra::windows), or where the gradient lies on another device, as that one does, at
    /// [`spectra::window_positions`](crate::spectra::window_positions).
    pub fn of_windows(windows: &'a [f32]) -> Self {
        Self::new(Source::Windows(windows))
    }

    fn new(source: Source<'a>) -> Self {
        Self { source, whole: None }
    }

    /// Sends all entries of the tensors as well, at most 1,048,576, for readings across a family of widths.
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

    pub(super) fn check(&self) -> Result<(), Fault> {
        if let Some(WholeGradient::Fraction { sites, .. }) = self.whole
            && !(1..=MAX_STEP).contains(&sites)
        {
            return fault("whole_fraction", format!("{sites} sites are not between 1 and 2^53"));
        }
        let tensors = match &self.source {
            Source::Gradient(tensors) => tensors,
            Source::Windows(values) => return self.check_windows(values),
        };
        let entries = entries(tensors);
        check_count("tensors", entries, usize::MAX)?;
        match self.whole {
            Some(WholeGradient::Entries) if entries > MAX_WHOLE => {
                fault("whole", format!("{entries} entries, at most {MAX_WHOLE}: send the fraction"))
            }
            None if entries < WINDOW_VALUES => {
                fault("tensors", format!("{entries} entries, a window has {WINDOW_VALUES}: send the whole gradient"))
            }
            _ => Ok(()),
        }
    }

    fn check_windows(&self, values: &[f32]) -> Result<(), Fault> {
        if self.whole == Some(WholeGradient::Entries) {
            return fault("whole", "windows do not hold all entries: give the tensors");
        }
        check_count("windows", values.len(), MAX_WINDOWS * WINDOW_VALUES)?;
        if !values.len().is_multiple_of(WINDOW_VALUES) {
            return fault("windows", format!("{} values are not whole windows of {WINDOW_VALUES}", values.len()));
        }
        Ok(())
    }

    pub(super) fn to_wire(&self) -> v1::CascadeSnapshot {
        let whole = self.whole.map(|whole| match (whole, &self.source) {
            (WholeGradient::Entries, Source::Gradient(tensors)) => {
                Whole::WholeF32(super::float_bytes(&tensors.concat()))
            }
            // Refused by `check`.
            (WholeGradient::Entries, Source::Windows(_)) => Whole::WholeF32(Bytes::new()),
            (WholeGradient::Fraction { sites, phi }, _) => Whole::WholeFraction(v1::WholeFraction { sites, phi }),
        });
        let windows_f16 = match &self.source {
            Source::Gradient(tensors) => windows_of(tensors),
            Source::Windows(values) => half_bytes(values),
        };
        v1::CascadeSnapshot { windows_f16: windows_f16.into(), whole }
    }
}

fn entries(tensors: &[&[f32]]) -> usize {
    tensors.iter().map(|tensor| tensor.len()).sum()
}

/// Of a gradient that is not finite, one window of NaN: each of its windows would say no more.
fn windows_of(tensors: &[&[f32]]) -> Vec<u8> {
    if entries(tensors) < WINDOW_VALUES {
        return Vec::new();
    }
    let windows = windows(tensors).unwrap_or_else(|_| vec![vec![f32::NAN; WINDOW_VALUES]]);
    half_bytes(&windows.concat())
}

fn half_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}
