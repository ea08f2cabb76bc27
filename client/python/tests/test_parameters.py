"""Which parameters are watched, under which names, and how they are read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gradwatch
import numpy as np
import pytest
import torch
from conftest import Server
from gradwatch._parameters import collect, named_parameters
from jobs import Transformer
from reference import sketch
from torch import nn

D = 256


def start(server: Server, **settings: Any) -> gradwatch.Run:
    return gradwatch.init(project="parameters", name="n", server=server.url, **{"strict": True, **settings})


def groups_of(server: Server, run: gradwatch.Run) -> dict[str, list[tuple[str, int]]]:
    items = server.items(f"runs/{run.id}/groups")
    return {it["group"]: [(t["name"], t["elements"]) for t in it["tensors"]] for it in items}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)


def moved(server: Server, model: nn.Module, steps: int = 1, **watching: Any) -> tuple[gradwatch.Run, list[Any]]:
    """Watches a model whose every parameter gets a gradient of ones."""
    run = start(server)
    optimizer = sgd(model)
    run.watch(model, optimizer, every=1, dim=D, encoding="f32", **watching)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.ones_like(p) if p.requires_grad else None
        optimizer.step()
    run.finish()
    assert run.id is not None
    return run, server.readings(run.id, group="all")


@pytest.mark.parametrize("wrap", ["compile", "parallel", "both"])
def test_wrappers_leave_no_trace_in_names(wrap: str) -> None:
    model = Transformer(layers=2)
    plain = [name for name, _ in model.named_parameters()]
    wrapped: nn.Module = model
    if wrap == "both":
        # One block alone, as people do for activation checkpoints.
        model.blocks[0] = torch.compile(model.blocks[0])
    if wrap != "parallel":
        wrapped = torch.compile(wrapped)
    if wrap != "compile":
        wrapped = nn.DataParallel(wrapped)
    names: dict[int, str] = {}
    for name, tensor in named_parameters(wrapped):
        names.setdefault(id(tensor), name)
    assert list(names.values()) == plain


def test_a_submodule_that_is_called_module_keeps_its_name() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    assert [name for name, _ in named_parameters(Own())] == ["module.weight", "module.bias"]


def test_tied_parameters_are_one_and_are_found_by_every_name(server: Server) -> None:
    model = Transformer()
    run = start(server)
    run.watch(model, sgd(model), groups={"head": "head.*", "embedding": "embed.*", "all": "*"})
    run.finish()
    groups = groups_of(server, run)
    assert groups["head"] == groups["embedding"] == [("embed.weight", model.embed.weight.numel())]
    assert [name for name, _ in groups["all"]] == [name for name, _ in model.named_parameters()]


def test_frozen_parameters_are_left_out(server: Server) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1)
    run = start(server)
    run.watch(model, optimizer)
    run.finish()
    assert groups_of(server, run) == {"all": [("1.weight", 9), ("1.bias", 3)]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_element_type_is_read(server: Server, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 7)).to(dtype)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    _, [reading] = moved(server, model)
    rows = {name: (p.detach().double() - before[name].double()).numpy() for name, p in model.named_parameters()}
    assert reading["update_norm"] == pytest.approx(np.linalg.norm(sketch(rows, D, 0)), rel=1e-6)


def test_parameters_of_complex_numbers_are_pairs_of_real_ones(server: Server) -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5, 3, dtype=torch.complex64))

    run, [reading] = moved(server, Complex())
    assert groups_of(server, run) == {"all": [("weight", 30)]}
    rows = {"weight": np.tile([-0.1, 0.0], 15)}
    assert reading["update_norm"] == pytest.approx(np.linalg.norm(sketch(rows, D, 0)), rel=1e-6)


def test_the_order_in_memory_is_no_matter(server: Server) -> None:
    torch.manual_seed(3)
    model = nn.Conv2d(8, 6, 3)
    before = model.weight.detach().clone()
    model = model.to(memory_format=torch.channels_last)
    assert not model.weight.is_contiguous()
    _, [reading] = moved(server, model)
    rows = {"weight": np.full(before.numel(), -0.1), "bias": np.full(6, -0.1)}
    assert reading["update_norm"] == pytest.approx(np.linalg.norm(sketch(rows, D, 0)), rel=1e-5)


def test_parameters_may_get_other_storage(server: Server) -> None:
    model = nn.Linear(8, 8)
    run = start(server)
    optimizer = sgd(model)
    run.watch(model, optimizer, every=1, dim=D, encoding="f32")
    for step in range(3):
        for p in model.parameters():
            p.data = p.data.clone()
            p.grad = torch.ones_like(p)
        optimizer.step()
    run.finish()
    assert run.id is not None
    rows = {"weight": np.full(64, -0.1), "bias": np.full(8, -0.1)}
    norm = pytest.approx(np.linalg.norm(sketch(rows, D, 0)), rel=1e-5)
    assert [r["update_norm"] for r in server.readings(run.id)] == [norm] * 3


def test_what_is_loaded_before_the_first_step_is_no_update(server: Server) -> None:
    model = nn.Linear(8, 8)
    run = start(server)
    optimizer = sgd(model)
    run.watch(model, optimizer, every=1, dim=D, encoding="f32")
    model.load_state_dict({"weight": torch.full((8, 8), 100.0), "bias": torch.zeros(8)})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    run.finish()
    assert run.id is not None
    [reading] = server.readings(run.id)
    assert reading["update_norm"] < 2.0


def test_what_cannot_be_sketched_is_left_out_and_said(server: Server) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good = nn.Parameter(torch.zeros(4))
            self.meta = nn.Parameter(torch.zeros(4, device="meta"))
            self.lazy = nn.UninitializedParameter()
            self.sparse = nn.Parameter(torch.eye(3).to_sparse())
            self.small = nn.Parameter(torch.zeros(4).to(torch.float8_e4m3fn))
            self.none = nn.Parameter(torch.zeros(0))

    model = Odd()
    optimizer = torch.optim.SGD(list(model.parameters()), lr=0.1)
    run = start(server)
    with pytest.warns(gradwatch.GradwatchWarning) as said:
        run.watch(model, optimizer, groups={"all": "*", "typo": "*.atn.*"})
    run.finish()
    words = " ".join(str(it.message) for it in said)
    for part in ("meta: left out", "lazy: left out", "sparse: left out", "small: left out", "'typo' has no parameter"):
        assert part in words
    assert groups_of(server, run) == {"all": [("good", 4)]}
    assert [p.name for p in collect(model, [optimizer]).watched] == ["good"]


def test_rates_are_read_from_the_param_groups(server: Server) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "lr": 0.5}, {"params": model[1].parameters(), "lr": torch.tensor(0.25)}],
        weight_decay=0.125,
    )
    run = start(server)
    run.watch(model, optimizer, groups={"first": "0.*", "second": "1.*", "all": "*"}, every=1, windows=[3], encoding="f32")
    for _ in range(6):
        model(torch.randn(4, 30)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    run.finish()
    assert run.id is not None
    steps = server.steps(run.id)
    # Groups have learning rates of their own, the step none; the reading "adiabatic" is "instability" over the learning rate.
    assert [(s["lr"], s["weight_decay"]) for s in steps] == [(None, 0.125)] * 6
    for group, rate in (("first", 0.5), ("second", 0.25)):
        reading = server.readings(run.id, group=group)[-1]
        assert reading["instability"] / reading["adiabatic"] == pytest.approx(rate, rel=1e-6)
    assert server.readings(run.id, group="all")[-1]["adiabatic"] is None


def test_the_schedule_of_the_learning_rate_is_seen(server: Server) -> None:
    model = nn.Linear(3, 3)
    one = start(server)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    one.watch(model, optimizer, every=1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    one.finish()
    assert one.id is not None
    assert [s["lr"] for s in server.steps(one.id)] == [0.5, 0.25, 0.125]


def test_a_hook_that_finds_nothing_to_do_takes_microseconds_of_nothing(tmp_path: Path) -> None:
    """No clock: what it calls is counted."""
    import sys

    model = nn.Linear(2, 2)
    optimizer = sgd(model)
    run = gradwatch.init(project="p", name="n", mode="offline", spool_dir=tmp_path, strict=True)
    run.watch(model, optimizer, every=1000)
    optimizer.step()
    calls: list[str] = []
    watch = run._watch()
    assert watch is not None

    def count(frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            calls.append(event)

    sys.setprofile(count)
    try:
        watch._after_step(optimizer, (), {})
    finally:
        sys.setprofile(None)
    # The hook itself, and the end of the counting.
    assert len(calls) == 2
    assert run.status()["step"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.finish()


def test_parameters_that_come_later_are_watched_from_then_on(server: Server) -> None:
    """Unfrozen, added to the optimizer, added to the model: another attempt declares them."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = start(server)
    with pytest.warns(gradwatch.GradwatchWarning, match="'new' has no parameter"):
        run.watch(model, optimizer, groups={"all": "*", "new": "2.*"}, every=2, dim=D, encoding="f32")

    def train(steps: int) -> None:
        for _ in range(steps):
            for p in model.parameters():
                p.grad = torch.ones_like(p) if p.requires_grad else None
            optimizer.step()
            run.log({"a": 1.0})

    def norm(*layers: int) -> Any:
        rows = {f"{i}.weight": np.full(64, -0.2) for i in layers} | {f"{i}.bias": np.full(8, -0.2) for i in layers}
        return pytest.approx(np.linalg.norm(sketch(rows, D, 0)), rel=1e-5)

    run.log({"a": 1.0})
    train(4)
    model[0].requires_grad_(True)
    train(4)
    checkpoint = run.checkpoint_id
    model.append(nn.Linear(8, 8))
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.1})
    train(6)
    run.finish()
    assert run.id is not None and checkpoint is not None
    segments = server.items(f"runs/{run.id}/segments")
    assert [s["resumes"]["step"] for s in segments[1:]] == [6, 10]
    assert segments[1]["attempt_id"] in checkpoint
    assert [[t["name"] for t in s["spec"]["groups"][0]["tensors"]] for s in segments] == [
        ["1.weight", "1.bias"],
        ["0.weight", "0.bias", "1.weight", "1.bias"],
        ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"],
    ]
    readings = server.readings(run.id, group="all")
    assert [r["step"] for r in readings] == [2, 4, 6, 8, 10, 12, 14]
    assert [r["update_norm"] for r in readings] == [norm(1)] * 3 + [norm(0, 1)] * 2 + [norm(0, 1, 2)] * 2
    assert [r["step"] for r in server.readings(run.id, group="new")] == [12, 14]
    assert len(server.steps(run.id)) == 15


def test_parameters_that_take_the_place_of_others_are_watched(server: Server) -> None:
    """As many as before: what they replace does not move any more."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = start(server)
    run.watch(model, optimizer, every=1, dim=D, encoding="f32")

    def train(steps: int) -> None:
        for _ in range(steps):
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()

    train(2)
    model[1] = nn.Linear(8, 8)
    optimizer.param_groups[0]["params"][2:] = list(model[1].parameters())
    train(3)
    run.finish()
    assert run.id is not None
    whole = np.linalg.norm(sketch({f"{i}.{n}": np.full(k, -0.1) for i in (0, 1) for n, k in (("weight", 64), ("bias", 8))}, D, 0))
    norms = {r["step"]: r["update_norm"] for r in server.readings(run.id, group="all")}
    # The step that the change is seen at is that of what went before.
    assert [norms[step] for step in (1, 2, 4, 5)] == [pytest.approx(whole, rel=1e-5)] * 4


def test_modules_that_share_modules_have_some_of_their_names() -> None:
    """With two ways to the next at each of 40 levels there are 2^40 names."""

    class Twice(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.a, self.b = inner, inner

    model: nn.Module = nn.Linear(2, 2)
    for _ in range(40):
        model = Twice(model)
    [weight, bias] = collect(model, [sgd(model)]).watched
    assert weight.name == next(iter(dict(model.named_parameters()))) == "a." * 40 + "weight"
    assert 1 <= len(weight.aliases) < 100
