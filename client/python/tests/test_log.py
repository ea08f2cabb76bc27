"""What `log`, `happened`, `phase` and `flush` say of which step."""

from __future__ import annotations

import threading
from typing import Any

import gradwatch
import numpy as np
import pytest
import torch
from conftest import Server
from fake_world import each_rank, mesh
from gradwatch._values import number
from torch import nn
from torch.distributed.tensor import DTensor, Partial, Replicate


class Job:
    """A watched layer that is trained step by step."""

    def __init__(self, server: Server, every: int = 10, **settings: Any) -> None:
        self.server = server
        self.run = gradwatch.init(project="log", name="n", server=server.url, **{"strict": True, **settings})
        self.model = nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.every = every

    def watch(self) -> Job:
        self.run.watch(self.model, self.optimizer, every=self.every, windows=[3])
        return self

    def step(self) -> None:
        self.model(torch.ones(1, 4)).square().sum().backward()
        self.optimizer.step()

    def recorded(self) -> dict[int, dict[str, float]]:
        self.run.finish()
        assert self.run.id is not None
        return {s["step"]: s["scalars"] for s in self.server.steps(self.run.id)}


def test_without_a_step_it_is_the_last_one_that_was_made(server: Server) -> None:
    job = Job(server).watch()
    job.run.log({"before": 1})
    for i in range(3):
        job.step()
        job.run.log({"loss": i})
        job.run.log({"more": -i})
    assert job.recorded() == {
        0: {"before": 1.0}, 1: {"loss": 0.0, "more": 0.0}, 2: {"loss": 1.0, "more": -1.0}, 3: {"loss": 2.0, "more": -2.0}
    }  # fmt: skip


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize("every", [1, 2, 10])
def test_counts_from_0_and_from_1_lose_nothing(server: Server, first: int, order: str, every: int) -> None:
    job = Job(server, every).watch()
    for i in range(first, first + 8):
        if order == "before":
            job.run.log({"loss": i}, step=i)
        job.step()
        if order == "behind":
            job.run.log({"loss": i}, step=i)
    recorded = job.recorded()
    assert {step: scalars["loss"] for step, scalars in recorded.items() if scalars} == {i: i for i in range(first, first + 8)}
    assert job.run.status()["failures"] == 0
    assert job.run.id is not None
    assert [r["step"] for r in server.readings(job.run.id)] == list(range(every, 9, every))


def test_a_step_that_is_over_is_left_out_and_said_once(server: Server) -> None:
    job = Job(server, strict=False).watch()
    for _ in range(5):
        job.step()
        job.run.log({"loss": 1.0})
    with pytest.warns(gradwatch.GradwatchWarning, match="step 2 is over") as said:
        job.run.log({"late": 1.0}, step=2)
        job.run.log({"late": 1.0}, step=1)
    assert len(said) == 1
    assert job.run.status()["failures"] == 2
    assert all("late" not in scalars for scalars in job.recorded().values())


def test_a_count_that_runs_ahead_is_taken_for_the_present_step(server: Server) -> None:
    """As of micro-batches, several of which make a step."""
    job = Job(server, every=1, strict=False).watch()
    with pytest.warns(gradwatch.GradwatchWarning, match="runs ahead") as said:
        for i in range(4):
            job.step()
            job.run.log({"loss": i}, step=8 * (i + 1))
    assert len(said) == 1
    assert {step: s["loss"] for step, s in job.recorded().items()} == {1: 0.0, 2: 1.0, 3: 2.0, 4: 3.0}


def test_what_was_logged_before_watch_is_kept(server: Server) -> None:
    job = Job(server)
    job.run.log({"a": 1.0})
    job.run.happened("loaded")
    job.watch()
    job.step()
    assert job.recorded()[0] == {"a": 1.0}


def test_what_was_logged_before_watch_is_bounded(server: Server) -> None:
    job = Job(server, strict=False)
    for i in range(5000):
        job.run.log({"a": i})
    assert len(job.run._timeline.open) == 1
    assert job.watch().recorded()[0] == {"a": 4999.0}


def test_numbers_of_every_kind(server: Server) -> None:
    job = Job(server, strict=False).watch()
    job.step()
    with pytest.warns(gradwatch.GradwatchWarning) as said:
        job.run.log({
            "int": 3, "bool": True, "numpy": np.float32(0.5), "array": np.array([2.0]), "tensor": torch.tensor(1.5, requires_grad=True),
            "half": torch.tensor([0.25], dtype=torch.bfloat16), "nan": float("nan"), "text": "1.0", "none": None, "": 1.0,
            "many": torch.zeros(2), "x" * 300: 1.0, "line\n": 1.0, 3: 1.0, "huge": 10**400, "meta": torch.zeros((), device="meta"),
        })  # fmt: skip
    assert len(said) >= 5
    assert job.run.status()["failures"] == 9
    job.run.finish()
    assert job.run.id is not None
    [step] = [s for s in server.steps(job.run.id) if s["step"] == 1]
    assert step["scalars"] == {"int": 3, "bool": 1, "numpy": 0.5, "array": 2, "tensor": 1.5, "half": 0.25, "nan": None}
    assert step["nonfinite"] == {"nan": "NaN"}


def test_too_many_numbers_of_a_step_cost_the_last_ones(server: Server) -> None:
    job = Job(server, every=1, strict=False).watch()
    job.step()
    with pytest.warns(gradwatch.GradwatchWarning, match="more than 256"):
        job.run.log({f"n{i}": i for i in range(2000)})
    job.run.finish()
    assert job.run.status()["settled"] == 1
    assert job.run.id is not None
    assert [r["step"] for r in server.readings(job.run.id)] == [1]


def test_events_and_phases(server: Server) -> None:
    job = Job(server, every=1).watch()
    for i in range(8):
        if i == 5:
            job.run.phase += 1
        job.step()
        if i == 2:
            job.run.happened("solved")
    assert job.run.phase == 1
    job.run.finish()
    assert job.run.id is not None
    assert [s["phase"] for s in server.steps(job.run.id)] == [0] * 5 + [1] * 3
    assert [r["rows"] for r in server.readings(job.run.id)] == [1, 2, 3, 3, 3, 1, 2, 3]
    events = server.items(f"runs/{job.run.id}/events")
    assert [(e["step"]) for e in events if "solved" in str(e)] == [3]


def test_flush_hands_over_what_is_open(server: Server) -> None:
    job = Job(server).watch()
    job.step()
    job.run.log({"loss": 1.0})
    assert job.run.status()["submitted"] == 0
    job.run.flush()
    assert job.run.status()["submitted"] == 1
    job.run.log({"loss": 2.0})
    job.step()
    assert job.recorded() == {1: {"loss": 1.0}, 2: {"loss": 2.0}}


def test_threads_may_log(server: Server) -> None:
    job = Job(server, every=2).watch()
    done = threading.Event()

    def log(name: str) -> None:
        i = 0
        while not done.is_set():
            job.run.log({name: i})
            i += 1

    threads = [threading.Thread(target=log, args=(f"thread{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        job.step()
    done.set()
    for thread in threads:
        thread.join()
    recorded = job.recorded()
    assert job.run.status()["failures"] == 0
    assert {name for scalars in recorded.values() for name in scalars} == {f"thread{i}" for i in range(4)}
    assert job.run.id is not None
    assert [r["step"] for r in server.readings(job.run.id)] == list(range(2, 201, 2))


def test_a_flush_beside_a_step_does_not_cost_its_row(server: Server) -> None:
    """Another thread flushes while the hook waits for its turn."""
    job = Job(server, every=1).watch()
    lock, flushes = job.run._lock, []

    class Interrupted:
        def __enter__(self) -> bool:
            if threading.current_thread() is threading.main_thread() and not flushes:
                flushes.append(threading.Thread(target=lambda: (job.run.log({"loss": 1.0}), job.run.flush())))
                flushes[0].start()
                flushes[0].join()
            return lock.__enter__()

        def __exit__(self, *_: object) -> None:
            lock.release()

    for step in range(1, 9):
        flushes.clear()
        job.run._lock = Interrupted()  # type: ignore[assignment]
        job.optimizer.step()
        job.run._lock = lock
        assert flushes and job.run.status()["step"] == step
    job.run.finish()
    assert job.run.id is not None
    assert [r["step"] for r in server.readings(job.run.id)] == list(range(1, 9))


def test_a_number_that_no_process_has_is_not_asked_for() -> None:
    """That would be a collective, which the other processes may never come to."""

    def numbers(rank: int) -> tuple[Any, Any]:
        of = mesh(rank, dp=2)
        whole = DTensor.from_local(torch.tensor(2.0), of, [Replicate()])
        part = DTensor.from_local(torch.tensor(2.0), of, [Partial()])
        with pytest.raises(TypeError, match="full_tensor"):
            number(part)
        return number(whole), number(whole.to_local())

    assert each_rank(2, numbers) == [(2.0, 2.0)] * 2


def test_a_signal_handler_may_log_in_the_middle_of_it_all(server: Server) -> None:
    """Whatever it interrupts: it neither waits for what it interrupts, nor comes in between."""
    job = Job(server, every=1).watch()
    timeline, run = job.run._timeline, job.run
    submit = timeline._submit
    submitted: list[int] = []

    def handler() -> None:
        run.log({"signal": 1.0})
        run.happened("signal")
        run.flush()
        assert run.checkpoint_id is not None

    def interrupted(frame: Any) -> None:
        submitted.append(frame.step)
        handler()
        submit(frame)
        handler()

    timeline._submit = interrupted
    for _ in range(8):
        job.step()
        handler()
    job.run.finish()
    assert run.status()["failures"] == 0
    assert run.id is not None
    assert submitted == sorted(set(submitted))
    assert [r["step"] for r in server.readings(run.id)] == list(range(1, 9))
    assert len(server.items(f"runs/{run.id}/segments")) == 1


def test_an_optimizer_that_makes_no_step_is_said(server: Server) -> None:
    """One that was made anew behind `watch`, or a wrapper that calls another one's steps: there would be no readings."""
    job = Job(server).watch()
    other = torch.optim.SGD(job.model.parameters(), lr=0.1)
    other.step()
    with pytest.warns(gradwatch.GradwatchWarning, match="made no step"):
        job.run.finish()
