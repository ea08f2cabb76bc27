//! Tensors of the interpreter, as Rust sees them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Where a contiguous tensor of float32 lies, and how many values it has.
#[derive(Clone, Copy, Debug, FromPyObject)]
pub(crate) struct Values(usize, usize);

/// Element types of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F64,
    F16,
    Bf16,
}

impl Dtype {
    pub(crate) fn parse(name: &str) -> PyResult<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f64" => Ok(Self::F64),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(PyValueError::new_err(format!("dtype: {name:?} is none of f32, f64, f16, bf16"))),
        }
    }
}

impl Values {
    /// The values.
    ///
    /// Python code of this package alone calls with addresses, those of CPU tensors that it holds for the whole call; no
    /// lifetime can say so.
    pub(crate) fn as_slice<'a>(self) -> PyResult<&'a [f32]> {
        slice(self.0, self.1)
    }
}

/// Where a contiguous tensor of float32 or float64 lies, and how many values it has: (address, count, "f32" or "f64").
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reals {
    F32(usize, usize),
    F64(usize, usize),
}

impl Reals {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::F32(_, count) | Self::F64(_, count) => count,
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Reals {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (address, count, dtype): (usize, usize, String) = object.extract()?;
        match Dtype::parse(&dtype)? {
            Dtype::F32 => Ok(Self::F32(address, count)),
            Dtype::F64 => Ok(Self::F64(address, count)),
            Dtype::F16 | Dtype::Bf16 => Err(PyValueError::new_err(format!("dtype: {dtype} is neither f32 nor f64"))),
        }
    }
}

/// `count` elements at `address`.
pub(crate) fn slice<'a, T>(address: usize, count: usize) -> PyResult<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    let pointer = address as *const T;
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(PyValueError::new_err(format!("address: {address:#x} is no tensor of this type")));
    }
    // SAFETY: not null and aligned (above). That it points to `count` initialised elements, on the CPU, which nobody
    // frees or writes before the call returns, is the contract of this module, kept by `gradwatch/_sketching.py` and
    // `gradwatch/instruments`: they take address and length from one tensor that they hold.
    #[expect(unsafe_code, reason = "zero copies: the tensor's memory belongs to PyTorch")]
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}
