//! One checkpoint file: mapped into memory, its header checked, its tensors added to sketches.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use gradwatch_client::{Sketcher, TensorName};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{
    SafeTensors,
    tensor::{Dtype, Metadata, SafeTensorError, TensorView},
};

use super::error::ImportError;

/// Values converted at once. A multiple of every sketch's dimension, so that pieces begin where the sketch's own do.
const CHUNK: usize = 1 << 16;

/// A file whose header was not looked at yet.
pub(super) struct CheckpointFile {
    path: PathBuf,
    bytes: Mmap,
}

impl CheckpointFile {
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let unreadable = |cause| ImportError::Unreadable { path: path.to_owned(), cause };
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(ImportError::checkpoint(path, "is not a file"));
        }
        Ok(Self { path: path.to_owned(), bytes: map(&file).map_err(unreadable)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn tensors(&self) -> Result<SafeTensors<'_>, ImportError> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| {
            let problem = match (&error, cut_off(&self.bytes)) {
                (SafeTensorError::MetadataIncompleteBuffer, Some(tensor)) => {
                    format!("is cut off inside tensor {tensor:?}")
                }
                _ => format!("is not a whole safetensors file: {error}"),
            };
            ImportError::checkpoint(&self.path, problem)
        })
    }
}

/// Maps a file that is only read.
#[expect(unsafe_code, reason = "a mapping cannot be made safely: files can be changed by others")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: The bytes are read as bytes only, and any of them make valid numbers, so what another process writes into
    // the file meanwhile changes values and breaks nothing. One that cuts the file short while it is read ends this
    // process with SIGBUS; what was acknowledged by then stays. Checkpoints are written once, by renaming or before
    // they are imported; docs/import.md says so.
    unsafe { Mmap::map(file) }
}

/// The first tensor of which the file lacks bytes.
fn cut_off(bytes: &[u8]) -> Option<String> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header_bytes = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (header, data) = rest.split_at_checked(header_bytes)?;
    let metadata: Metadata = serde_json::from_slice(header).ok()?;
    let ends_behind = |name: &String| metadata.info(name).is_some_and(|info| info.data_offsets.1 > data.len());
    metadata.offset_keys().into_iter().find(ends_behind)
}

/// Whether numbers of this type can be sketched.
pub(super) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Adds the sketch of a float tensor, converted piece by piece without loss.
pub(super) fn add_tensor(sketcher: &Sketcher, sketch: &mut [f64], name: &str, tensor: &TensorView<'_>) {
    let (key, data) = (TensorName::new(name), tensor.data());
    match tensor.dtype() {
        Dtype::F64 => add(sketcher, sketch, key, data, f64::from_le_bytes),
        Dtype::F32 => add(sketcher, sketch, key, data, f32::from_le_bytes),
        Dtype::F16 => add(sketcher, sketch, key, data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => add(sketcher, sketch, key, data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        other => unreachable!("{other:?} is no float type, and only those are watched"),
    }
}

fn add<const N: usize, T>(
    sketcher: &Sketcher,
    sketch: &mut [f64],
    key: TensorName,
    data: &[u8],
    convert: impl Fn([u8; N]) -> T,
) where
    T: gradwatch_spectral::sketch::Element,
    f64: From<T>,
{
    let mut values = Vec::with_capacity(CHUNK.min(data.len() / N));
    let mut offset = 0;
    for chunk in data.chunks(CHUNK * N) {
        values.clear();
        values.extend(chunk.as_chunks::<N>().0.iter().map(|&bytes| convert(bytes)));
        sketcher
            .add(sketch, key, offset, &values)
            .expect("the sketch has the sketcher's length, and a tensor in memory has fewer than 2^64 values");
        offset += values.len() as u64;
    }
}
