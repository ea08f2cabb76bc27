"""No call of ours raises, whatever it is given: it is counted, said once, and training goes on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradwatch
import pytest
import torch
from conftest import Server
from gradwatch._values import json_value
from torch import nn


class Hostile:
    """Raises whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


GARBAGE: list[Any] = [None, 0, -1, 3.5, "x", b"x", [], {}, object(), Hostile(), float("nan"), 1 << 70, "\0", [None], {"a": None}]


def job() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.fixture(params=["new", "watching", "finished", "disabled"])
def run(request: pytest.FixtureRequest, server: Server) -> gradwatch.Run:
    mode = "disabled" if request.param == "disabled" else None
    run = gradwatch.init(project="guard", name="n", server=server.url, mode=mode)
    if request.param in ("watching", "finished"):
        run.watch(*job(), every=1)
    if request.param == "finished":
        run.finish()
    return run


CALLS: dict[str, Callable[[gradwatch.Run, Any], object]] = {
    "log": lambda run, it: run.log(it),
    "log step": lambda run, it: run.log({"a": 1.0}, step=it),
    "log value": lambda run, it: run.log({"a": it}),
    "happened": lambda run, it: run.happened(it),
    "phase": lambda run, it: setattr(run, "phase", it),
    "watch model": lambda run, it: run.watch(it, job()[1]),
    "watch optimizer": lambda run, it: run.watch(job()[0], it),
    "watch optimizers": lambda run, it: run.watch(job()[0], [it]),
    "watch groups": lambda run, it: run.watch(*job(), groups=it),
    "watch globs": lambda run, it: run.watch(*job(), groups={"all": it}),
    "watch every": lambda run, it: run.watch(*job(), every=it),
    "watch budget": lambda run, it: run.watch(*job(), every="auto", budget=it),
    "watch instruments": lambda run, it: run.watch(*job(), instruments=it),
    "watch instrument": lambda run, it: run.watch(*job(), instruments=[it]),
    "watch windows": lambda run, it: run.watch(*job(), windows=it),
    "watch dim": lambda run, it: run.watch(*job(), dim=it),
    "watch seed": lambda run, it: run.watch(*job(), seed=it),
    "watch encoding": lambda run, it: run.watch(*job(), encoding=it),
    "flush": lambda run, it: run.flush(),
    "finish": lambda run, it: run.finish(it),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore::gradwatch.GradwatchWarning")
def test_garbage_never_raises(run: gradwatch.Run, call: str) -> None:
    for garbage in GARBAGE:
        assert CALLS[call](run, garbage) is None
    assert isinstance(run.status(), dict)
    assert run.id is None or isinstance(run.id, str)
    assert run.checkpoint_id is None or isinstance(run.checkpoint_id, str)
    run.finish()


@pytest.mark.parametrize(
    "argument", ["project", "name", "config", "labels", "id", "resume", "server", "token", "mode", "spool_dir", "buffer_bytes", "close_timeout"]
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::gradwatch.GradwatchWarning")
def test_garbage_in_init_never_raises(server: Server, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Relative folders are somebody's mistake, too.
    monkeypatch.chdir(tmp_path)
    for garbage in GARBAGE:
        model, optimizer = job()
        arguments = {"project": "guard", "name": "n", "server": server.url, "close_timeout": 0.1, argument: garbage}
        run = gradwatch.init(**arguments)
        run.watch(model, optimizer, every=1)
        optimizer.step()
        run.log({"loss": 1.0})
        run.finish()


def test_failures_are_counted_and_said_once_each(server: Server) -> None:
    run = gradwatch.init(project="guard", name="n", server=server.url)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            run.watch(*job(), every=0)
            run.happened("Not a name")
    assert run.status()["failures"] == 6
    assert [it.category for it in said] == [gradwatch.GradwatchWarning] * 2
    assert "every: 0" in str(said[0].message) and "Not a name" in str(said[1].message)


def test_warnings_made_errors_do_not_reach_training(server: Server) -> None:
    run = gradwatch.init(project="guard", name="n", server=server.url)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.watch(*job(), every=0)
        run.log({"a": "text"})
        run.finish("nonsense")
    assert run.status()["failures"] == 3


def test_strict_runs_raise(server: Server) -> None:
    run = gradwatch.init(project="guard", name="n", server=server.url, strict=True)
    with pytest.raises(ValueError, match="every"):
        run.watch(*job(), every=0)
    with pytest.raises(ValueError, match="no number"):
        run.log({"a": "text"})


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_the_users_passes(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    run = gradwatch.init(project="guard", name="n", mode="disabled")

    class Scalars(dict[str, float]):
        def items(self) -> Any:
            raise error

    run._finished = False
    with pytest.raises(error):
        run.log(Scalars())


def test_a_hook_that_fails_costs_its_row_and_nothing_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    run = gradwatch.init(project="guard", name="n", server=server.url)
    model, optimizer = job()
    run.watch(model, optimizer, every=1, windows=[3])
    watch = run._watch()
    assert watch is not None and watch._sketching is not None
    take = watch._sketching.take
    steps = []

    def failing() -> Any:
        steps.append(run._timeline.step)
        if run._timeline.step == 4:
            raise OSError("broken")
        return take()

    monkeypatch.setattr(watch._sketching, "take", failing)
    with pytest.warns(gradwatch.GradwatchWarning, match="broken"):
        for _ in range(8):
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            optimizer.step()
    run.finish()
    assert run.status()["failures"] == 1
    assert run.id is not None
    readings = server.readings(run.id)
    assert [r["step"] for r in readings] == [1, 2, 3, 5, 6, 7, 8]


def test_a_snapshot_that_is_too_large_costs_itself(server: Server) -> None:
    from gradwatch import _native

    class Large:
        layer, instrument, every = "w", "cascade", 1

        def declare(self, model: nn.Module) -> tuple[str, str, int, str, int]:
            return (self.layer, self.instrument, 0, "", self.every)

        def snapshot(self, step: int) -> _native.Snapshot:
            gradient = torch.ones(1 << 22)
            return _native.Snapshot.cascade("w", [(gradient.data_ptr(), gradient.numel())])

        def detach(self) -> None:
            pass

    run = gradwatch.init(project="guard", name="n", server=server.url, buffer_bytes=4 << 20)
    model, optimizer = job()
    run.watch(model, optimizer, every=1, instruments=[Large()])
    with pytest.warns(gradwatch.GradwatchWarning, match="submit"):
        optimizer.step()
        run.finish()
    assert run.id is not None
    assert [s["step"] for s in server.steps(run.id)] == [1]


def test_a_config_of_any_kind_is_made_json() -> None:
    class Own:
        def __str__(self) -> str:
            return "own\0"

    circular: dict[str, Any] = {}
    circular["self"] = circular
    made = json_value({
        "a": 1, 2: (3.0, float("nan"), -float("inf")), "own": Own(), "set": {1}, "path": Path("/x"), "none": None, "c": circular, "\0k": "v\0", "file": "\udcff",
    })  # fmt: skip
    text = json.dumps(made, allow_nan=False)
    assert "\\u0000" not in text
    assert made["2"] == [3.0, "nan", "-inf"] and made["own"] == "own" and made["path"] == "/x" and made["k"] == "v"
    assert made["file"] == "?"
