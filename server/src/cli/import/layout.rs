//! What all checkpoints of a run have in common: the watched tensors, group by group.

use gradwatch_client::Sketcher;
use safetensors::{SafeTensors, tensor::Dtype};

use super::checkpoint::{CheckpointFile, add_tensor, is_float};
use super::error::ImportError;
use super::groups::GroupPattern;

/// How many tensors an error lists when a pattern matches none.
const LISTED_NAMES: usize = 8;

#[derive(Debug)]
pub(super) struct Layout {
    pub(super) groups: Vec<Group>,
    patterns: Vec<GroupPattern>,
    /// The file that the others are compared with.
    reference: String,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    /// By name: the order that a sketch's bits depend on is that of no file.
    pub(super) tensors: Vec<Tensor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Tensor {
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Layout {
    /// The groups as the first checkpoint has them.
    pub(super) fn of(file: &CheckpointFile, patterns: &[GroupPattern]) -> Result<Self, ImportError> {
        let tensors = file.tensors()?;
        let groups = patterns.iter().map(|pattern| group(file, &tensors, pattern)).collect::<Result<_, _>>()?;
        Ok(Self { groups, patterns: patterns.to_vec(), reference: file.path().display().to_string() })
    }

    /// The sketch of each group's parameters.
    ///
    /// # Errors
    /// When the file has other watched tensors than the first one, or of another type or shape.
    pub(super) fn sketch(&self, file: &CheckpointFile, sketcher: &Sketcher) -> Result<Vec<Vec<f64>>, ImportError> {
        let tensors = file.tensors()?;
        let mut sketches = Vec::with_capacity(self.groups.len());
        for (group, pattern) in self.groups.iter().zip(&self.patterns) {
            self.check(file, &tensors, group, pattern)?;
            let mut sketch = vec![0.0; sketcher.dim()];
            for tensor in &group.tensors {
                let view = tensors.tensor(&tensor.name).map_err(|error| {
                    ImportError::checkpoint(file.path(), format!("tensor {:?}: {error}", tensor.name))
                })?;
                add_tensor(sketcher, &mut sketch, &tensor.name, &view);
            }
            sketches.push(sketch);
        }
        Ok(sketches)
    }

    fn check(
        &self,
        file: &CheckpointFile,
        tensors: &SafeTensors<'_>,
        group: &Group,
        pattern: &GroupPattern,
    ) -> Result<(), ImportError> {
        let mismatch = |tensor: &str, problem: String| {
            Err(ImportError::checkpoint(file.path(), format!("tensor {tensor:?} {problem}")))
        };
        let found = watched(tensors, pattern);
        let reference = &self.reference;
        for tensor in &group.tensors {
            match found.iter().find(|other| other.name == tensor.name) {
                Some(other) if other == tensor => {}
                Some(other) => {
                    let (now, first) = (describe(other), describe(tensor));
                    return mismatch(&tensor.name, format!("is {now}, and {first} in {reference}"));
                }
                None => match tensors.tensor(&tensor.name) {
                    // Still there, as something that is not watched.
                    Ok(view) => {
                        let now = format!("{:?} {:?}", view.dtype(), view.shape());
                        return mismatch(&tensor.name, format!("is {now}, and {} in {reference}", describe(tensor)));
                    }
                    Err(_) => return mismatch(&tensor.name, format!("is missing; {reference} has it")),
                },
            }
        }
        match found.iter().find(|other| group.tensors.iter().all(|tensor| tensor.name != other.name)) {
            Some(other) => mismatch(&other.name, format!("is not in {reference}")),
            None => Ok(()),
        }
    }
}

fn describe(tensor: &Tensor) -> String {
    format!("{:?} {:?}", tensor.dtype, tensor.shape)
}

/// The tensors that a pattern matches, by name: those with float values, of which there is one at least.
fn watched(tensors: &SafeTensors<'_>, pattern: &GroupPattern) -> Vec<Tensor> {
    let mut watched: Vec<Tensor> = tensors
        .iter()
        .filter(|(name, view)| is_float(view.dtype()) && !view.data().is_empty() && pattern.matches(name))
        .map(|(name, view)| Tensor { name: name.to_owned(), dtype: view.dtype(), shape: view.shape().to_vec() })
        .collect();
    watched.sort_by(|a, b| a.name.cmp(&b.name));
    watched
}

fn group(file: &CheckpointFile, tensors: &SafeTensors<'_>, pattern: &GroupPattern) -> Result<Group, ImportError> {
    let found = watched(tensors, pattern);
    if !found.is_empty() {
        return Ok(Group { name: pattern.name.clone(), tensors: found });
    }
    let GroupPattern { name, text, .. } = pattern;
    let path = file.path().display();
    let mut names = tensors.names();
    names.sort_unstable();
    if let Some(tensor) = names.iter().find(|tensor| pattern.matches(tensor)) {
        let dtype = tensors.tensor(tensor).map(|view| view.dtype());
        let problem = match dtype {
            Ok(dtype) if !is_float(dtype) => format!("{dtype:?}; F64, F32, F16 and BF16 can be sketched"),
            _ => "empty".to_owned(),
        };
        let problem = format!("--group {name}={text}: it matches only tensors such as {tensor:?} in {path}, {problem}");
        return Err(ImportError::Usage(problem));
    }
    let more = if names.len() > LISTED_NAMES { ", …" } else { "" };
    names.truncate(LISTED_NAMES);
    let listed = names.join(", ");
    Err(ImportError::Usage(format!("--group {name}={text}: no tensor of {path} matches; it has {listed}{more}")))
}
