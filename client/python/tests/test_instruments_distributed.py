"""Instruments in jobs of two processes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from conftest import Server, wait_for
from ranks import run_ranks
from torch import nn

INPUTS = torch.randn(300, 12, generator=torch.Generator().manual_seed(4))


def model_of() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 400), nn.Tanh(), nn.Dropout(0.1), nn.Linear(400, 8))


def losses(model: nn.Module) -> torch.Tensor:
    return model(INPUTS).square().sum(1)


def mean_loss(model: nn.Module) -> torch.Tensor:
    return losses(model).mean()


def train(rank: int, kind: str, url: str | None) -> dict[str, Any]:
    """Two processes, each with half of every batch."""
    import gradwatch

    torch.manual_seed(1)
    model = model_of()
    if kind == "ddp":
        model = nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(2 + rank)
    run = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if url is not None:
            run = gradwatch.init(project="python", name=kind, server=url)
            dead = gradwatch.DeadDirections("3", losses, every=3)
            instruments = [
                gradwatch.Cascade(every=2),
                gradwatch.Curvature("0.weight", mean_loss, every=3, directions=5),
                dead,
                gradwatch.LearningCell("0", "3", "tanh", every=3),
            ]
            run.watch(model, optimizer, every=2, instruments=instruments)
        for _ in range(6):
            x = torch.randn(16, 12)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            if run is not None and dead._last is not None:
                # However slow the machine is: the next snapshot is due in three steps.
                dead._last.wait()
        if run is not None:
            run.finish()
    weights = [tensor.full_tensor() if kind == "fsdp" else tensor for tensor in model.state_dict().values()]
    return {
        "id": None if run is None else run.id,
        "weights": [tensor.tolist() for tensor in weights],
        "random": torch.rand(2).tolist(),
        "said": [str(warning.message) for warning in caught if "gradwatch" in str(warning.message)],
    }


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes(server: Server, kind: str) -> None:
    watched = run_ranks(2, train, kind, server.url)
    without = run_ranks(2, train, kind, None)
    for ours, theirs in zip(watched, without, strict=True):
        assert ours["weights"] == theirs["weights"] and ours["random"] == theirs["random"]
    run_id = watched[0]["id"]
    if kind == "fsdp":
        # No process has a whole gradient, or can make a pass alone.
        for answer in watched:
            assert sum("sharded" in line for line in answer["said"]) == 4, answer["said"]
        return
    assert watched[0]["said"] == []
    for instrument, steps in {
        "cascade": [1, 3, 5],
        "curvature": [1, 4],
        "dead_directions": [1, 4],
        "learning_cell": [1, 4],
    }.items():

        def enough(instrument: str = instrument, count: int = len(steps)) -> list[Any] | None:
            found = server.readings(run_id, instrument)
            return found if len(found) == count else None

        assert [row["step"] for row in wait_for(f"readings of {instrument}", enough)] == steps
