"""Sketches of parameters on a device, by PyTorch operations there: nothing waits for the device, no parameter leaves it.

The sketch of a tensor (METRICS: y[(j + r) mod d] += u v_j x for column j of a chunk with rotation r and sign u) rotates each
chunk of d values by an amount of its own. An index for each value would be larger than the parameters. Instead, with
r = 64 hi + lo, whole blocks of 64 columns are added to where hi takes them, apart for each lo and each sign u, by one index for
each block; what is left, a rotation by lo < 64, is the same for all blocks of a lo, and is done once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradwatch import _native

# Columns that move together.
BLOCK = 64
# Values that are worked on at a time. They take 8 bytes each while their signs are applied, and as much again where they
# have to be put together first: 64 MiB at most, beside 128 d float64 for the sums.
PIECE = 1 << 22
# Tensors smaller than this are put together, so that they share the work of starting a kernel.
SMALL = 1 << 16


@dataclass(frozen=True)
class Slice:
    """A slice of a tensor that lies on the device: contiguous, the first value at flat index `offset` of the whole."""

    atom: int
    key: int
    values: torch.Tensor
    offset: int


class DeviceSketch:
    """Sketches of atoms on one device, in float64, with the bits of the native sketch up to the order of additions."""

    def __init__(self, device: torch.device, dim: int, seed: int, atoms: int) -> None:
        self._device = device
        self._dim = dim
        self._seed = seed
        self._atoms = atoms
        self._blocks = dim // BLOCK
        self._rows = max(1, PIECE // dim)
        signs = torch.frombuffer(bytearray(_native.column_signs(dim, seed)), dtype=torch.int8)
        self._signs = signs.to(device=device, dtype=torch.float64)
        self._block_numbers = torch.arange(self._blocks, dtype=torch.int32, device=device)
        # By (tensor, first chunk, number of chunks): where the blocks of each chunk go.
        self._places: dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        # By element type: zeros to fill chunks up with.
        self._zeros: dict[torch.dtype, torch.Tensor] = {}

    def take(self, slices: Sequence[Slice]) -> torch.Tensor:
        """The sketches, atoms × d, on the device."""
        result = torch.zeros((self._atoms, self._dim), dtype=torch.float64, device=self._device)
        of_atoms: dict[int, list[Slice]] = {}
        for it in slices:
            of_atoms.setdefault(it.atom, []).append(it)
        sums = torch.zeros((2 * BLOCK * self._blocks, BLOCK), dtype=torch.float64, device=self._device)
        for i, (atom, own) in enumerate(of_atoms.items()):
            if i > 0:
                sums.zero_()
            together = _Together(self, sums)
            for it in own:
                self._add(it, sums, together)
            together.flush()
            result[atom].copy_(self._rotated(sums))
        return result

    def _add(self, it: Slice, sums: torch.Tensor, together: _Together) -> None:
        values = it.values.reshape(-1)
        count, dim = values.numel(), self._dim
        first, column = divmod(it.offset, dim)
        chunks = -(-(column + count) // dim)
        places = self._places_of(it.key, first, chunks)
        if count < SMALL:
            together.add(values, column, 0, chunks, places)
            return
        # The chunk that the slice begins within, whole chunks in place, the chunk that it ends within.
        head = min(count, dim - column) if column else 0
        begun = 1 if head else 0
        whole = (count - head) // dim
        if head:
            together.add(values[:head], column, 0, 1, places)
        for row in range(0, whole, self._rows):
            rows = min(self._rows, whole - row)
            at = head + row * dim
            self._add_rows(values[at : at + rows * dim].view(rows, dim), begun + row, places, sums)
        if rest := count - head - whole * dim:
            together.add(values[count - rest :], 0, begun + whole, 1, places)

    def _add_rows(
        self, rows: torch.Tensor, first: int, places: tuple[torch.Tensor, torch.Tensor], sums: torch.Tensor
    ) -> None:
        """Adds whole chunks, of which the first is the `first` of those that `places` are of."""
        target, turn = (place[first : first + rows.shape[0], None] for place in places)
        block = (self._block_numbers + turn).bitwise_and_(self._blocks - 1).add_(target)
        signed = torch.mul(rows, self._signs)
        sums.index_add_(0, block.view(-1), signed.view(-1, BLOCK))

    def _rotated(self, sums: torch.Tensor) -> torch.Tensor:
        """The sums for each lo, rotated by lo, all added up."""
        dim = self._dim
        plus, minus = sums.view(2, BLOCK, dim)
        # Read along a row that is one shorter than it is, row lo begins lo columns further right, behind zeros.
        padded = torch.zeros((BLOCK, dim + BLOCK), dtype=torch.float64, device=self._device)
        torch.sub(plus, minus, out=padded[:, :dim])
        rotated = padded.as_strided((BLOCK, dim + BLOCK - 1), (dim + BLOCK - 1, 1)).sum(0)
        rotated[: BLOCK - 1] += rotated[dim:]
        return rotated[:dim]

    def _places_of(self, key: int, first: int, chunks: int) -> tuple[torch.Tensor, torch.Tensor]:
        """By chunk: the first row of `sums` for its lo and sign, and by how many blocks it is turned. Sent to the device once."""
        name = (key, first, chunks)
        if name not in self._places:
            packed = torch.frombuffer(
                bytearray(_native.chunk_rotations(self._dim, self._seed, key, first, chunks)), dtype=torch.int32
            )
            negative = packed < 0
            rotation = torch.where(negative, ~packed, packed)
            target = (rotation % BLOCK + BLOCK * negative.to(torch.int32)) * self._blocks
            self._places[name] = (target.to(self._device), (rotation // BLOCK).to(self._device))
        return self._places[name]

    def _zeros_of(self, dtype: torch.dtype, count: int) -> torch.Tensor:
        if dtype not in self._zeros:
            self._zeros[dtype] = torch.zeros(self._dim, dtype=dtype, device=self._device)
        return self._zeros[dtype][:count]


class _Together:
    """Pieces that are no whole chunks, filled up with zeros to whole ones and added as one."""

    def __init__(self, sketch: DeviceSketch, sums: torch.Tensor) -> None:
        self._sketch = sketch
        self._sums = sums
        self._values: list[torch.Tensor] = []
        self._places: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._chunks = 0

    def add(
        self, values: torch.Tensor, column: int, first: int, chunks: int, places: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        """Values that begin in a column of chunk `first` of those that `places` are of."""
        target, turn = places
        behind = chunks * self._sketch._dim - column - values.numel()
        before = [self._sketch._zeros_of(values.dtype, column)] if column else []
        after = [self._sketch._zeros_of(values.dtype, behind)] if behind else []
        self._values += [*before, values, *after]
        self._places.append((target[first : first + chunks], turn[first : first + chunks]))
        self._chunks += chunks
        if self._chunks >= self._sketch._rows:
            self.flush()

    def flush(self) -> None:
        if not self._values:
            return
        rows = torch.cat(self._values).view(self._chunks, self._sketch._dim)
        targets, turns = zip(*self._places, strict=True)
        self._sketch._add_rows(rows, 0, (torch.cat(targets), torch.cat(turns)), self._sums)
        self._values.clear()
        self._places.clear()
        self._chunks = 0
