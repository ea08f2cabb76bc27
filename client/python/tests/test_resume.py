"""A run that goes on from a checkpoint, and the words of its end."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import gradwatch
import pytest
import torch
from conftest import Server
from jobs import Transformer, adamw, batch
from torch import nn


class Preemptible:
    """A job that keeps checkpoints as people do."""

    def __init__(self, server: Server, checkpoint: dict[str, Any] | None, every: int | str = 1) -> None:
        torch.manual_seed(0)
        self.model = Transformer(dropout=0.0)
        self.optimizer = adamw(self.model)
        self.data = torch.Generator().manual_seed(1)
        if checkpoint is not None:
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.data.set_state(checkpoint["data"])
        self.run = gradwatch.init(
            project="resume",
            name="n",
            server=server.url,
            id=checkpoint["gradwatch"] if checkpoint is not None else None,
            resume="allow",
            strict=True,
        )
        self.run.watch(self.model, self.optimizer, every=every, windows=[3], encoding="f32")

    def train(self, steps: int) -> None:
        for _ in range(steps):
            tokens, target = batch(self.data)
            loss = nn.functional.cross_entropy(self.model(tokens), target)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.run.log({"loss": loss})

    def checkpoint(self) -> dict[str, Any]:
        return {
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "optimizer": {**self.optimizer.state_dict(), "state": {k: {n: t.clone() for n, t in s.items()} for k, s in self.optimizer.state_dict()["state"].items()}},
            "data": self.data.get_state(),
            "gradwatch": self.run.checkpoint_id,
        }  # fmt: skip


@pytest.mark.parametrize("lost", [0, 7])
def test_a_run_goes_on_in_a_new_segment(server: Server, lost: int) -> None:
    """`lost` steps were made behind the checkpoint: they stay, and are no longer part of the line."""
    whole = Preemptible(server, None)
    whole.train(30)
    whole.run.finish()
    first = Preemptible(server, None)
    first.train(10)
    kept = first.checkpoint()
    first.train(lost)
    first.run.finish("preempted")
    second = Preemptible(server, kept)
    assert second.run.id == first.run.id
    assert second.run.checkpoint_id is not None and second.run.checkpoint_id != kept["gradwatch"]
    assert second.run.checkpoint_id.endswith("@10")
    second.train(20)
    second.run.finish()
    segments = server.items(f"runs/{first.run.id}/segments")
    assert [s["last_step"] for s in segments] == [10 + lost, 30]
    assert segments[1]["resumes"]["step"] == 10
    assert segments[1]["resumes"]["attempt_id"] == segments[0]["attempt_id"]
    readings, expected = (server.readings(it.run.id or "") for it in (first, whole))
    assert [r["step"] for r in readings] == list(range(1, 31))
    # The base of the first update is the checkpoint, so that each is what it would have been without an interruption.
    assert [r["update_norm"] for r in readings] == [r["update_norm"] for r in expected]
    assert [s["scalars"] for s in server.steps(first.run.id or "")] == [s["scalars"] for s in server.steps(whole.run.id or "")]
    assert server.get(f"runs/{first.run.id}")["state"] == "finished"


def test_a_run_is_begun_where_there_is_no_checkpoint_yet(server: Server) -> None:
    job = Preemptible(server, None)
    job.train(2)
    job.run.finish()
    assert len(server.items(f"runs/{job.run.id}/segments")) == 1


def test_an_id_of_ones_own_begins_a_run_under_it(server: Server) -> None:
    own = str(uuid.uuid4())
    run = gradwatch.init(project="resume", name="n", server=server.url, id=own, strict=True)
    assert run.id == own and run.checkpoint_id is None
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer, every=1)
    optimizer.step()
    run.finish()
    assert [s["step"] for s in server.steps(own)] == [1]


@pytest.mark.parametrize("text", ["", "x", "a/b@1", f"{uuid.uuid4()}/{uuid.uuid4()}", f"{uuid.uuid4()}/{uuid.uuid4()}@-1", 3])
def test_an_id_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="id: "):
        gradwatch.init(project="p", name="n", id=text, resume="allow", strict=True)  # type: ignore[arg-type]


def test_a_checkpoint_is_gone_on_with_only_when_that_is_said() -> None:
    with pytest.raises(ValueError, match='resume="allow"'):
        gradwatch.init(project="p", name="n", id=f"{uuid.uuid4()}/{uuid.uuid4()}@5", strict=True)


def test_the_interval_that_fits_the_budget_is_a_new_segment(server: Server) -> None:
    job = Preemptible(server, None, every="auto")
    job.train(75)
    checkpoint = job.run.checkpoint_id
    job.run.finish()
    segments = server.items(f"runs/{job.run.id}/segments")
    assert segments[0]["spec"]["update_interval"] == 10
    # What it is depends on the machine; a choice of 10 changes nothing.
    every = segments[-1]["spec"]["update_interval"]
    assert [s["resumes"]["step"] for s in segments[1:]] == ([] if every == 10 else [50])
    assert checkpoint == f"{job.run.id}/{segments[-1]['attempt_id']}@75"
    readings = server.readings(job.run.id or "")
    assert [r["step"] for r in readings] == [10, 20, 30, 40, 50, *range(50 + every, 76, every)]
    losses = [s["scalars"].get("loss") for s in server.steps(job.run.id or "")]
    assert len(losses) == 75 and all(losses)


def test_the_end_is_said_in_a_line_of_the_log(server: Server, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level(logging.INFO, logger="gradwatch")
    job = Preemptible(server, None)
    job.train(3)
    job.run.finish()
    job.run.finish()
    [record] = [r for r in caplog.records if r.name == "gradwatch"]
    assert record.levelno == logging.INFO and "3 of 3 frames settled" in record.getMessage()
    assert capsys.readouterr() == ("", "")
    assert job.run.status()["settled"] == 3


def test_what_was_not_delivered_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    run = gradwatch.init(project="p", name="n", server="http://127.0.0.1:9", close_timeout=0.2, strict=True)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer, every=1)
    optimizer.step()
    run.finish()
    [record] = [r for r in caplog.records if r.name == "gradwatch"]
    assert record.levelno == logging.WARNING and "gradwatch sync" in record.getMessage()


@pytest.mark.parametrize("outcome", ["failed", "finished"])
def test_an_exception_that_leaves_the_run_fails_it(server: Server, outcome: str) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def job() -> gradwatch.Run:
        with gradwatch.init(project="p", name="n", server=server.url, strict=True) as run:
            run.watch(model, optimizer, every=1)
            optimizer.step()
            ended.append(run)
            if outcome == "failed":
                raise ZeroDivisionError
        return run

    ended: list[gradwatch.Run] = []
    if outcome == "failed":
        with pytest.raises(ZeroDivisionError):
            job()
    else:
        job()
    assert server.get(f"runs/{ended[0].id}")["state"] == outcome


def test_a_job_that_starts_again_without_a_checkpoint_takes_its_runs_place(own_server: Callable[..., Server]) -> None:
    server = own_server()
    own = str(uuid.uuid4())
    for steps in (5, 3):
        run = gradwatch.init(project="resume", name="n", server=server.url, id=own, resume="allow", strict=True)
        assert run.id == own
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run.watch(model, optimizer, every=1)
        for _ in range(steps):
            optimizer.step()
        run.finish("preempted")
    segments = server.items(f"runs/{own}/segments")
    assert [s["last_step"] for s in segments] == [5, 3]
    assert [s["step"] for s in server.steps(own)] == [1, 2, 3]


def test_a_checkpoint_made_behind_the_end_names_the_last_attempt(server: Server) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = gradwatch.init(project="resume", name="behind", server=server.url, strict=True)
    run.watch(model, optimizer, every=1)
    first = run.checkpoint_id
    optimizer.step()
    model[0].requires_grad_(True)
    optimizer.step()
    optimizer.step()
    before = run.checkpoint_id
    run.finish()
    assert first is not None and before is not None
    assert before.partition("@")[0] != first.partition("@")[0]
    assert run.checkpoint_id == before
