//! The tables of layer readings, one an instrument. Their columns are the key, and then the fields that the instrument
//! declares ([`LayerInstrument::fields`]): what is written and read is made from those, which only the migrations repeat.

use std::sync::OnceLock;

use gradwatch_spectral::layers::LayerInstrument;

/// The columns of the key, in the order of every table.
const KEY: [&str; 4] = ["run_id", "layer", "segment", "step"];

/// The name of the table.
pub(crate) fn name(instrument: LayerInstrument) -> &'static str {
    match instrument {
        LayerInstrument::Cascade => "cascade_readings",
        LayerInstrument::Curvature => "curvature_readings",
        LayerInstrument::DeadDirections => "dead_directions_readings",
        LayerInstrument::LearningCell => "learning_cell_readings",
    }
}

/// How many columns it has.
pub(crate) fn column_count(instrument: LayerInstrument) -> usize {
    KEY.len() + instrument.fields().len()
}

/// The beginning of its insert, up to the rows: `INSERT INTO … (…)`. Invariant: made of constants only.
pub(crate) fn insert(instrument: LayerInstrument) -> String {
    let fields = instrument.fields().iter().map(|field| field.name);
    // Quoted, because a field may be called like a word of SQL.
    let columns: Vec<_> = KEY.into_iter().chain(fields).map(|column| format!("\"{column}\"")).collect();
    format!("INSERT INTO {} ({})", name(instrument), columns.join(", "))
}

/// One value an instrument, made when it is first asked for.
pub(crate) struct PerInstrument<T>([OnceLock<T>; LayerInstrument::ALL.len()]);

impl<T> PerInstrument<T> {
    /// None made yet.
    pub(crate) const fn new() -> Self {
        Self([const { OnceLock::new() }; LayerInstrument::ALL.len()])
    }

    /// The value of an instrument.
    pub(crate) fn get(&self, instrument: LayerInstrument, make: impl FnOnce() -> T) -> &T {
        // `ALL` has every variant once, and they are numbered from 0.
        self.0[instrument as usize].get_or_init(make)
    }
}
