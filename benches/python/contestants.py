"""Those that watch the same training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradwatch
import torch
import wandb
from model import VOCABULARY, Transformer, train_step
from torch import nn


class Contestant:
    """A model with an optimizer, and who watches it: by itself nobody. Each has its own copies, so that nothing has to be
    attached and detached while the others train."""

    name = "nothing"
    every: int | None = None

    def __init__(self, seed: int, batch: int, length: int, shape: tuple[int, int, int]) -> None:
        torch.manual_seed(seed)
        layers, width, heads = shape
        self.model: nn.Module = Transformer(layers, width, heads, length)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.words = torch.Generator().manual_seed(seed)
        self.batch = (batch, length + 1)

    def log(self, loss: float) -> None:
        """The loss of each step is told to who watches."""

    def step(self) -> tuple[float, float]:
        """Trains one step, with what the user's loop does besides. Gives seconds and the loss."""
        words = torch.randint(VOCABULARY, self.batch, generator=self.words)
        start = time.perf_counter()
        loss = train_step(self.model, self.optimizer, words)
        self.log(loss)
        return time.perf_counter() - start, loss

    def finish(self, steps: int) -> dict[str, Any]:
        """Ends it, and makes sure that it has watched."""
        return {}


class Gradwatch(Contestant):
    """Sketches of the updates, to the spool on disk or to a server."""

    def __init__(self, every: int, settings: dict[str, Any], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.name, self.every = f"gradwatch every={every}", every
        self.run = gradwatch.init(project="bench", name=self.name, strict=True, **settings)
        self.run.watch(self.model, self.optimizer, groups={"attention": "*.attn.*", "all": "*"}, every=every)

    def log(self, loss: float) -> None:
        self.run.log({"loss": loss})

    def finish(self, steps: int) -> dict[str, Any]:
        self.run.finish()
        status = self.run.status()
        # The loss of a step without a row is a frame too.
        lost = sum(status[key] for key in ("failures", "dropped", "rejected", "undelivered"))
        if lost or status["submitted"] != steps:
            raise RuntimeError(f"{self.name} did not watch {steps} steps: {status}")
        return status


class Wandb(Contestant):
    """Histograms of the gradients, to a file."""

    def __init__(self, every: int, folder: Path, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.name, self.every = f"wandb.watch log_freq={every}", every
        if wandb.run is None:
            # What it measures of the machine is left out: only watching is compared.
            settings = wandb.Settings(mode="offline", console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
            wandb.init(project="bench", dir=str(folder), settings=settings)
        wandb.watch(self.model, log="gradients", log_freq=every)
        self.folder = folder

    def log(self, loss: float) -> None:
        # It watches during the backward pass, and keeps nothing without this.
        wandb.log({"loss": loss})

    def finish(self, steps: int) -> dict[str, Any]:
        if wandb.run is not None:
            wandb.finish()
        # Both write one file. A histogram has 64 bins: several hundred bytes for each tensor.
        written = sum(path.stat().st_size for path in self.folder.rglob("*.wandb"))
        tensors = sum(1 for _ in self.model.parameters())
        if self.every is None or written < 500 * tensors * steps / self.every:
            raise RuntimeError(f"{self.name} did not watch {steps} steps: it wrote {written} bytes")
        return {"written_bytes_of_all": written}


def contestants(folder: Path, settings: dict[str, Any], make: tuple[Any, ...]) -> list[Contestant]:
    """All of them."""
    making: list[Callable[[], Contestant]] = [
        lambda: Contestant(*make),
        lambda: Gradwatch(1, settings, *make),
        lambda: Gradwatch(10, settings, *make),
        lambda: Wandb(1, folder, *make),
        lambda: Wandb(10, folder, *make),
    ]
    return [contestant() for contestant in making]
