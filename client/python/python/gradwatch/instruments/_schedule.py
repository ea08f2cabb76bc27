"""The instruments of one run, each on its own schedule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gradwatch._guard import CAUGHT, Failures

if TYPE_CHECKING:
    import torch

    from gradwatch import _native
    from gradwatch.instruments import Instrument

NEVER = 1 << 62


class Schedule:
    """Asks every instrument for its snapshots when they are due.

    Invariant: one that fails costs neither another instrument nor the rows of sketches anything, unless the run was made
    `strict`.
    """

    def __init__(
        self, instruments: Iterable[Instrument], model: torch.nn.Module, step: int, failures: Failures, *, reads: bool
    ) -> None:
        """Declares them. Of several processes that send, one `reads`: what another sent of a layer would be left aside."""
        self._failures = failures
        self._instruments: list[Instrument] = []
        # What the run declares.
        self.layers: list[tuple[str, str, int, str, int]] = []
        for instrument in instruments:
            try:
                layer = instrument.declare(model)
                if any(layer[:2] == other[:2] for other in self.layers):
                    raise ValueError("is there already: give it another `name`")
            except CAUGHT as error:
                self._failed(instrument, error)
                continue
            self.layers.append(layer)
            self._instruments.append(instrument)
        self._steps = [step + 1 if reads else NEVER for _ in self._instruments]
        # The next step with a snapshot.
        self.next = min(self._steps, default=NEVER)

    def take(self, step: int) -> Iterator[_native.Snapshot]:
        """The snapshots that are due."""
        for i, instrument in enumerate(self._instruments):
            if step < self._steps[i]:
                continue
            self._steps[i] = step + instrument.every
            self.next = min(self._steps)
            try:
                snapshot = instrument.snapshot(step)
            except CAUGHT as error:
                self._failed(instrument, error)
                continue
            if snapshot is not None:
                yield snapshot

    def detach(self) -> None:
        """Lets go of the model."""
        for instrument in self._instruments:
            try:
                instrument.detach()
            except CAUGHT as error:
                self._failed(instrument, error)
        self._steps = [NEVER for _ in self._steps]
        self.next = NEVER

    def _failed(self, instrument: Instrument, error: BaseException) -> None:
        if self._failures.strict:
            raise error
        # Anybody may write an instrument.
        kind = getattr(instrument, "instrument", type(instrument).__name__)
        self._failures.note(f"the {kind} instrument of {getattr(instrument, 'layer', '?')!r}", error)
