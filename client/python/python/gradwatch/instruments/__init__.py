"""What the instruments beside the edge need of a job, each on its own slow schedule, none unless asked for.

Importing this imports no PyTorch: the instruments do, when they are first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from gradwatch import _native
    from gradwatch.instruments._cascade import Cascade
    from gradwatch.instruments._curvature import Curvature
    from gradwatch.instruments._dead_directions import DeadDirections
    from gradwatch.instruments._learning_cell import LearningCell

__all__ = ["Cascade", "Curvature", "DeadDirections", "Instrument", "LearningCell"]

# The module of each instrument.
MODULES = {
    "Cascade": "_cascade",
    "Curvature": "_curvature",
    "DeadDirections": "_dead_directions",
    "LearningCell": "_learning_cell",
}


class Instrument(Protocol):
    """A layer that is watched with one of the instruments."""

    # The layer's name on the server.
    layer: str
    # Its catalogue name: "cascade", "curvature", "dead_directions", "learning_cell".
    instrument: str
    # The least number of steps between two snapshots.
    every: int

    def declare(self, model: torch.nn.Module) -> tuple[str, str, int, str, int]:
        """Finds its parts of the model: (layer, instrument, width or 0, activation or "", every)."""

    def snapshot(self, step: int) -> _native.Snapshot | None:
        """What is sent of this step; called in the optimizer's hook, when due. Its frame waits until it is ready."""

    def detach(self) -> None:
        """Lets go of the model."""


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
