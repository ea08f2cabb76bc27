//! Sketches of a step's parameters: every tensor is read once, whatever the number of groups it is in.

use gradwatch_client::{Sketcher, TensorName};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::memory::{Dtype, slice};

/// Values that are widened at a time: they stay in the first-level cache.
const WIDENED: usize = 4096;

/// The sketches of disjoint sets of tensors (*atoms*: tensors that are in the same groups), and which of them make up each
/// group. The sketch is linear, so a group's is the sum of its atoms'.
#[pyclass(module = "gradwatch._native")]
pub(crate) struct Sketches {
    sketcher: Sketcher,
    /// Atom by atom, d buckets each.
    atoms: Vec<f64>,
    /// By group: its name and its atoms.
    groups: Vec<(String, Vec<usize>)>,
}

/// A slice of a tensor: atom, key of the tensor's name, flat index of the first value, address, count, dtype.
type Piece = (usize, u64, u64, usize, usize, String);

#[pymethods]
impl Sketches {
    /// Sketches of dimension `dim` for a run's `seed`, of groups given as (name, indices of its atoms).
    #[new]
    fn new(dim: usize, seed: u64, atoms: usize, groups: Vec<(String, Vec<usize>)>) -> PyResult<Self> {
        let sketcher = Sketcher::new(dim, seed).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if let Some((name, _)) = groups.iter().find(|(_, of)| of.iter().any(|atom| *atom >= atoms)) {
            return Err(PyIndexError::new_err(format!("group {name:?} has an atom that is not below {atoms}")));
        }
        Ok(Self { sketcher, atoms: vec![0.0; atoms * dim], groups })
    }

    /// Makes all of them 0.
    fn clear(&mut self) {
        self.atoms.fill(0.0);
    }

    /// Adds slices of CPU tensors, in this order.
    fn add(&mut self, py: Python<'_>, pieces: Vec<Piece>) -> PyResult<()> {
        py.detach(|| pieces.iter().try_for_each(|piece| self.add_piece(piece)))
    }

    /// Adds blocks of `length` values that lie one behind the other in memory and `stride` values apart in the whole tensor,
    /// the first at flat index `offset`: what a process owns of a tensor that is cut along any but its first dimension.
    #[expect(clippy::too_many_arguments, reason = "one call a tensor; Python names them")]
    fn add_blocks(
        &mut self,
        py: Python<'_>,
        atom: usize,
        key: u64,
        offset: u64,
        stride: u64,
        length: usize,
        address: usize,
        count: usize,
        dtype: &str,
    ) -> PyResult<()> {
        let size = match Dtype::parse(dtype)? {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        };
        if length == 0 || !count.is_multiple_of(length) {
            return Err(PyValueError::new_err(format!("length: {count} values are no blocks of {length}")));
        }
        py.detach(|| {
            (0..count / length).try_for_each(|block| {
                let offset = offset + block as u64 * stride;
                let address = address + block * length * size;
                self.add_piece(&(atom, key, offset, address, length, dtype.to_owned()))
            })
        })
    }

    /// Adds to all atoms what was sketched elsewhere: as many float64 as there are atoms times buckets.
    fn load(&mut self, address: usize, count: usize) -> PyResult<()> {
        let sketched: &[f64] = slice(address, count)?;
        if sketched.len() != self.atoms.len() {
            let expected = self.atoms.len();
            return Err(PyValueError::new_err(format!("count: {count} values, the sketches have {expected}")));
        }
        for (atom, value) in self.atoms.iter_mut().zip(sketched) {
            *atom += value;
        }
        Ok(())
    }

    /// One group's sketch, as the bytes of d float64.
    fn group<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let (_, sketch) = self.of_groups().nth(index).ok_or_else(|| PyIndexError::new_err("no such group"))?;
        let bytes: Vec<u8> = sketch.iter().flat_map(|value| value.to_ne_bytes()).collect();
        Ok(PyBytes::new(py, &bytes))
    }
}

impl Sketches {
    /// The name and the sketch of each group.
    pub(crate) fn of_groups(&self) -> impl Iterator<Item = (&str, Vec<f64>)> {
        let dim = self.sketcher.dim();
        self.groups.iter().map(move |(name, atoms)| {
            let mut sum = vec![0.0; dim];
            for atom in atoms {
                for (sum, value) in sum.iter_mut().zip(&self.atoms[atom * dim..][..dim]) {
                    *sum += value;
                }
            }
            (name.as_str(), sum)
        })
    }

    fn add_piece(&mut self, (atom, key, offset, address, count, dtype): &Piece) -> PyResult<()> {
        let dim = self.sketcher.dim();
        let Some(acc) = self.atoms.get_mut(atom * dim..(atom + 1) * dim) else {
            return Err(PyIndexError::new_err(format!("atom: there is none of number {atom}")));
        };
        let name = TensorName::from_key(*key);
        let fault = |error: gradwatch_client::SketchError| PyValueError::new_err(error.to_string());
        match Dtype::parse(dtype)? {
            Dtype::F32 => self.sketcher.add(acc, name, *offset, slice::<f32>(*address, *count)?).map_err(fault),
            Dtype::F64 => self.sketcher.add(acc, name, *offset, slice::<f64>(*address, *count)?).map_err(fault),
            Dtype::F16 => widened(slice::<f16>(*address, *count)?, |at, values| {
                self.sketcher.add(acc, name, offset + at, values).map_err(fault)
            }),
            Dtype::Bf16 => widened(slice::<bf16>(*address, *count)?, |at, values| {
                self.sketcher.add(acc, name, offset + at, values).map_err(fault)
            }),
        }
    }
}

/// Gives the values as float32, a stretch at a time with the index of its first.
fn widened<T>(values: &[T], mut add: impl FnMut(u64, &[f32]) -> PyResult<()>) -> PyResult<()>
where
    [T]: HalfFloatSliceExt,
{
    let mut wide = [0.0_f32; WIDENED];
    for (i, values) in values.chunks(WIDENED).enumerate() {
        let wide = &mut wide[..values.len()];
        values.convert_to_f32_slice(wide);
        add((i * WIDENED) as u64, wide)?;
    }
    Ok(())
}

/// What the sketch needs to know of a tensor's name.
#[pyfunction]
pub(crate) fn tensor_key(name: &str) -> u64 {
    TensorName::new(name).key()
}

/// Rotation and sign of the chunks `first .. first + count` of a tensor, for sketching where the native kernel cannot go:
/// an int32 each, the rotation, or its bitwise complement where the sign is −.
#[pyfunction]
pub(crate) fn chunk_rotations(
    py: Python<'_>,
    dim: usize,
    seed: u64,
    key: u64,
    first: u64,
    count: usize,
) -> PyResult<Bound<'_, PyBytes>> {
    let sketcher = Sketcher::new(dim, seed).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let name = TensorName::from_key(key);
    let chunk = |chunk| {
        let (rotation, negative) = sketcher.chunk(name, chunk);
        let rotation = rotation as i32;
        if negative { !rotation } else { rotation }
    };
    let bytes: Vec<u8> = (first..first + count as u64).flat_map(|c| chunk(c).to_ne_bytes()).collect();
    Ok(PyBytes::new(py, &bytes))
}

/// The signs of the columns, an int8 of 1 or −1 each.
#[pyfunction]
pub(crate) fn column_signs(py: Python<'_>, dim: usize, seed: u64) -> PyResult<Bound<'_, PyBytes>> {
    let sketcher = Sketcher::new(dim, seed).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let signs: Vec<u8> = sketcher.column_is_negative().map(|negative| if negative { 0xFF } else { 1 }).collect();
    Ok(PyBytes::new(py, &signs))
}
