"""Where the parts of parameters lie: PyTorch cuts a tensor whose values are their own flat indices."""

from __future__ import annotations

from typing import Any

import fake_device
import pytest
import torch
from fake_world import each_rank, mesh
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Placement, Replicate, Shard, distribute_tensor

from gradwatch import _shards
from gradwatch._guard import Failures
from gradwatch._launch import Agreement
from gradwatch._layout import Cut, Unsupported, blocks
from gradwatch._parameters import Parameter
from gradwatch._sketching import Sketching

NOBODY = Agreement(None, "")
OTHER = _shards.Topology(True, (1, 2), None, NOBODY)
FIRST = _shards.Topology(True, (0, 2), None, NOBODY)


def indices(size: tuple[int, ...]) -> torch.Tensor:
    return torch.arange(torch.Size(size).numel(), dtype=torch.float64).view(size)


def positions(parameter: torch.Tensor, topology: _shards.Topology = OTHER) -> list[int]:
    """The flat indices that this process is said to hold; its values are them."""
    found = []
    for part in _shards.Part("it", parameter, topology).of(parameter):
        values = part.values.contiguous().view(-1).tolist()
        assert len(values) % part.length == 0
        for i, value in enumerate(values):
            assert value == part.offset + i // part.length * part.stride + i % part.length
        found += [int(value) for value in values]
    return found


def cut_everywhere(size: tuple[int, ...], dims: dict[str, int], placements: list[Placement]) -> list[list[int]]:
    """What each process of a mesh holds. Together it is everything, once, and only senders hold something."""

    def of_rank(rank: int) -> tuple[list[int], set[int]]:
        cut = distribute_tensor(indices(size), mesh(rank, **dims), placements, src_data_rank=None)
        assert _shards.unsupported(cut) is None
        return positions(cut), _shards._senders(nn.Identity(), [cut])

    of_ranks = each_rank(torch.Size(dims.values()).numel(), of_rank)
    held = [positions for positions, _ in of_ranks]
    assert sorted(sum(held, [])) == list(range(torch.Size(size).numel()))
    assert all(senders == of_ranks[0][1] for _, senders in of_ranks)
    assert all(rank in of_ranks[0][1] for rank, positions in enumerate(held) if positions)
    return held


@pytest.mark.parametrize(
    ("size", "dims", "placements"),
    [
        ((10, 6), {"dp": 2}, [Shard(0)]),
        ((5, 6), {"dp": 4}, [Shard(0)]),
        ((1, 6), {"dp": 4}, [Shard(0)]),
        ((7,), {"dp": 3}, [Shard(0)]),
        ((5, 6), {"tp": 4}, [Shard(1)]),
        ((3, 4, 7), {"tp": 2}, [Shard(2)]),
        ((3, 7, 4), {"tp": 2}, [Shard(1)]),
        ((9, 6), {"a": 2, "b": 2}, [Shard(0), Shard(0)]),
        ((7, 5), {"dp": 2, "tp": 2}, [Shard(0), Shard(1)]),
        ((7, 5), {"dp": 2, "tp": 2}, [Shard(1), Shard(0)]),
        ((4, 7, 6), {"dp": 2, "tp": 2}, [Shard(0), Shard(2)]),
        ((3, 7, 6), {"dp": 2, "tp": 2}, [Shard(1), Shard(2)]),
        ((2, 3, 9, 6), {"dp": 2, "tp": 2}, [Shard(3), Shard(2)]),
        ((5, 6, 7), {"ep": 2, "dp": 2, "tp": 2}, [Shard(0), Shard(1), Shard(2)]),
    ],
)
def test_every_value_is_in_one_part_and_the_part_says_where(
    size: tuple[int, ...], dims: dict[str, int], placements: list[Placement]
) -> None:
    cut_everywhere(size, dims, placements)


def test_of_what_several_hold_alike_the_first_sends() -> None:
    held = cut_everywhere((9, 6), {"replica": 2, "dp": 2}, [Replicate(), Shard(0)])
    assert [bool(positions) for positions in held] == [True, True, False, False]
    held = cut_everywhere((9, 6), {"dp": 2, "tp": 2}, [Shard(1), Replicate()])
    assert [bool(positions) for positions in held] == [True, False, True, False]
    held = cut_everywhere((9, 6), {"dp": 2, "tp": 2}, [Replicate(), Replicate()])
    assert [bool(positions) for positions in held] == [True, False, False, False]


class Block(nn.Module):
    """Two linear layers cut by tensor parallelism, and a norm that is not."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.LayerNorm(width)
        for parameter in self.parameters():
            parameter.data = indices(tuple(parameter.shape))


@pytest.mark.parametrize(
    ("dims", "width", "hidden"),
    [
        ({"dp": 2, "tp": 2}, 6, 8),
        # No part is like another, and some are empty.
        ({"dp": 3, "tp": 2}, 5, 7),
        ({"dp": 4, "tp": 2}, 3, 5),
        ({"replica": 2, "dp": 2, "tp": 2}, 6, 9),
    ],
)
def test_fsdp_over_tensor_parallelism(dims: dict[str, int], width: int, hidden: int) -> None:
    def of_rank(rank: int) -> tuple[dict[str, list[int]], set[int]]:
        whole = mesh(rank, **dims)
        names = whole.mesh_dim_names
        assert names is not None
        model = Block(width, hidden)
        cuts = {"up.weight": Shard(0), "up.bias": Shard(0), "down.weight": Shard(1), "down.bias": Replicate()}
        for name, placement in cuts.items():
            layer, _, field = name.partition(".")
            module = getattr(model, layer)
            cut = distribute_tensor(getattr(module, field).detach(), whole[names[-1]], [placement], src_data_rank=None)
            setattr(module, field, nn.Parameter(cut))
        # Its norm is cut on the mesh `dp` alone, which is another one in processes with another `tp`.
        fully_shard(model, mesh=whole[names[:-1]])
        held = {name: positions(parameter) for name, parameter in model.named_parameters()}
        return held, _shards._senders(model, list(model.parameters()))

    of_ranks = each_rank(torch.Size(dims.values()).numel(), of_rank)
    for name, parameter in Block(width, hidden).named_parameters():
        assert sorted(sum((held[name] for held, _ in of_ranks), [])) == list(range(parameter.numel())), name
    expected = set(range(dims["dp"] * dims["tp"]))
    assert all(senders == expected for _, senders in of_ranks)


@pytest.mark.parametrize("on_device", [False, True], ids=["native", "device"])
def test_the_sketches_of_the_parts_add_up(on_device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, so that nothing is lost on the way; also as a CUDA device sketches."""
    if on_device:
        fake_device.put_in_place(monkeypatch)
    dim, size = 64, (9, 7, 22)
    values = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def sketch(tensors: dict[str, torch.Tensor], topology: _shards.Topology) -> dict[str, torch.Tensor]:
        parameters = [Parameter(name, (), tensor, tensor.numel()) for name, tensor in tensors.items()]
        groups = [("all", [0, 1, 2]), ("rows", [0]), ("small", [2])]
        sketching = Sketching(
            parameters, range(3), 3, groups, dim=dim, seed=7, topology=topology, failures=Failures(strict=True)
        )
        row = sketching.take()
        for pending in row.pending:
            pending.wait()
        sketches = row.sketches
        return {
            name: torch.frombuffer(bytearray(sketches.group(i)), dtype=torch.float64)
            for i, (name, _) in enumerate(sketching._groups)
        }

    whole = {"a": values, "b": values[0], "c": values[0, :1]}
    expected = sketch(whole, _shards.Topology(True, (0, 1), None, NOBODY))
    placements = {"a": [Shard(1), Shard(2)], "b": [Replicate(), Shard(1)], "c": [Replicate(), Shard(0)]}

    def of_rank(rank: int) -> dict[str, torch.Tensor]:
        plane = mesh(rank, dp=2, tp=2)
        parts = {
            name: distribute_tensor(tensor, plane, placements[name], src_data_rank=None) for name, tensor in whole.items()
        }
        return sketch(parts, _shards.Topology(True, (rank, 4), None, NOBODY))

    of_ranks = each_rank(4, of_rank)
    # Who owns nothing of a group sends nothing of it.
    assert [sorted(of_rank) for of_rank in of_ranks] == [["all", "rows", "small"], *3 * [["all", "rows"]]]
    for name, sum_of_all in expected.items():
        torch.testing.assert_close(sum(of_rank.get(name, 0) for of_rank in of_ranks), sum_of_all, rtol=1e-12, atol=1e-12)


def test_a_whole_parameter_among_parts_is_sent_by_the_first() -> None:
    whole = nn.Parameter(indices((3, 4)))
    assert positions(whole, FIRST) == list(range(12))
    assert positions(whole, OTHER) == []


def test_an_empty_parameter_has_no_part() -> None:
    assert positions(nn.Parameter(torch.empty(0, 4)), FIRST) == []
    assert blocks((0, 4), ()) == ((0, 4), ())


def test_what_is_in_no_process_is_declined_in_all() -> None:
    def of_rank(rank: int) -> tuple[str | None, set[int]]:
        plane = mesh(rank, dp=2)
        partial = torch.distributed.tensor.DTensor.from_local(indices((3,)), plane, [Partial()], run_check=False)
        return _shards.unsupported(partial), _shards._senders(nn.Identity(), [partial])

    for reason, senders in each_rank(2, of_rank):
        assert reason is not None and "Partial" in reason
        assert senders == {0}


def test_of_a_pipeline_the_first_stage_is_watched() -> None:
    def of_rank(rank: int) -> set[int]:
        whole = mesh(rank, stage=2, dp=2)
        assert whole.mesh_dim_names is not None
        stage = fully_shard(nn.Linear(4, 3 + rank // 2), mesh=whole[whole.mesh_dim_names[1]])
        return _shards._senders(stage, list(stage.parameters()))

    assert each_rank(4, of_rank) == [{0, 1}] * 4


def test_interleaved_parts_that_are_no_stretch_are_declined() -> None:
    with pytest.raises(Unsupported, match="split factor of 3"):
        blocks((12,), (Cut(0, 2, 0, interleaved=3), Cut(0, 2, 0)))


def test_a_process_outside_of_the_mesh_holds_nothing() -> None:
    def of_rank(rank: int) -> Any:
        from torch.distributed.device_mesh import DeviceMesh

        part = DeviceMesh("cpu", [1, 2], mesh_dim_names=(f"some{rank}",), _init_backend=False)
        cut = distribute_tensor(indices((5,)), part, [Shard(0)], src_data_rank=None)
        return positions(cut), _shards._senders(nn.Identity(), [cut])

    of_ranks = each_rank(4, of_rank)
    assert [positions for positions, _ in of_ranks] == [[], [0, 1, 2], [3, 4], []]
    assert all(senders == {1, 2} for _, senders in of_ranks)
