"""The CPU in a CUDA device's place: all operations are the same, and what is queued there arrives late here, too."""

from __future__ import annotations

import pytest
import torch
from gradwatch import _sketching


class Event:
    """Stands for a CUDA event: it has happened when somebody has asked for it three times."""

    waited = 0

    def __init__(self) -> None:
        self.asked = 0

    def query(self) -> bool:
        self.asked += 1
        return self.asked > 3

    def synchronize(self) -> None:
        Event.waited += 1

    def elapsed_time(self, other: Event) -> float:
        return 1.0


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on CPU tensors are sketched as those of a CUDA device are."""
    monkeypatch.setattr(_sketching.Sketching, "_devices", frozenset({"cpu"}))
    monkeypatch.setattr(_sketching, "_event", lambda device, timed: Event())
    monkeypatch.setattr(_sketching, "_page_locked", torch.empty_like)
    Event.waited = 0
