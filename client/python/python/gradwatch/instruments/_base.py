"""What all instruments share: their schedule, and what becomes of one that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradwatch._guard import CAUGHT
from gradwatch.instruments._lookup import unwrapped

if TYPE_CHECKING:
    import torch

    from gradwatch import _native

MAX_FAILURES = 3
MAX_NAME_BYTES = 256


class Declined(Exception):
    """This layer cannot be watched in this job."""


class Skipped(Exception):
    """There is no snapshot this time."""


class SwitchedOff(Exception):
    """A layer is not watched any longer."""


class LayerInstrument:
    """A layer that is watched with one of the instruments.

    Invariant: reading never changes training. What an instrument raises goes to `Watch`, which counts it and says it once;
    after three failures in a row, each `every` steps behind the other, it is off for the rest of the run.
    """

    instrument: str

    def __init__(self, layer: str, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every: {every!r} is no number of steps")
        if not isinstance(layer, str) or not 1 <= len(layer.encode()) <= MAX_NAME_BYTES or not layer.isprintable():
            raise ValueError(f"name: {layer!r} is no name of 1 to {MAX_NAME_BYTES} bytes")
        self.layer = layer
        self.every = every
        self._model: torch.nn.Module | None = None
        self._failures = 0
        self._rests_until = 0

    def declare(self, model: torch.nn.Module) -> tuple[str, str, int, str, int]:
        """Finds its parts of the model: (layer, instrument, width or 0, activation or "", every)."""
        self._failures, self._rests_until = 0, 0
        model = unwrapped(model)
        width, activation = self._find(model)
        self._model = model
        return self.layer, self.instrument, width, activation, self.every

    def snapshot(self, step: int) -> _native.Snapshot | None:
        """What is sent of this step; called in the optimizer's hook, when due. None: nothing of this step."""
        model = self._model
        if model is None or step < self._rests_until:
            return None
        try:
            taken = self._take(model)
        except Declined:
            self.detach()
            raise
        except Skipped:
            raise
        except CAUGHT as error:
            self._failures += 1
            self._rests_until = step + self.every
            if self._failures == MAX_FAILURES:
                self.detach()
                raise SwitchedOff(f"off after {MAX_FAILURES} failures in a row, the last: {error}") from error
            raise
        self._failures = 0
        return taken

    def detach(self) -> None:
        """Lets go of the model: nothing is read any more."""
        self._model = None

    def _find(self, model: torch.nn.Module) -> tuple[int, str]:
        """Its parts of the model; gives width or 0, activation or ""."""
        raise NotImplementedError

    def _take(self, model: torch.nn.Module) -> _native.Snapshot:
        raise NotImplementedError
