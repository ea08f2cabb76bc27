"""How many steps lie between two rows, so that watching costs no more than its budget."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from statistics import median

# Steps between two rows before anything is known.
FIRST = 10
# Steps that are looked at before the first choice.
CALIBRATION_STEPS = 50
# Rows between two looks at whether the choice still holds, and how many of the last ones are looked at.
RECHECK_ROWS = 20
# What was chosen is changed only when it costs more than this many times the budget: a change restarts the windows.
TOLERANCE = 3.0
LONGEST = 1_000_000


def intervals() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, …"""
    decade = 1
    while decade < LONGEST:
        yield from (decade, 2 * decade, 5 * decade)
        decade *= 10
    yield LONGEST


class Cadence:
    """Measures what a step takes and what a row costs, and chooses the number of steps between two rows.

    `begin` and `end` are called where a look at a step begins and ends: at every step until the first choice, then at those
    with a row.
    """

    def __init__(self, budget: float, first_step: int, clock: Callable[[], float] = time.perf_counter) -> None:
        if not 0.0 < budget <= 1.0:
            raise ValueError(f"budget: {budget!r} is no fraction of the step time")
        self.every = FIRST
        self._budget = budget
        self._clock = clock
        self._first_step = first_step
        self._calibrated = False
        self._rows = 0
        # The end of the last look, with its step.
        self._last: tuple[int, float] | None = None
        self._began = 0.0
        # Medians of these, so that neither a compilation nor a validation counts.
        self._step_times: deque[float] = deque(maxlen=CALIBRATION_STEPS)
        self._costs: deque[float] = deque(maxlen=RECHECK_ROWS)
        self._device_costs: deque[float] = deque(maxlen=RECHECK_ROWS)

    @property
    def looks_at_every_step(self) -> bool:
        """Whether steps without a row are to be looked at as well."""
        return not self._calibrated

    def begin(self, step: int) -> None:
        """A look at a step begins."""
        self._began = self._clock()
        if self._last is not None and step > self._last[0]:
            self._step_times.append((self._began - self._last[1]) / (step - self._last[0]))

    def end(self, step: int, has_row: bool) -> None:
        """It ends."""
        now = self._clock()
        self._last = (step, now)
        if has_row:
            self._rows += 1
            self._costs.append(now - self._began)

    def device_cost(self, seconds: float) -> None:
        """What a device did for a row meanwhile, once that is known."""
        self._device_costs.append(seconds)

    def is_time_to_choose(self, step: int) -> bool:
        """Whether it is time for a choice: a matter of steps and rows alone, so that all processes agree on it."""
        if not self._calibrated:
            return step - self._first_step >= CALIBRATION_STEPS
        return self._rows >= RECHECK_ROWS

    def choose(self) -> int:
        """The interval from here on, by what was measured."""
        step_time = median(self._step_times)
        cost = median(self._costs) + (median(self._device_costs) if self._device_costs else 0.0)
        if self._calibrated and cost <= TOLERANCE * self._budget * self.every * step_time:
            return self.every
        return next((n for n in intervals() if cost <= self._budget * n * step_time), LONGEST)

    def change(self, every: int) -> None:
        """The choice is made, here or by another process."""
        self._calibrated = True
        self._rows = 0
        if every != self.every:
            self.every = every
            self._step_times = deque(maxlen=RECHECK_ROWS)
            self._costs.clear()
            self._device_costs.clear()
