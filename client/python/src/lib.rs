//! `gradwatch._native`: the Rust client as the Python package uses it. People call the package, never this module.
//!
//! Tensors come as addresses (`tensor.data_ptr()`) with their lengths: nothing is copied on the way, and neither PyTorch
//! nor numpy is needed to build or import this. Whoever passes an address keeps the tensor alive and on the CPU until
//! the call returns. Calls that read tensors or may take time let other Python threads run meanwhile.

mod memory;
mod run;
mod sketches;
mod snapshots;
mod spectra;

use pyo3::panic::PanicException;
use pyo3::prelude::*;

/// The native part of gradwatch.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("DEFAULT_SERVER", "http://127.0.0.1:7700")?;
    module.add("PanicException", module.py().get_type::<PanicException>())?;
    module.add_class::<sketches::Sketches>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<snapshots::Snapshot>()?;
    module.add_function(wrap_pyfunction!(sketches::chunk_rotations, module)?)?;
    module.add_function(wrap_pyfunction!(sketches::column_signs, module)?)?;
    module.add_function(wrap_pyfunction!(sketches::tensor_key, module)?)?;
    module.add_function(wrap_pyfunction!(snapshots::check_activation, module)?)?;
    module.add_function(wrap_pyfunction!(snapshots::window_positions, module)?)?;
    module.add_function(wrap_pyfunction!(run::new_launch, module)?)
}
