"""The example of `examples/python`, for a few steps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import Server

EXAMPLE = Path(__file__).parents[3] / "examples" / "python" / "modular_addition.py"


def run(folder: Path, *arguments: str) -> tuple[list[str], dict[str, torch.Tensor]]:
    weights = folder / "weights.pt"
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--steps", "25", "--save", str(weights), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    # The last line is a time.
    return done.stdout.splitlines()[:-1], torch.load(weights, weights_only=True)


def test_the_example_is_the_same_with_and_without(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADWATCH_SERVER", server.url)
    plain, plain_weights = run(tmp_path)
    watched, watched_weights = run(tmp_path, "--watch")
    assert watched == plain
    assert all(torch.equal(watched_weights[name], plain_weights[name]) for name in plain_weights)
    (recorded,) = server.items("runs", project="examples")
    assert recorded["state"] == "finished"
    assert recorded["config"]["modulus"] == 43
    steps = {step["step"]: step["scalars"] for step in server.steps(recorded["run_id"])}
    assert list(steps) == list(range(1, 26))
    assert [step for step in steps if "test_accuracy" in steps[step]] == [10, 20, 25]
    for group in ("attention", "mlp", "all"):
        assert len(server.readings(recorded["run_id"], group=group)) == 25
