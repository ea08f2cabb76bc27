"""Where the local part of a parameter that is cut over processes lies in the whole of it. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product


class Unsupported(Exception):
    """A way of distributing parameters of which we do not know who holds what."""


@dataclass(frozen=True)
class Cut:
    """One dimension of a tensor is cut into `count` parts as `torch.chunk` cuts, of which this is number `index`.

    `interleaved` is None for `Shard`, and the split factor for `_StridedShard`: FSDP cuts what tensor parallelism has cut
    before, although its mesh dimension stands to the left.
    """

    dim: int
    count: int
    index: int
    interleaved: int | None = None


@dataclass(frozen=True)
class Blocks:
    """Blocks of `length` elements, `stride` apart in the whole tensor, the first at flat index `offset`.

    In the local tensor they lie one behind the other, beginning at its element `at` of its leading dimensions.
    """

    at: tuple[int, ...]
    offset: int
    length: int
    stride: int


@lru_cache(maxsize=None)
def blocks(size: tuple[int, ...], cuts: tuple[Cut, ...]) -> tuple[tuple[int, ...], tuple[Blocks, ...]]:
    """The shape of the local tensor, and where it lies in the whole one, whose shape is `size`.

    `cuts` are in the order of the mesh dimensions, without those along which all hold the same.
    """
    ranges = [_range(length, [cut for cut in cuts if cut.dim == dim]) for dim, length in enumerate(size)]
    shape = tuple(length for _, length in ranges)
    if math.prod(shape) == 0:
        return shape, ()
    partial = [dim for dim, length in enumerate(size) if shape[dim] != length]
    if not partial:
        whole = math.prod(size)
        return shape, (Blocks((), 0, whole, whole),)
    steps = [math.prod(size[dim + 1 :]) for dim in range(len(size))]
    first = sum(start * step for (start, _), step in zip(ranges, steps))
    # A block is a stretch of the last dimension that is cut. The blocks follow each other at equal distances up to the one
    # before it that is cut as well; what is left of the dimensions before that is counted out.
    last = partial[-1]
    counted = shape[: partial[-2]] if len(partial) > 1 else ()
    length, stride = shape[last] * steps[last], size[last] * steps[last]
    return shape, tuple(
        Blocks(at, first + sum(index * step for index, step in zip(at, steps)), length, stride)
        for at in product(*map(range, counted))
    )


def _range(size: int, cuts: Sequence[Cut]) -> tuple[int, int]:
    """First index and length of what is left of a dimension."""
    start = 0
    for cut in _in_order(cuts):
        part = -(-size // cut.count)
        first = min(cut.index * part, size)
        start, size = start + first, min(first + part, size) - first
    return start, size


def _in_order(cuts: Sequence[Cut]) -> list[Cut]:
    """The cuts of one dimension, the one that was made first before the others."""
    if not cuts:
        return []
    head, *rest = cuts
    if head.interleaved is None:
        return [head, *_in_order(rest)]
    if head.interleaved != math.prod(cut.count for cut in rest):
        # Not of FSDP over tensor parallelism: the parts would be no stretch of the dimension.
        raise Unsupported(f"cut with a split factor of {head.interleaved}, which is not the number of parts behind it")
    return [*_in_order(rest), head]
