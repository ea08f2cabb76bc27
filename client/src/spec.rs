//! The stream spec: groups with their tensors, and which slices of them a submission must bring.

use std::collections::HashMap;
use std::fmt;

use gradwatch_proto::v1;
use gradwatch_spectral::encoding::Encoding;
use gradwatch_spectral::layers::LayerInstrument;
use gradwatch_spectral::sketch::TensorName;

use crate::error::SubmitError;
use crate::frame::TensorSlice;
use crate::layer::Layer;

/// What is sketched of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The change of the parameters since the group's previous submission.
    Update,
    /// The gradient itself.
    Gradient,
}

impl Kind {
    pub(crate) fn to_wire(self) -> v1::Kind {
        match self {
            Self::Update => v1::Kind::Update,
            Self::Gradient => v1::Kind::Gradient,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Update => "update",
            Self::Gradient => "gradient",
        })
    }
}

/// Everything about a run's stream that never changes.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) sketch_dim: usize,
    pub(crate) sketch_seed: u64,
    pub(crate) encoding: Encoding,
    pub(crate) window_lengths: Vec<u32>,
    pub(crate) groups: Vec<Group>,
    pub(crate) kinds: Vec<Kind>,
    /// Optimizer steps between two rows, at least 1.
    pub(crate) update_interval: u32,
    /// One process brings all of each tensor; otherwise each brings what it owns.
    pub(crate) is_whole: bool,
    /// By name; each (instrument, name) once.
    pub(crate) layers: Vec<(String, Layer)>,
}

impl Spec {
    pub(crate) fn to_wire(&self) -> v1::StreamSpec {
        let tensor = |tensor: &Tensor| v1::Tensor { name: tensor.name.clone(), elements: tensor.elements };
        let group =
            |group: &Group| v1::Group { name: group.name.clone(), tensors: group.tensors.iter().map(tensor).collect() };
        v1::StreamSpec {
            sketch_dim: self.sketch_dim as u32,
            sketch_seed: self.sketch_seed,
            encoding: match self.encoding {
                Encoding::F32 => v1::Encoding::F32,
                Encoding::F16 => v1::Encoding::F16,
            }
            .into(),
            window_lengths: self.window_lengths.clone(),
            groups: self.groups.iter().map(group).collect(),
            kinds: self.kinds.iter().map(|kind| kind.to_wire().into()).collect(),
            update_interval: self.update_interval,
            layers: self.layers.iter().map(|(name, layer)| layer.to_wire(name)).collect(),
        }
    }

    /// The most that a frame takes, encoded, without scalars and what is [`Attached`](crate::attached::Attached): every
    /// group with every kind, all numbers at their widest.
    pub(crate) fn frame_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 96;
        const PAYLOAD_BYTES: usize = 64;
        const GROUP_OPTIMIZER_BYTES: usize = 32;
        let sketch_bytes = self.sketch_dim
            * match self.encoding {
                Encoding::F32 => 4,
                Encoding::F16 => 2,
            };
        FRAME_BYTES + self.groups.len() * (GROUP_OPTIMIZER_BYTES + self.kinds.len() * (PAYLOAD_BYTES + sketch_bytes))
    }

    /// The most that the scalar adds to that.
    pub(crate) fn scalar_bytes(name: &str) -> usize {
        name.len() + 24
    }

    /// The layer's index.
    pub(crate) fn layer(&self, instrument: LayerInstrument, name: &str) -> Result<usize, SubmitError> {
        let is_named = |(other, _): &&(String, Layer)| other == name;
        self.layers.iter().position(|layer| is_named(&layer) && layer.1.instrument == instrument).ok_or_else(|| {
            let declared = self.layers.iter().filter(is_named).map(|(_, layer)| layer.instrument).collect();
            SubmitError::UnknownLayer { layer: name.to_owned(), instrument, declared }
        })
    }

    /// The group's index.
    pub(crate) fn group(&self, name: &str) -> Result<usize, SubmitError> {
        self.groups
            .iter()
            .position(|group| group.name == name)
            .ok_or_else(|| SubmitError::UnknownGroup { group: name.to_owned() })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) key: TensorName,
    pub(crate) elements: u64,
}

impl Group {
    pub(crate) fn new(name: String, tensors: Vec<(String, u64)>) -> Self {
        let index = tensors.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
        let tensor = |(name, elements): (String, u64)| Tensor { key: TensorName::new(&name), name, elements };
        Self { name, tensors: tensors.into_iter().map(tensor).collect(), index }
    }

    /// The slices with their tensors' keys, in declared order and ascending: the order that makes a sketch's bits
    /// independent of how the caller listed them.
    ///
    /// # Errors
    /// Unless the slices cover every tensor of the group exactly once or, where they are not to be the whole, no element
    /// twice.
    pub(crate) fn resolve<'a>(
        &self,
        slices: &[TensorSlice<'a>],
        is_whole: bool,
    ) -> Result<Vec<Piece<'a>>, SubmitError> {
        let mut pieces = Vec::with_capacity(slices.len());
        for slice in slices {
            let Some(&tensor) = self.index.get(slice.name) else {
                return Err(SubmitError::UnknownTensor { group: self.name.clone(), tensor: slice.name.to_owned() });
            };
            let key = self.tensors[tensor].key;
            pieces.push(Piece { tensor, key, offset: slice.offset, values: slice.values });
        }
        // An empty piece goes before the one that starts where it lies.
        pieces.sort_by_key(|piece| (piece.tensor, piece.offset, piece.values.len()));
        let mut rest = &pieces[..];
        for (i, tensor) in self.tensors.iter().enumerate() {
            let (own, others) = rest.split_at(rest.partition_point(|piece| piece.tensor == i));
            self.check_coverage(tensor, own, is_whole)?;
            rest = others;
        }
        Ok(pieces)
    }

    fn check_coverage(&self, tensor: &Tensor, pieces: &[Piece<'_>], is_whole: bool) -> Result<(), SubmitError> {
        if pieces.is_empty() && is_whole {
            return Err(SubmitError::MissingTensor { group: self.name.clone(), tensor: tensor.name.clone() });
        }
        let fault = |problem, at| SubmitError::Coverage {
            group: self.name.clone(),
            tensor: tensor.name.clone(),
            elements: tensor.elements,
            problem,
            at,
        };
        let mut covered = 0;
        for piece in pieces {
            if piece.offset > covered && is_whole {
                return Err(fault("lacks", covered));
            }
            if piece.offset < covered {
                return Err(fault("repeats", piece.offset));
            }
            covered = piece.offset.saturating_add(piece.values.len() as u64);
            if covered > tensor.elements {
                return Err(fault("goes past", tensor.elements.saturating_sub(1)));
            }
        }
        if covered < tensor.elements && is_whole { Err(fault("lacks", covered)) } else { Ok(()) }
    }
}

/// A slice of a known tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    tensor: usize,
    pub(crate) key: TensorName,
    pub(crate) offset: u64,
    pub(crate) values: &'a [f32],
}
