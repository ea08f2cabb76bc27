"""Every process of a world, one after the other in this one: no communication takes place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

T = TypeVar("T")


def each_rank(world_size: int, act: Callable[[int], T], ranks: list[int] | None = None) -> list[T]:
    """What `act` gives on each rank."""
    answers = []
    for rank in range(world_size) if ranks is None else ranks:
        dist.init_process_group("fake", rank=rank, world_size=world_size, store=FakeStore())
        try:
            answers.append(act(rank))
        finally:
            dist.destroy_process_group()
    return answers


def mesh(rank: int, **dims: int) -> DeviceMesh:
    """A mesh of these dimensions. It is named after the rank: PyTorch takes equal meshes for one, with one coordinate."""
    return init_device_mesh("cpu", tuple(dims.values()), mesh_dim_names=tuple(f"{name}{rank}" for name in dims))
