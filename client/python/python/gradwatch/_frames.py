"""What is said about steps, until it is submitted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from gradwatch import _native


# By group: its name, and its tensors with their numbers of elements.
DeclaredGroups: TypeAlias = list[tuple[str, list[tuple[str, int]]]]


class Pending(Protocol):
    """A copy from a device that is under way."""

    def ready(self) -> bool:
        """Whether it has arrived. Never waits."""

    def wait(self) -> None:
        """Waits until it has arrived."""


class Later(Pending, Protocol):
    """A number that is under way from a device."""

    def value(self) -> float:
        """The number, once it has arrived."""


class Frame:
    """What is said about one step, until it is submitted."""

    def __init__(self, step: int, phase: int = 0) -> None:
        self.step = step
        self.phase = phase
        self.learning_rate: float | Later | None = None
        self.weight_decay: float | None = None
        self.group_rates: list[tuple[str, float | Later | None, float | None]] = []
        self.scalars: dict[str, float | Later] = {}
        self.sketches: _native.Sketches | None = None
        # What the row starts from, with its step, where that is not the row before.
        self.base: tuple[int, _native.Sketches] | None = None
        self.snapshots: list[_native.Snapshot] = []
        self.happened: list[str] = []
        # What must arrive before it can be submitted.
        self.pending: list[Pending] = []
        # Steps between two rows from here on, when that changes with this frame.
        self.next_interval: int | None = None
        # The groups from here on, and what their updates start from, when those change with this frame.
        self.next_groups: tuple[DeclaredGroups, _native.Sketches] | None = None
        # To be called once it is submitted.
        self.when_done: list[Callable[[], None]] = []
        # It lacks what it should have said, and must not be submitted.
        self.is_broken = False

    @property
    def begins_attempt(self) -> bool:
        """Whether what comes behind it is another attempt."""
        return self.next_interval is not None or self.next_groups is not None

    def ready(self) -> bool:
        """Whether everything of it has arrived."""
        return all(pending.ready() for pending in self.pending)

    def wait(self) -> None:
        """Waits for what has not."""
        for pending in self.pending:
            pending.wait()


class Timeline:
    """The steps of an attempt, and the frames of the last few that more may still be said about.

    Invariant: frames are submitted in ascending order of steps, each once. A step at or below `submitted` would be a rewind
    to the native run, so that no frame of one is ever opened.
    """

    def __init__(self, submit: Callable[[Frame], None]) -> None:
        # The optimizer step that training has reached.
        self.step = 0
        # The last step that was submitted, or that an earlier attempt ended with.
        self.submitted = -1
        # Raised when training enters a phase whose updates must not share a window with those before.
        self.phase = 0
        # In the order of their steps.
        self.open: list[Frame] = []
        self._submit = submit

    def resume(self, step: int) -> None:
        """Begins behind a step of an earlier attempt."""
        self.step = self.submitted = step

    def frame(self, step: int) -> Frame | None:
        """The frame of a step, opened if need be; None when it is too late for that."""
        if step <= self.submitted:
            return None
        at = bisect_left(self.open, step, key=lambda frame: frame.step)
        if at == len(self.open) or self.open[at].step != step:
            self.open.insert(at, Frame(step, self.phase))
        return self.open[at]

    def current(self) -> Frame:
        """The frame of the step that training has reached, or of the next one when that is too late."""
        frame = self.frame(max(self.step, self.submitted + 1))
        assert frame is not None
        return frame

    def release(self, before: int) -> None:
        """Submits the frames of earlier steps, as far as what they wait for has arrived."""
        while self.open and self.open[0].step < before and self.open[0].ready():
            self._take_first()

    def flush(self) -> None:
        """Submits all frames of the steps so far, and waits for what they need."""
        while self.open and self.open[0].step <= self.step:
            self.open[0].wait()
            self._take_first()

    def _take_first(self) -> None:
        # Gone before it is tried: one that cannot be submitted must not hold up the others.
        frame = self.open.pop(0)
        self.submitted = frame.step
        self._submit(frame)
