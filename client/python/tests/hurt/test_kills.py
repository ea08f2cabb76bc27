"""SIGKILL at random instants of a training that goes on from its checkpoints: what was acknowledged is stored, once, and what
was on disk arrives with `gradwatch sync`. How many kills: GRADWATCH_KILLS."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server, binary
from programs import Job, Program

KILLS = int(os.environ.get("GRADWATCH_KILLS", "8"))

TRAIN = """
    import contextlib

    CHECKPOINT = os.environ["CHECKPOINT"]
    training = Training()
    step, checkpoint_id = 0, None
    with contextlib.suppress(FileNotFoundError):
        state = torch.load(CHECKPOINT, weights_only=True)
        training.model.load_state_dict(state["model"])
        training.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        step, checkpoint_id = state["step"], state["checkpoint_id"]

    def checkpoint():
        torch.save({
            "model": training.model.state_dict(),
            "optimizer": training.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "step": step,
            "checkpoint_id": run.checkpoint_id,
        }, CHECKPOINT + ".part")
        os.replace(CHECKPOINT + ".part", CHECKPOINT)

    run = training.begin(id=checkpoint_id, resume="allow")
    if checkpoint_id is None:
        checkpoint()
    last = int(os.environ["LAST"])
    while step < last:
        run.log({"loss": training.step(), "root": float(step + 1)})
        step += 1
        if step % 7 == 0:
            checkpoint()
        status = run.status() if WATCHED else {}
        # One line, one write: a line that is there is whole.
        os.write(1, f"{run.checkpoint_id} {status.get('settled')} {status.get('spooled')}\\n".encode())
    run.finish()
    training.save()
"""


def sync(spool: Path, server: Server) -> str:
    done = subprocess.run(
        [str(binary()), "sync", "--dir", str(spool), "--server", server.url], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("mode", ["online", "offline", "server_away"])
def test_kills(own_server: Callable[..., Server], tmp_path: Path, mode: str) -> None:
    spool = tmp_path / "spool"
    server = own_server()
    job = Job(server)
    env = job.env | {
        "GRADWATCH_SPOOL_DIR": str(spool),
        "GRADWATCH_MODE": "offline" if mode == "offline" else "online",
        "CHECKPOINT": str(tmp_path / "checkpoint"),
    }
    chance = random.Random(mode)
    # By attempt: the step that it goes on from, and how many frames of it were safe when it was killed.
    first: dict[str, int] = {}
    safe: dict[str, int] = defaultdict(int)

    def live(last: int, kill: bool) -> int:
        """One life of the process; gives the last step that it said."""
        program = Program(TRAIN, watched=True, env=env | {"LAST": str(last)})
        lines = [program.line()]
        if kill:
            time.sleep(chance.uniform(0.0, 0.5))
            program.send(signal.SIGKILL)
        ended = program.end()
        assert ended.code == (-signal.SIGKILL if kill else 0), ended.stderr
        assert ended.noise == ""
        for line in [*lines, *ended.stdout.splitlines()]:
            checkpoint_id, settled, spooled = line.split()
            attempt, step = checkpoint_id.split("/")[1].split("@")
            first.setdefault(attempt, int(step) - 1)
            safe[attempt] = max(safe[attempt], int(settled) + int(spooled))
        return int(step)

    for life in range(KILLS):
        if mode == "server_away" and life % 2 == 0:
            server.kill()
            live(1 << 40, kill=True)
            server.start()
        else:
            live(1 << 40, kill=True)
    reached = torch_step(env["CHECKPOINT"]) + 20
    assert live(reached, kill=False) == reached

    sync(spool, server)
    # Twice is harmless, and nothing is left.
    sync(spool, server)
    assert not list(spool.glob("*/*"))

    run = server.get(f"runs/{job.run_id}")
    assert run["state"] == "finished"
    assert (run["counters"]["dropped"], run["counters"]["rejected"]) == (0, 0)
    segments = server.items(f"runs/{job.run_id}/segments")
    stored = defaultdict(list)
    for step in server.steps(job.run_id, segment="all"):
        stored[step["segment"]].append(step["step"])
        assert step["scalars"]["root"] == step["step"]
    assert {segment["attempt_id"] for segment in segments} >= set(first)
    for segment in segments:
        attempt, steps = segment["attempt_id"], stored[segment["segment"]]
        if attempt in first:
            assert len(steps) >= safe[attempt]
        if steps:
            # Without a hole, each once.
            assert steps == list(range(steps[0], steps[0] + len(steps)))
            assert steps[0] == first.get(attempt, steps[0] - 1) + 1
    # The line that lives is the training, but for the last steps before a kill, which were not handed over yet.
    assert job.steps[-20:] == list(range(reached - 19, reached + 1))
    assert sorted(set(job.steps)) == job.steps
    assert not [line for line in server.log if '"level":"ERROR"' in line]


def torch_step(path: str) -> int:
    import torch

    return int(torch.load(path, weights_only=True)["step"]) if Path(path).exists() else 0
