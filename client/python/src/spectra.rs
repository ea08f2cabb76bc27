//! Spectra of a layer's samples, computed beside training.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gradwatch_client::spectra::{SampleError, eigenvalues, gram_of_gradients, remove_gauge, singular_values};

/// Samples that are a snapshot's own: n × width, row-major.
#[derive(Debug)]
pub(crate) enum Samples {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// What a snapshot says of them.
#[derive(Debug)]
pub(crate) struct Spectra {
    pub(crate) eigenvalues: Vec<f64>,
    pub(crate) singular_values: Vec<f64>,
}

/// A frame waits so long for its spectra, and those behind it with it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who waits for them, at the end of a run, waits so long.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Spectra that are under way. They belong to the step that their samples are of, so its frame waits for them, and training
/// does not.
#[derive(Clone, Debug)]
pub(crate) struct SpectraLater {
    slot: Arc<Slot>,
    begun: Instant,
}

#[derive(Debug, Default)]
struct Slot {
    spectra: OnceLock<Spectra>,
    /// Held where `spectra` is set, so that nobody misses it.
    turn: Mutex<()>,
    is_set: Condvar,
}

impl SpectraLater {
    /// Begins on a thread of their own; here and now when there is none to be had. Activations and gradients have as many
    /// values, whole rows of `width`; gauge directions have `width` of them, finite and not all 0.
    pub(crate) fn begin(activations: Samples, gradients: Samples, width: usize, gauge: Vec<Vec<f64>>) -> Self {
        let later = Self { slot: Arc::default(), begun: Instant::now() };
        let work = Arc::new((activations, gradients, gauge));
        let (slot, on_thread) = (Arc::clone(&later.slot), Arc::clone(&work));
        let compute = move || {
            // Invariant: whatever happens, there is something to be waited for.
            let (activations, gradients, gauge) = &*on_thread;
            let spectra = catch_unwind(AssertUnwindSafe(|| Spectra::of(activations, gradients, width, gauge)));
            slot.set(spectra.unwrap_or_else(|_| Spectra::none(activations, width)));
        };
        if thread::Builder::new().name("gradwatch-spectra".to_owned()).spawn(compute).is_err() {
            later.slot.set(Spectra::of(&work.0, &work.1, width, &work.2));
        }
        later
    }

    pub(crate) fn computed(&self) -> Option<&Spectra> {
        self.slot.spectra.get()
    }

    /// Whether nobody need wait any longer: they are computed, or take too long.
    pub(crate) fn is_ready(&self) -> bool {
        self.computed().is_some() || self.begun.elapsed() >= PATIENCE
    }

    /// Waits for them, though not for ever.
    pub(crate) fn wait(&self) {
        let turn = self.slot.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What becomes of it is for `computed` to say.
        let _ = self.slot.is_set.wait_timeout_while(turn, LONGEST_WAIT, |()| self.computed().is_none());
    }
}

impl Slot {
    fn set(&self, spectra: Spectra) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // There is one who sets it.
        let _ = self.spectra.set(spectra);
        self.is_set.notify_all();
    }
}

impl Samples {
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
        }
    }
}

impl Spectra {
    /// Samples that are not finite, or whose squares are not, have no spectrum: NaN says so.
    fn of(activations: &Samples, gradients: &Samples, width: usize, gauge: &[Vec<f64>]) -> Self {
        let none = Self::none(activations, width);
        let gram = match gradients {
            Samples::F32(values) => gram_of_gradients(values, width),
            Samples::F64(values) => gram_of_gradients(values, width),
        };
        let of_gradients: Result<_, SampleError> = gram.and_then(|mut gram| {
            gauge.iter().try_for_each(|direction| remove_gauge(&mut gram, direction))?;
            eigenvalues(&gram, width)
        });
        let of_activations = match activations {
            Samples::F32(values) => singular_values(values, width),
            Samples::F64(values) => singular_values(values, width),
        };
        Self {
            eigenvalues: of_gradients.unwrap_or(none.eigenvalues),
            singular_values: of_activations.unwrap_or(none.singular_values),
        }
    }

    fn none(activations: &Samples, width: usize) -> Self {
        let count = (activations.count() / width).min(width);
        Self { eigenvalues: vec![f64::NAN; width], singular_values: vec![f64::NAN; count] }
    }
}
