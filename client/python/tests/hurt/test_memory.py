"""Memory: tensors whose storage is gone, models that their program lets go of, panics of native code."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import Any

import gradwatch
import pytest
import torch
from conftest import Server
from gradwatch import _native, _sketching
from programs import Job, compare
from torch import nn


def test_a_parameter_whose_memory_was_taken_away_costs_rows(server: Server) -> None:
    """As code does that offloads or shards by hand. The address of such a tensor is one of nothing."""
    source = """
        training = Training()
        first = training.model[0].weight
        flat = torch.cat([torch.zeros(100), first.detach().reshape(-1)])
        first.data = flat[100:].view(first.shape)
        run = training.begin()
        training.train(run, 3)
        kept = flat.clone()
        for parameter in training.model.parameters():
            parameter.grad = None
        for left in (0, 4 * 200):
            flat.untyped_storage().resize_(left)
            training.optimizer.step()
        flat.untyped_storage().resize_(4 * kept.numel())
        flat.copy_(kept)
        training.train(run, 3)
        run.finish()
        training.save()
    """
    job = Job(server)
    ended = compare(source, env=job.env)
    assert "0.weight: its memory was taken away" in "".join(ended.said)
    assert job.ends() == "finished"
    rows = [reading["step"] for reading in server.readings(job.run_id)]
    assert rows == [1, 2, 3, 6, 7, 8]


def test_a_model_goes_when_its_program_lets_go_of_it() -> None:
    """At once, without the garbage collector, also when the run is still open: the next model may need the memory."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    run = gradwatch.init("hurt", "let go", mode="offline", strict=True)
    run.watch(model, optimizer, every=1, dim=64)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()
            run.log({"loss": 1.0})
        of = [weakref.ref(it) for it in (model, optimizer, model[0].weight)]
        del model, optimizer
        assert [it() for it in of] == [None, None, None]
    finally:
        gc.enable()
    run.finish()


def panic(*_: Any) -> Any:
    return _native.Sketches(64, 0, 1 << 57, [])


def test_a_panic_does_not_reach_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyO3 makes it an exception that is no `Exception`."""
    with pytest.raises(BaseException) as raised:
        panic()
    assert not isinstance(raised.value, Exception)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = gradwatch.init("hurt", "panic", mode="offline")
    run.watch(model, optimizer, every=1, dim=64)
    with warnings.catch_warnings(record=True):
        with monkeypatch.context() as patched:
            patched.setattr(_sketching.Sketching, "take", panic)
            optimizer.step()
            optimizer.step()
            gradwatch.init("hurt", "panic", mode="offline").watch(model, optimizer)
            patched.setattr(gradwatch.Run, "_frame_of", panic)
            run.log({"loss": 1.0})
        assert run.status()["failures"] >= 3
        optimizer.step()
    assert run.status()["step"] == 3
    run.finish()


def test_spectra_do_not_hold_up_the_end_of_a_process(server: Server) -> None:
    """A run that nobody finished says at the end what it has, without waiting for what is being computed."""
    source = """
        import threading, time
        class Slow:
            def is_computing(self): return True
            def ready(self): return False
            def wait(self): print("waited")

        training = Training()
        run = training.begin()
        training.step()
        if WATCHED:
            for frame in run._timeline.open:
                slow = Slow()
                frame.snapshots, frame.pending = [slow], [*frame.pending, slow]
        training.save()
    """
    job = Job(server)
    ended = compare(source, env=job.env)
    assert "take too long are left out" in "".join(ended.said)
    assert ended.stdout == ""
    assert job.ends() == "finished"
    assert job.steps == [1]
