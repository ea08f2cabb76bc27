"""Jobs of several real processes.

What is compared: a job's parameters are gathered behind every step, and one process that watches those very parameters
change must read the same. Training itself may differ between one process and several: gradients are added up in another
order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import Server, wait_for
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import gradwatch
from gradwatch import _shards

STEPS = 12
BATCH = 8
GROUPS = {"all": "*", "first": "up.*", "norm": "norm.*"}
# As float32 and as binary16 round each sketch of a part.
ENCODINGS = {"f32": 1e-6, "f16": 2e-3}

Wrap = Callable[[nn.Module], nn.Module]
Trajectory = list[dict[str, "np.ndarray[Any, Any]"]]


class Model(nn.Module):
    """Sizes that no number of processes divides, and a parameter that is smaller than their number."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(13, 22), nn.Linear(22, 7), nn.LayerNorm(7)
        self.out = nn.Linear(7, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.out(self.norm(self.down(torch.tanh(self.up(inputs)))))
        return outputs


def fsdp(model: nn.Module) -> nn.Module:
    return fully_shard(model, mesh=init_device_mesh("cpu", (2,)))


def fsdp_of_columns(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    # FSDP cuts the second dimension evenly or not at all.
    second = lambda parameter: Shard(1) if parameter.ndim == 2 and parameter.shape[1] % 2 == 0 else Shard(0)
    return fully_shard(model, mesh=mesh, shard_placement_fn=second)


def tensor_parallel(model: nn.Module) -> nn.Module:
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    return parallelize_module(model, init_device_mesh("cpu", (2,)), plan)


def hybrid(model: nn.Module) -> nn.Module:
    return fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard")))


def fsdp_over_tensor_parallel(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    parallelize_module(model, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    return fully_shard(model, mesh=mesh["dp"])


def ddp(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def zero_1(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


PARTS_OF_A_BATCH = {
    fsdp: 2,
    fsdp_of_columns: 2,
    tensor_parallel: 1,
    hybrid: 4,
    fsdp_over_tensor_parallel: 2,
    ddp: 2,
    zero_1: 2,
}


def gathered(model: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    whole = getattr(model, "module", model)
    return {
        name: (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach().clone().numpy()
        for name, parameter in whole.named_parameters()
    }


class Found(NamedTuple):
    """What a process says of a job."""

    run_id: str
    checkpoint_id: str
    trajectory: Trajectory
    failures: int


def train(model: nn.Module, optimizer: torch.optim.Optimizer, parts: int, act: Callable[[int, float], None]) -> None:
    """A few steps. The batch of each is cut into parts, of which this process has one."""
    part = dist.get_rank() * parts // dist.get_world_size()
    batches = torch.Generator().manual_seed(1)
    for step in range(1, STEPS + 1):
        inputs = torch.randn(BATCH, 13, generator=batches).chunk(parts)[part]
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        act(step, loss.item())


def job(wrap: Wrap, url: str, encoding: str, optimizer: Any, mode: str = "online") -> Found:
    """Trains, watched."""
    torch.manual_seed(0)
    model = wrap(Model())
    trains = optimizer(model.parameters(), lr=0.01)
    run = gradwatch.init("shards", wrap.__name__, server=url, strict=True, mode=mode)
    run.watch(model, trains, groups=GROUPS, every=2, windows=[3], dim=256, encoding=encoding)
    trajectory = [gathered(model)]

    def act(step: int, loss: float) -> None:
        # As jobs do that are written so: the others say nothing.
        if dist.get_rank() == 0:
            run.log({"loss": loss}, step=step)
        trajectory.append(gathered(model))

    train(model, trains, PARTS_OF_A_BATCH[wrap], act)
    checkpoint_id = run.checkpoint_id
    run.finish()
    return Found(str(run.id), str(checkpoint_id), trajectory, run.status()["failures"])


def zero(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
    return ZeroRedundancyOptimizer(*arguments, optimizer_class=torch.optim.AdamW, **options)


def jobs(rank: int, wraps: list[Wrap], url: str) -> dict[Wrap, list[Found]]:
    """By encoding, and one that is not watched."""
    return {
        wrap: [
            *(job(wrap, url, encoding, zero if wrap is zero_1 else torch.optim.AdamW) for encoding in ENCODINGS),
            job(wrap, url, "f32", zero if wrap is zero_1 else torch.optim.AdamW, mode="disabled"),
        ]
        for wrap in wraps
    }


class Replay(torch.optim.Optimizer):
    """Makes the steps that another job made."""

    def __init__(self, model: nn.Module, trajectory: Trajectory) -> None:
        super().__init__(model.parameters(), {"lr": 0.01})
        self._model = model
        self._next = iter(trajectory)
        self.step()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        now = next(self._next)
        for name, parameter in self._model.named_parameters():
            parameter.copy_(torch.from_numpy(now[name]))


def replayed(trajectory: Trajectory, url: str, encoding: str) -> str:
    """The run of one process whose parameters go the same way."""
    model = Model()
    optimizer = Replay(model, trajectory)
    run = gradwatch.init("shards", "replayed", server=url, strict=True)
    run.watch(model, optimizer, groups=GROUPS, every=2, windows=[3], dim=256, encoding=encoding)
    for _ in range(STEPS):
        optimizer.step()
    run.finish()
    assert run.id is not None
    return run.id


def compare(server: Server, found: str, expected: str, tolerance: float) -> None:
    """Readings of two runs, relative to the largest singular value and to the norm."""
    for group in GROUPS:
        rows = server.readings(found, group=group)
        others = server.readings(expected, group=group)
        assert [row["step"] for row in rows] == list(range(2, STEPS + 1, 2)) == [row["step"] for row in others]
        for row, other in zip(rows, others, strict=True):
            assert row["update_norm"] == pytest.approx(other["update_norm"], rel=tolerance)
            assert (row["sigma"] is None) == (other["sigma"] is None)
            if row["sigma"] is not None:
                assert row["sigma"] == pytest.approx(other["sigma"], rel=tolerance, abs=tolerance * other["sigma"][0])
        assert rows[-1]["sigma"] is not None


ON_TWO: list[Wrap] = [fsdp, fsdp_of_columns, tensor_parallel, ddp, zero_1]
ON_FOUR: list[Wrap] = [hybrid, fsdp_over_tensor_parallel]


@pytest.fixture(scope="module")
def found(server: Server) -> dict[Wrap, list[dict[Wrap, list[Found]]]]:
    """What each process says of each job. Processes begin slowly, so that they do many jobs."""
    answers = {}
    for wraps, world_size in ((ON_TWO, 2), (ON_FOUR, 4)):
        of_ranks = run_ranks(world_size, jobs, wraps, server.url)
        answers |= {wrap: of_ranks for wrap in wraps}
    return answers


@pytest.mark.parametrize(
    ("wrap", "shards"),
    [
        (fsdp, 2),
        (fsdp_of_columns, 2),
        (tensor_parallel, 2),
        (ddp, 1),
        (zero_1, 1),
        (hybrid, 2),
        (fsdp_over_tensor_parallel, 4),
    ],
)
def test_several_processes_read_the_same_as_one(
    server: Server, found: dict[Wrap, list[dict[Wrap, list[Found]]]], wrap: Wrap, shards: int
) -> None:
    of_ranks = [of_rank[wrap] for of_rank in found[wrap]]
    for i, (encoding, tolerance) in enumerate(ENCODINGS.items()):
        first = of_ranks[0][i]
        for it in of_ranks:
            assert (it[i].run_id, it[i].checkpoint_id, it[i].failures) == (first.run_id, first.checkpoint_id, 0)
        assert first.checkpoint_id.endswith(f"@{STEPS}")
        [segment] = server.items(f"runs/{first.run_id}/segments")
        assert segment["shard_count"] == shards
        assert segment["attempt_id"] in first.checkpoint_id
        run = server.get(f"runs/{first.run_id}")
        assert (run["state"], run["counters"]["incomplete"], run["counters"]["rejected"]) == ("finished", 0, 0)
        steps = server.steps(first.run_id)
        assert sum("loss" in step["scalars"] for step in steps) == STEPS
        compare(server, first.run_id, replayed(first.trajectory, server.url, encoding), tolerance)
    # Training is the same with and without.
    for watched, unwatched in zip(of_ranks[0][0].trajectory, of_ranks[0][-1].trajectory, strict=True):
        assert all(np.array_equal(watched[name], unwatched[name]) for name in watched)


def resumed(rank: int, url: str) -> tuple[str, str]:
    """A job that is begun again from its checkpoint."""
    torch.manual_seed(0)
    model = fsdp(Model())
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint_id = None
    for _ in range(2):
        run = gradwatch.init("shards", "resumed", server=url, strict=True, id=checkpoint_id, resume="allow")
        run.watch(model, optimizer, every=2, windows=[3], dim=256)
        train(model, optimizer, 2, lambda step, loss: run.log({"loss": loss}))
        checkpoint_id = run.checkpoint_id
        run.finish("preempted" if run.status()["step"] == STEPS else "finished")
    return str(run.id), str(checkpoint_id)


def chosen(rank: int, url: str) -> tuple[str, str]:
    """A job that is watched as often as can be."""
    torch.manual_seed(0)
    model = fsdp(Model())
    optimizer = torch.optim.AdamW(model.parameters())
    run = gradwatch.init("shards", "chosen", server=url, strict=True)
    run.watch(model, optimizer, every="auto", budget=1.0, windows=[3], dim=256)
    for _ in range(8):
        train(model, optimizer, 2, lambda step, loss: None)
    checkpoint_id = run.checkpoint_id
    run.finish()
    return str(run.id), str(checkpoint_id)


def chosen_by_one_of_many(rank: int, url: str) -> tuple[str, str]:
    """The same, where the first process alone sends."""
    torch.manual_seed(0)
    model = ddp(Model())
    optimizer = torch.optim.AdamW(model.parameters())
    run = gradwatch.init("shards", "chosen", server=url, strict=True)
    run.watch(model, optimizer, every="auto", budget=1.0, windows=[3], dim=256)
    for _ in range(8):
        train(model, optimizer, 2, lambda step, loss: None)
    # As a job does that keeps a checkpoint: the first process says what the others read.
    first = run.checkpoint_id if rank == 0 else None
    dist.barrier()
    checkpoint_id = first if rank == 0 else run.checkpoint_id
    run.finish()
    return str(run.id), str(checkpoint_id)


def several(rank: int, url: str) -> list[tuple[str, str]]:
    return [act(rank, url) for act in (resumed, chosen, chosen_by_one_of_many)]


def test_all_processes_go_on_together(server: Server) -> None:
    first, second = run_ranks(2, several, server.url)
    assert first == second
    (resumed_id, at), (chosen_id, chosen_at), (other_id, other_at) = first

    assert at.startswith(resumed_id) and at.endswith(f"@{2 * STEPS}")
    one, two = server.items(f"runs/{resumed_id}/segments")
    assert (two["resumes"]["attempt_id"], two["resumes"]["step"]) == (one["attempt_id"], STEPS)
    assert [row["step"] for row in server.readings(resumed_id)] == list(range(2, 2 * STEPS + 1, 2))

    for run_id, checkpoint_id in ((chosen_id, chosen_at), (other_id, other_at)):
        one, two = server.items(f"runs/{run_id}/segments")
        assert one["attempt_id"] not in checkpoint_id and two["attempt_id"] in checkpoint_id
        # It was chosen at step 50; with several shards it holds from a row on that none of them can have reached by then.
        changed = 70 if run_id == chosen_id else 50
        rows = server.readings(run_id)
        assert [row["step"] for row in rows] == [*range(10, changed + 1, 10), *range(changed + 1, 8 * STEPS + 1)]
        assert server.get(f"runs/{run_id}")["counters"]["incomplete"] == 0


class Drift(torch.optim.Optimizer):
    """Training that needs no other process."""

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        super().__init__(parameters, {"lr": 0.01})
        self._steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self._steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                local = parameter.to_local()
                local.add_(torch.sin(torch.arange(local.numel()) + self._steps).view(local.shape))


def drifting(name: str, url: str) -> tuple[gradwatch.Run, Drift]:
    model = fsdp(Model())
    optimizer = Drift(model.parameters())
    run = gradwatch.init("shards", name, server=url)
    run.watch(model, optimizer, every=1, windows=[3], dim=256)
    return run, optimizer


def one_fails_once(rank: int, url: str) -> tuple[str, int]:
    run, optimizer = drifting("fails once", url)
    for step in range(1, STEPS + 1):
        with pytest.MonkeyPatch.context() as patch:
            if rank == 1 and step == 5:
                patch.setattr(_shards, "_local", lambda parameter: 1 / 0)
            optimizer.step()
    run.finish()
    return str(run.id), run.status()["failures"]


def one_has_no_base(rank: int, url: str) -> tuple[str, int]:
    run, optimizer = drifting("no base", url)
    local, failed = _shards._local, []

    def fails_once(parameter: Any) -> torch.Tensor:
        if not failed:
            failed.append(parameter)
            raise OSError("not now")
        return local(parameter)

    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr(_shards, "_local", fails_once)
        for _ in range(STEPS):
            optimizer.step()
    run.finish()
    return str(run.id), run.status()["failures"]


def one_is_not_watched(rank: int, url: str) -> tuple[str, int]:
    if rank == 1:
        model = fsdp(Model())
        for _ in range(STEPS):
            Drift(model.parameters()).step()
        return "", 0
    run, optimizer = drifting("not watched", url)
    for _ in range(STEPS):
        optimizer.step()
    run.finish()
    return str(run.id), run.status()["failures"]


def one_dies(rank: int, url: str) -> tuple[str, int]:
    run, optimizer = drifting("dies", url)
    for step in range(1, STEPS + 1):
        optimizer.step()
        if step == 6:
            run.flush()
            if rank == 1:
                wait_for("its frames", lambda: run.status()["settled"] >= 6)
                os._exit(1)
    run.finish()
    return str(run.id), run.status()["failures"]


def faults(rank: int, url: str) -> list[tuple[str, int]]:
    return [act(rank, url) for act in (one_fails_once, one_has_no_base, one_is_not_watched, one_dies)]


def test_what_befalls_one_process_leaves_the_others_training(own_server: Callable[..., Server]) -> None:
    server = own_server(environment={"GRADWATCH_LIVENESS__ASSEMBLY_TIMEOUT_S": "1"})
    of_ranks = run_ranks(2, faults, server.url, dying=[1])
    (fails, failures), (no_base, _), (unwatched, _), (dies, _) = of_ranks[0]
    assert failures == 0

    def complete(run_id: str) -> dict[int, bool]:
        return {int(step["step"]): step["complete"] for step in server.steps(run_id)}

    # A row that one of them cannot take is no row, and the windows begin again behind it.
    assert complete(fails) == {step: step != 5 for step in range(STEPS + 1)}
    rows = {int(row["step"]): row for row in server.readings(fails)}
    # Of the step behind it the process tells the update from step 4, the other one that from step 5.
    assert sorted(rows) == [1, 2, 3, 4, *range(7, STEPS + 1)]
    assert complete(no_base) == {step: step != 1 for step in range(STEPS + 1)}
    assert sorted(int(row["step"]) for row in server.readings(no_base)) == list(range(2, STEPS + 1))
    # Without the other shard there is no row at all, and nobody waits for it.
    for run_id, whole in ((unwatched, 0), (dies, 7)):
        assert [step for step, all_of_it in complete(run_id).items() if all_of_it] == list(range(whole))
        events = server.items(f"runs/{run_id}/events")
        assert "run.shard_lost" in {event["type"] for event in events}
        assert len(server.readings(run_id)) == max(whole - 1, 0)
