"""A small real training, with gradwatch (WATCHED=1) or without a trace of it (WATCHED=0): the scripts of these tests.

What it leaves behind, losses, weights and all that a program can notice of its process, goes to the file OUT: bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import threading
import warnings
from typing import Any

import numpy
import torch
from torch import nn
from torch.nn import functional

WATCHED = os.environ["WATCHED"] == "1"


class Nothing:
    """What a script has instead of a run where nothing is watched."""

    checkpoint_id = None
    id = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **named: None

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Training:
    """A network with dropout, so that its random numbers show, and AdamW."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        random.seed(seed)
        numpy.random.seed(seed)
        self.model = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.1), nn.ReLU(), nn.Linear(32, 4))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.losses: list[float] = []

    def init(self, **settings: Any) -> Any:
        """`gradwatch.init`, or nothing."""
        if not WATCHED:
            return Nothing()
        import gradwatch

        return gradwatch.init("hurt", os.environ.get("NAME", "run"), **settings)

    def watch(self, run: Any, **settings: Any) -> Any:
        """`run.watch`, of which every step is a row."""
        run.watch(self.model, self.optimizer, **{"every": 1, "windows": (3,), "dim": 256} | settings)
        return run

    def begin(self, **settings: Any) -> Any:
        """Both."""
        return self.watch(self.init(**settings))

    def step(self) -> float:
        """One step on made data."""
        inputs = torch.randn(8, 16)
        loss = functional.cross_entropy(self.model(inputs), inputs[:, :4].argmax(-1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        return self.losses[-1]

    def train(self, run: Any, steps: int = 20) -> None:
        """Steps, each with its loss logged."""
        for _ in range(steps):
            run.log({"loss": self.step()})

    def save(self) -> None:
        """Writes what is left behind."""
        state = {
            "losses": [loss.hex() for loss in self.losses],
            "weights": digest(*(value.detach().numpy().tobytes() for value in self.model.state_dict().values())),
            "optimizer": repr(self.optimizer.state_dict()),
            "random": [digest(torch.get_rng_state().numpy().tobytes()), random.random(), float(numpy.random.rand())],
            "process": process(),
        }
        temporary = os.environ["OUT"] + ".part"
        with open(temporary, "w") as file:
            json.dump(state, file)
        os.replace(temporary, os.environ["OUT"])


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def process() -> dict[str, Any]:
    """What a program can see of settings that are not ours to change."""
    return {
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "excepthook": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
        "filters": [str(entry[2]) for entry in warnings.filters if "radwatch" not in str(entry)],
        "threads": threading.active_count(),
        "directory": os.getcwd(),
        "environment": sorted(name for name in os.environ if name not in ("OUT", "WATCHED", "NAME")),
        "descriptor": sys.stdout.fileno(),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "torch_threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
    }
