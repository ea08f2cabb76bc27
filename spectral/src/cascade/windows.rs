//! From a gradient to the windows that a client sends.

use crate::layers::Reason;

/// N_K, gradient entries a window \[ours\].
pub const WINDOW_VALUES: usize = 4096;
/// R, windows a snapshot, of a gradient large enough \[ours\].
pub const WINDOWS: usize = 16;

/// The largest float16, so that a value never becomes infinite on its way. Only a tensor of more than 4.29e9 entries can
/// hold more than this many times its RMS.
const LARGEST_VALUE: f64 = 65_504.0;
/// Sums that run side by side, fixed so that they give the same bits everywhere.
const LANES: usize = 8;

/// Why no window can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WindowsError {
    /// Fewer entries than one window.
    #[error("too_small: the tensors hold {total} gradient entries, a cascade window needs {WINDOW_VALUES}")]
    TooSmall {
        /// Entries of all tensors.
        total: usize,
    },
    /// A tensor that a window reaches into holds NaN or infinity.
    #[error("non_finite: tensor {tensor} (counted from 0) holds NaN or infinity")]
    NonFinite {
        /// Its place among the tensors, from 0.
        tensor: usize,
    },
}

impl WindowsError {
    /// What a reading says of it.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::TooSmall { .. } => Reason::TooSmall,
            Self::NonFinite { .. } => Reason::NonFinite,
        }
    }
}

/// Where the windows start in the concatenated tensors of `total` entries: ⌊i·(total − N_K)/(R − 1)⌋, i < R = 16, or
/// R = ⌊total/N_K⌋ where 16 do not fit without overlap. A single window lies in the middle \[ours\].
///
/// Invariant: fixed by `total` alone, hence for the run: windows that moved would add noise of about 0.05 to
/// `nest_dimension`.
///
/// # Errors
/// [`WindowsError::TooSmall`].
pub fn window_positions(total: usize) -> Result<Vec<usize>, WindowsError> {
    let count = (total / WINDOW_VALUES).min(WINDOWS);
    match count {
        0 => Err(WindowsError::TooSmall { total }),
        1 => Ok(vec![(total - WINDOW_VALUES) / 2]),
        _ => Ok((0..count)
            .map(|i| (i as u128 * (total - WINDOW_VALUES) as u128 / (count as u128 - 1)) as usize)
            .collect()),
    }
}

/// The windows of a gradient: each tensor (flattened row-major) divided by its RMS, magnitudes, all tensors one after the
/// other, R = 16 contiguous windows of 4096 at [`window_positions`] \[ours\]. Contiguous raw entries, because sums and
/// random subsets erase what is measured. A tensor of zeros contributes zeros. Every value fits float16.
///
/// Multiplying a tensor by a power of two changes no bit.
///
/// # Errors
/// [`WindowsError`]. Tensors that no window reaches into are not read.
pub fn windows(tensors: &[&[f32]]) -> Result<Vec<Vec<f32>>, WindowsError> {
    let total = tensors.iter().map(|tensor| tensor.len()).sum();
    let positions = window_positions(total)?;
    let mut windows = vec![Vec::with_capacity(WINDOW_VALUES); positions.len()];
    let mut start = 0;
    for (at, tensor) in tensors.iter().enumerate() {
        let mut rms = None;
        for (window, position) in windows.iter_mut().zip(&positions) {
            let from = (*position).max(start);
            let to = (position + WINDOW_VALUES).min(start + tensor.len());
            if from >= to {
                continue;
            }
            let rms = match rms {
                Some(rms) => rms,
                None => *rms.insert(root_mean_square(tensor).ok_or(WindowsError::NonFinite { tensor: at })?),
            };
            window.extend(tensor[from - start..to - start].iter().map(|entry| scaled(*entry, rms)));
        }
        start += tensor.len();
    }
    Ok(windows)
}

fn scaled(entry: f32, rms: f64) -> f32 {
    if rms == 0.0 { 0.0 } else { (f64::from(entry).abs() / rms).min(LARGEST_VALUE) as f32 }
}

/// None for a tensor with NaN or infinity: the square of any finite float32 is finite and not 0 in float64, and so is
/// their sum.
fn root_mean_square(tensor: &[f32]) -> Option<f64> {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = tensor.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, entry) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*entry) * f64::from(*entry);
        }
    }
    for (sum, entry) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*entry) * f64::from(*entry);
    }
    let mean = sums.iter().sum::<f64>() / tensor.len() as f64;
    mean.is_finite().then(|| mean.sqrt())
}
