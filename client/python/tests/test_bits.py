"""Training is the same with and without us, bit for bit, and every kind of step is seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gradwatch
import numpy as np
import pytest
import torch
from conftest import Server
from jobs import Optimizers, same, train
from torch import nn

STEPS = 12


def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)


def of(kind: type[torch.optim.Optimizer], **arguments: Any) -> Optimizers:
    return lambda model: kind(model.parameters(), **arguments)


def two_groups(model: nn.Module) -> torch.optim.Optimizer:
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2)


CASES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adamw fused": {"optimizer": of(torch.optim.AdamW, lr=1e-2, fused=True)},
    "adamw foreach": {"optimizer": of(torch.optim.AdamW, lr=1e-2, foreach=True)},
    "adamw loop": {"optimizer": of(torch.optim.AdamW, lr=1e-2, foreach=False)},
    "adamw amsgrad, two groups": {"optimizer": two_groups},
    "sgd with momentum": {"optimizer": of(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True)},
    "rmsprop": {"optimizer": of(torch.optim.RMSprop, lr=1e-3)},
    "lbfgs": {"optimizer": lbfgs},
    "accumulation": {"accumulate": 3},
    "clipping": {"clip": 0.1},
    "bf16 autocast": {"autocast": torch.bfloat16},
    "compiled model": {"wrap": lambda model: torch.compile(model, backend="aot_eager")},
    "compiled step": {"compiled_step": True},
}


def numbers() -> tuple[Any, ...]:
    """Every state that training could see us change."""
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.backends.cudnn.benchmark,
    )


def watched(server: Server, every: int | str, **arguments: Any) -> tuple[gradwatch.Run, Callable[..., None]]:
    run = gradwatch.init(project="bits", name="bits", server=server.url, strict=True)

    def watching(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        run.watch(model, optimizer, groups={"attention": "*.attn.*", "all": "*"}, every=every, **arguments)

    return run, watching


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit(server: Server, case: str) -> None:
    arguments = CASES[case]
    bare = train(STEPS, **arguments)
    before = numbers()
    run, watching = watched(server, 1)
    seen = train(STEPS, watching=watching, behind_step=lambda step, loss: run.log({"loss": loss}), **arguments)
    run.finish()
    assert numbers() == before
    assert np.isfinite(bare.losses).all()
    assert same(bare, seen)
    # It was watched, and the updates are those of training: none of them is nothing.
    assert run.id is not None
    readings = server.readings(run.id, group="all")
    assert [r["step"] for r in readings] == list(range(1, STEPS + 1))
    assert all(r["update_norm"] > 0.0 for r in readings)
    steps = server.steps(run.id)
    assert [s["scalars"]["loss"] for s in steps] == seen.losses
    assert run.status()["failures"] == 0


def test_parameters_keep_their_gradients_and_hooks(server: Server) -> None:
    run, _ = watched(server, 1)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer, every=1)
    model(torch.ones(2, 4)).sum().backward()
    gradients = [p.grad for p in model.parameters()]
    versions = [p._version for p in model.parameters()]
    optimizer.step()
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients))
    # The step's own change of each, and no other.
    assert [p._version - v for p, v in zip(model.parameters(), versions)] == [1, 1]
    assert all(p.is_leaf and p.requires_grad for p in model.parameters())
    assert not model._forward_hooks and not model._backward_hooks
    state = optimizer.state_dict()
    run.finish()
    assert state.keys() == optimizer.state_dict().keys() == {"state", "param_groups"}
    # What is still hooked does nothing any more.
    optimizer.step()
    assert run.status()["step"] == run.status()["submitted"] == 1


def test_a_step_that_the_scaler_skips_is_none(server: Server) -> None:
    run, watching = watched(server, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    bare = train(STEPS, scaler=torch.amp.GradScaler("cpu", init_scale=64.0), spoil=4)
    assert same(bare, train(STEPS, watching=watching, scaler=scaler, spoil=4))
    run.finish()
    assert run.id is not None
    readings = server.readings(run.id, group="all")
    assert [r["step"] for r in readings] == list(range(1, STEPS))
    assert all(r["update_norm"] > 0.0 for r in readings)


def test_accelerate_is_watched(server: Server) -> None:
    from accelerate import Accelerator

    run, _ = watched(server, 1)
    accelerator = Accelerator(cpu=True)
    bare = nn.Linear(4, 4)
    model, optimizer = accelerator.prepare(bare, torch.optim.SGD(bare.parameters(), lr=0.1))
    run.watch(model, optimizer, every=1)
    for _ in range(3):
        accelerator.backward(model(torch.ones(2, 4)).sum())
        optimizer.step()
        optimizer.zero_grad()
    run.finish()
    assert run.id is not None
    assert [r["step"] for r in server.readings(run.id)] == [1, 2, 3]


def test_several_optimizers_make_one_step(server: Server) -> None:
    run, _ = watched(server, 1)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizers = [torch.optim.SGD(part.parameters(), lr=lr) for part, lr in zip(model, (0.1, 0.2))]
    run.watch(model, optimizers, groups={"first": "0.*", "second": "1.*", "all": "*"}, every=1)
    for _ in range(4):
        model(torch.ones(2, 4)).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    run.finish()
    assert run.id is not None
    assert [r["step"] for r in server.readings(run.id, group="second")] == [1, 2, 3, 4]
    steps = server.steps(run.id)
    assert len(steps) == 4 and steps[0]["lr"] is None
