"""What this process owns of the parameters, and whether it is one that sends: found out from the process group.

- No process group, or a world of one: everything is here.
- Parameters that every process holds whole (DDP, ZeRO-1): one process sends, the others are silent.
- `DTensor` parameters (FSDP2, tensor parallelism): every process that holds a part sends its part, and of parts that
  several hold alike one of them does. The server adds the parts up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from gradwatch import _native
from gradwatch._launch import Agreement, agreement, of_this_launch
from gradwatch._layout import Blocks, Cut, Unsupported, blocks

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

# How long a process waits at `watch` for what the first one says. Training goes on unwatched behind that.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Owned:
    """Local values of a parameter: blocks of `length` values, `stride` apart in the whole tensor, the first at `offset`."""

    values: torch.Tensor
    offset: int
    length: int
    stride: int


@dataclass(frozen=True)
class Topology:
    """Which of the processes this is."""

    # Whether this process sends anything.
    sends: bool
    # (index, count) of the processes whose sketches add up. The one of index 0 decides what is to be decided.
    shard: tuple[int, int]
    # What all of them open the run with; None where nothing is sent.
    launch: str | None
    # What shard 0 tells the others.
    agreement: Agreement

    @property
    def decides(self) -> bool:
        """Whether this process decides for all of them."""
        return self.sends and self.shard[0] == 0

    def launch_of_all(self) -> str | None:
        """What the run was opened with, also where nothing is sent; None as long as it is not known."""
        if self.launch is not None:
            return self.launch
        text = self.agreement.receive("launch")
        return _Launch.parse(text).launch if text is not None and _is_new(text) else None

    def begin_attempt(self, attempt_id: str) -> None:
        """Another attempt begins: to be known also where nothing is sent."""
        if self.decides:
            self.agreement.publish("attempt", attempt_id)

    def later_attempt(self) -> str | None:
        """The attempt that began last, behind the first one."""
        return self.agreement.receive("attempt")


def elements(parameter: torch.Tensor) -> int:
    """The number of elements of the whole parameter."""
    return parameter.numel()


def unsupported(parameter: torch.Tensor) -> str | None:
    """Why this parameter cannot be sketched, if it cannot. All processes say the same."""
    try:
        if is_distributed(parameter):
            blocks(tuple(parameter.shape), _cuts(parameter, [0] * parameter.device_mesh.ndim))
    except Unsupported as reason:
        return str(reason)
    return None


class Part:
    """What this process sends of one parameter. Where it lies is found out once."""

    def __init__(self, name: str, parameter: torch.Tensor, topology: Topology) -> None:
        self._name = name
        self._count = parameter.numel()
        # Shape of the local tensor, where it is not the whole one.
        self._shape: tuple[int, ...] | None = None
        self._places: tuple[Blocks, ...] = ()
        if not is_distributed(parameter):
            # Every process holds it whole.
            self.is_empty = not topology.decides or self._count == 0
            return
        mesh = parameter.device_mesh
        coordinate = mesh.get_coordinate()
        if coordinate is not None and mesh.get_rank() in _holders(mesh, _replicated(parameter)):
            self._shape, self._places = blocks(tuple(parameter.shape), _cuts(parameter, coordinate))
        self.is_empty = not self._places

    def of(self, parameter: torch.Tensor) -> list[Owned]:
        """Its values now, in place. Moves nothing, communicates nothing, waits for nothing."""
        if self.is_empty:
            return []
        if self._shape is None:
            values = parameter.detach()
            if values.numel() != self._count:
                raise ValueError(f"{self._name}: has {values.numel()} elements, had {self._count} when it was declared")
            return [Owned(values, 0, self._count, self._count)]
        local = _local(parameter)
        if tuple(local.shape) != self._shape:
            raise ValueError(f"{self._name}: {tuple(local.shape)} of it are here, where {self._shape} should be")
        return [Owned(local[it.at] if it.at else local, it.offset, it.length, it.stride) for it in self._places]


def _local(parameter: Any) -> torch.Tensor:
    import torch

    # Without gradients, in which `to_local` would be recorded.
    with torch.no_grad():
        local: torch.Tensor = parameter.to_local()
        return local.detach()


def _cuts(parameter: DTensor, coordinate: Sequence[int]) -> tuple[Cut, ...]:
    """How it is cut for the process at this coordinate of its mesh."""
    cuts = []
    for mesh_dim, placement in enumerate(parameter.placements):
        if placement.is_replicate():
            continue
        dim = getattr(placement, "dim", None)
        if placement.is_partial() or dim is None:
            raise Unsupported(f"its values are those of {placement!r}, which are in no process")
        count = parameter.device_mesh.size(mesh_dim)
        cuts.append(Cut(dim, count, coordinate[mesh_dim], getattr(placement, "split_factor", None)))
    return tuple(cuts)


def topology(
    model: torch.nn.Module,
    parameters: Sequence[tuple[str, torch.Tensor]],
    identity: Sequence[str],
    goes_on: str | None,
) -> Topology:
    """Which part of the run this process is.

    `parameters` are those that are watched, with their names; `identity` says which run this is, on all processes alike;
    `goes_on` is the text of a checkpoint, or the run's id, where one is given.
    """
    import torch.distributed as dist

    run_id = goes_on.partition("/")[0] if goes_on else None
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return Topology(True, (0, 1), _native.new_launch(run_id), Agreement(None, ""))
    if _is_flat(model):
        raise Unsupported("FullyShardedDataParallel keeps flat shards, which are not read; `fully_shard` is watched")
    rank = dist.get_rank()
    senders = sorted(_senders(model, [parameter for _, parameter in parameters]))
    told = agreement(_digest([*identity, senders]))
    if rank not in senders:
        return Topology(False, (0, len(senders)), None, told)
    shard = (senders.index(rank), len(senders))
    layout = _digest([(name, list(parameter.shape), _placements(parameter)) for name, parameter in parameters])
    if shard[0] == 0:
        said = _Launch(_native.new_launch(run_id), goes_on, layout, time.time())
        try:
            told.publish("launch", said.text())
        except Exception:
            # Without other shards it costs silent processes the run's id, and nothing else.
            if shard[1] > 1:
                raise
    else:
        said = _hear(told, goes_on, layout)
    return Topology(True, shard, said.launch, told)


def _hear(told: Agreement, goes_on: str | None, layout: str) -> _Launch:
    """What shard 0 says that the run is opened with."""
    text = told.wait("launch", _is_new, PATIENCE_S)
    if text is None:
        raise TimeoutError(f"no process began this run within {PATIENCE_S:.0f} s: is `watch` called on all of them?")
    said = _Launch.parse(text)
    if said.goes_on != goes_on:
        raise ValueError(f"id: the first process has {said.goes_on!r}, this one {goes_on!r}")
    if said.layout != layout:
        raise ValueError("the first process watches other parameters, or has cut them in another way")
    return said


@dataclass(frozen=True)
class _Launch:
    """What shard 0 says to the others."""

    launch: str
    goes_on: str | None
    layout: str
    published_at: float

    def text(self) -> str:
        return json.dumps([self.launch, self.goes_on, self.layout, self.published_at])

    @staticmethod
    def parse(text: str) -> _Launch:
        return _Launch(*json.loads(text))


def _is_new(text: str) -> bool:
    return of_this_launch(_Launch.parse(text).published_at)


def _digest(of: Any) -> str:
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]


def _is_flat(model: torch.nn.Module) -> bool:
    """Whether its parameters, or what is here of them, are slices of a few flat ones (FSDP before `fully_shard`)."""
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())


# Who sends.


def is_distributed(parameter: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether it is a `DTensor`."""
    return hasattr(parameter, "placements") and hasattr(parameter, "device_mesh")


def _placements(parameter: Any) -> list[str] | None:
    return [repr(placement) for placement in parameter.placements] if is_distributed(parameter) else None


def _replicated(parameter: DTensor) -> tuple[bool, ...]:
    """By mesh dimension: whether all processes along it hold the same."""
    return tuple(placement.is_replicate() for placement in parameter.placements)


def _senders(model: torch.nn.Module, parameters: Iterable[torch.Tensor]) -> set[int]:
    """The processes that send, by their rank in the world. All of them find the same."""
    meshes = {
        (parameter.device_mesh, _replicated(parameter))
        for parameter in parameters
        if is_distributed(parameter) and unsupported(parameter) is None
    }
    return {rank for mesh in meshes for rank in _holders(*mesh)} or {_first_replica(model)}


@lru_cache(maxsize=None)
def _holders(mesh: DeviceMesh, replicated: tuple[bool, ...]) -> frozenset[int]:
    """The processes that send a parameter on this mesh: of those that hold the same, the first.

    A mesh may be a slice of a larger one (`mesh["tp"]`), and is then another slice in other processes, which hold the same:
    it is the first slice that sends.
    """
    home = _first_slice(mesh)
    first = tuple(0 if alike else slice(None) for alike in replicated)
    return frozenset(home[first].flatten().tolist())


def _first_slice(mesh: DeviceMesh) -> torch.Tensor:
    """The ranks of the first of the slices of the root mesh that this mesh is one of."""
    ranks = mesh.mesh
    root = _root(mesh)
    places = {rank: place for place, rank in zip(product(*map(range, root.shape)), root.flatten().tolist())}
    inside = [places[rank] for rank in ranks.flatten().tolist() if rank in places]
    if len(inside) != ranks.numel():
        return ranks
    fixed = [len(set(along)) == 1 for along in zip(*inside)]
    moved = [root[tuple(0 if fix else at for fix, at in zip(fixed, place))] for place in inside]
    return ranks.new_tensor([int(rank) for rank in moved]).view(ranks.shape)


def _root(mesh: DeviceMesh) -> torch.Tensor:
    """The ranks of the mesh that this one is a slice of, or its own."""
    # PyTorch has moved this about, and never made it public.
    find = getattr(mesh, "_get_root_mesh", None)
    if find is None:
        from torch.distributed.device_mesh import _mesh_resources

        find = partial(getattr(_mesh_resources, "get_root_mesh", None) or _mesh_resources.get_parent_mesh, mesh)
    return (find() or mesh).mesh


def _first_replica(model: torch.nn.Module) -> int:
    """The first of the processes that hold the same model: of those of its DDP wrapper, else of all."""
    import torch.distributed as dist

    for module in model.modules():
        if type(module).__name__ == "DistributedDataParallel":
            return min(dist.get_process_group_ranks(cast("dist.ProcessGroup", module.process_group)))
    return 0
