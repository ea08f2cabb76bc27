"""Sketches of a step's parameters, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch

from gradwatch import _native, _shards
from gradwatch._device_sketch import PIECE, DeviceSketch, Slice
from gradwatch._frames import Pending
from gradwatch._guard import Failures
from gradwatch._parameters import DTYPES, Parameter
from gradwatch._storage import is_backed

# Sketches that are kept to be used again.
KEPT = 4


@dataclass
class Row:
    """The sketches of one step. They are whole once everything that is pending has arrived."""

    sketches: _native.Sketches
    pending: list[Pending] = field(default_factory=list)


@dataclass(frozen=True)
class _Tensor:
    """A parameter with what the sketch needs to know of it."""

    atom: int
    key: int
    parameter: Parameter
    part: _shards.Part


class Sketching:
    """Sketches the same parameters again and again.

    Invariants: parameters are only read. Where each lies, in which type and on which device, is asked anew every time, so
    that a parameter may move between two rows. CPU tensors are read in place, in one call without the interpreter lock. CUDA
    tensors are read where they are, by work that is queued behind training's own, and nobody waits for it.
    """

    # Devices that sketch for themselves. Another one's parameters are copied to the CPU, which waits for that device.
    _devices = frozenset({"cuda"})

    def __init__(
        self,
        parameters: Sequence[Parameter],
        atom_of: Sequence[int | None],
        atoms: int,
        groups: list[tuple[str, list[int]]],
        *,
        dim: int,
        seed: int,
        topology: _shards.Topology,
        failures: Failures,
    ) -> None:
        tensors = [
            _Tensor(atom, _native.tensor_key(it.name), it, _shards.Part(it.name, it.tensor, topology))
            for it, atom in zip(parameters, atom_of, strict=True)
            if atom is not None
        ]
        self._tensors = [it for it in tensors if not it.part.is_empty]
        self._atoms = atoms
        # A process that owns nothing of a group sends nothing of it.
        owned = {it.atom for it in self._tensors}
        self._groups = [(name, atoms) for name, atoms in groups if not owned.isdisjoint(atoms)]
        self._dim = dim
        self._seed = seed
        self._failures = failures
        self._on_devices: dict[torch.device, DeviceSketch] = {}
        # Told what a device worked on a row, in seconds.
        self.device_cost: Callable[[float], None] | None = None
        self._free: list[_native.Sketches] = []
        self._free_hosts: list[torch.Tensor] = []
        # What takes sketches that are no longer needed, to be used again. It knows no parameter: a frame that holds it, of a
        # run that is still open, keeps no model in memory.
        self.give_back = partial(_give_back, self._free)

    def prepare(self) -> None:
        """Makes what CUDA devices need: making it later would wait for them in a step."""
        if any(it.parameter.tensor.device.type in self._devices for it in self._tensors):
            row = self.take()
            for pending in row.pending:
                pending.wait()
            self.give_back(row.sketches)

    @torch.no_grad()
    def take(self) -> Row:
        """The sketches of the parameters as they are now."""
        sketches = self._free.pop() if self._free else _native.Sketches(self._dim, self._seed, self._atoms, self._groups)
        sketches.clear()
        row = Row(sketches)
        pieces: list[_native.Piece] = []
        # What the pieces point to.
        keep: list[torch.Tensor] = []
        on_devices: dict[torch.device, list[Slice]] = {}
        for it in self._tensors:
            for owned in _owned(it):
                values = owned.values
                if values.device.type in self._devices:
                    on_devices.setdefault(values.device, []).extend(_slices(it, owned))
                else:
                    keep.append(self._add(it, owned, sketches, pieces))
        sketches.add(pieces)
        for device, slices in on_devices.items():
            self._take_on(device, slices, row)
        return row

    def _add(
        self, it: _Tensor, owned: _shards.Owned, sketches: _native.Sketches, pieces: list[_native.Piece]
    ) -> torch.Tensor:
        """Adds a piece, or blocks at once; gives the tensor that these point to."""
        values = owned.values
        if not values.is_cpu:
            self._failures.warn(
                f"parameters on {values.device.type} are copied to the CPU for each row, which waits for the device"
            )
            values = values.cpu()
        values = values.contiguous()
        count, dtype = values.numel(), DTYPES[values.dtype]
        if owned.length == owned.stride or owned.length >= count:
            pieces.append((it.atom, it.key, owned.offset, values.data_ptr(), count, dtype))
        elif count:
            sketches.add_blocks(it.atom, it.key, owned.offset, owned.stride, owned.length, values.data_ptr(), count, dtype)
        return values

    def _take_on(self, device: torch.device, slices: Sequence[Slice], row: Row) -> None:
        if device not in self._on_devices:
            self._on_devices[device] = DeviceSketch(device, self._dim, self._seed, self._atoms)
        began = _event(device, self.device_cost is not None)
        result = self._on_devices[device].take(slices)
        host = self._free_hosts.pop() if self._free_hosts else _page_locked(result)
        host.copy_(result, non_blocking=True)
        ended = _event(device, self.device_cost is not None)

        free_hosts, device_cost, sketches = self._free_hosts, self.device_cost, row.sketches

        def arrived() -> None:
            sketches.load(host.data_ptr(), host.numel())
            free_hosts.append(host)
            if device_cost is not None:
                device_cost(began.elapsed_time(ended) / 1000.0)

        row.pending.append(_Arrival(ended, arrived))


def _give_back(free: list[_native.Sketches], sketches: _native.Sketches) -> None:
    if len(free) < KEPT:
        free.append(sketches)


class _Arrival:
    """Sketches on their way from a CUDA device."""

    def __init__(self, event: Any, arrived: Callable[[], None]) -> None:
        self._event = event
        # What is to be done with them, once.
        self._arrived: Callable[[], None] | None = arrived

    def ready(self) -> bool:
        if self._arrived is not None and self._event.query():
            self._arrive(self._arrived)
        return self._arrived is None

    def wait(self) -> None:
        if self._arrived is not None:
            self._event.synchronize()
            self._arrive(self._arrived)

    def _arrive(self, arrived: Callable[[], None]) -> None:
        self._arrived = None
        arrived()


def _event(device: torch.device, timed: bool) -> Any:
    """Happens when the device has done what it was given so far."""
    event = cast(Any, torch.cuda.Event)(enable_timing=timed)
    event.record(torch.cuda.current_stream(device))
    return event


def _page_locked(like: torch.Tensor) -> torch.Tensor:
    """Memory that a device can write to without anybody waiting. Making it may wait, so that it is used again."""
    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)


def _owned(it: _Tensor) -> list[_shards.Owned]:
    """What is to be read of a parameter, as real numbers."""
    parts = it.part.of(it.parameter.tensor)
    if it.parameter.tensor.is_complex():
        parts = [_real(part) for part in parts]
    for part in parts:
        if part.values.dtype not in DTYPES:
            raise TypeError(f"{it.parameter.name}: has become {part.values.dtype}")
        if not is_backed(part.values):
            raise ValueError(f"{it.parameter.name}: its memory was taken away")
    return parts


def _real(owned: _shards.Owned) -> _shards.Owned:
    values = torch.view_as_real(owned.values.resolve_conj())
    return _shards.Owned(values, 2 * owned.offset, 2 * owned.length, 2 * owned.stride)


def _slices(it: _Tensor, owned: _shards.Owned) -> list[Slice]:
    """What is owned, as contiguous slices of the whole tensor."""
    values = owned.values.contiguous().reshape(-1)
    if values.numel() == 0:
        return []
    if owned.length == owned.stride or owned.length >= values.numel():
        return [Slice(it.atom, it.key, values, owned.offset)]
    blocks = values.view(-1, owned.length)
    if owned.stride > PIECE:
        return [Slice(it.atom, it.key, block, owned.offset + i * owned.stride) for i, block in enumerate(blocks)]
    # Zeros in between add nothing, and cost less than a slice for each block. The last block ends the last slice.
    at_once = PIECE // owned.stride
    slices = []
    for first in range(0, blocks.shape[0], at_once):
        some = blocks[first : first + at_once]
        spread = some.new_zeros((some.shape[0], owned.stride))
        spread[:, : owned.length] = some
        end = spread.numel() - (owned.stride - owned.length)
        slices.append(Slice(it.atom, it.key, spread.reshape(-1)[:end], owned.offset + first * owned.stride))
    return slices
