"""The interval that keeps watching within its budget, by a clock that the test moves."""

from __future__ import annotations

import pytest
from gradwatch._cadence import CALIBRATION_STEPS, FIRST, RECHECK_ROWS, Cadence, intervals


class Job:
    """Steps of a job, each of which takes as long as it says."""

    def __init__(self, budget: float = 0.01, first_step: int = 0) -> None:
        self.now = 0.0
        self.step = self.first_step = first_step
        self.cadence = Cadence(budget, first_step, lambda: self.now)
        self.next_row = first_step + self.cadence.every
        self.changes: list[tuple[int, int]] = []

    def run(self, steps: int, step_s: float, row_s: float) -> None:
        for _ in range(steps):
            self.step += 1
            self.now += step_s
            has_row = self.step == self.next_row
            if not (has_row or self.cadence.looks_at_every_step):
                continue
            self.cadence.begin(self.step)
            if has_row:
                self.next_row += self.cadence.every
                self.now += row_s
            self.cadence.end(self.step, has_row)
            if has_row and self.cadence.is_time_to_choose(self.step):
                before, chosen = self.cadence.every, self.cadence.choose()
                self.cadence.change(chosen)
                if chosen != before:
                    self.changes.append((self.step, chosen))
                    self.next_row = self.step + chosen


def test_the_ladder() -> None:
    ladder = list(intervals())
    assert ladder[:7] == [1, 2, 5, 10, 20, 50, 100] and ladder[-1] == 1_000_000
    assert ladder == sorted(set(ladder))


@pytest.mark.parametrize(("row_s", "every"), [(0.0001, 1), (0.0015, 2), (0.003, 5), (0.01, 10), (0.011, 20), (3.0, 5000)])
def test_it_is_as_often_as_the_budget_allows(row_s: float, every: int) -> None:
    job = Job()
    job.run(60, 0.1, row_s)
    assert job.cadence.every == every
    assert row_s <= 0.01 * every * 0.1 * 1.0001
    assert job.changes == ([] if every == FIRST else [(CALIBRATION_STEPS, every)])


def test_nothing_is_chosen_before_it_is_measured() -> None:
    job = Job(first_step=1000)
    job.run(CALIBRATION_STEPS - 1, 0.1, 1e-6)
    assert job.changes == [] and job.cadence.looks_at_every_step
    job.run(1, 0.1, 1e-6)
    assert job.changes == [(1000 + CALIBRATION_STEPS, 1)] and not job.cadence.looks_at_every_step


def test_a_compilation_and_a_validation_are_no_steps() -> None:
    job = Job()
    job.run(2, 300.0, 0.01)
    job.run(20, 0.1, 0.01)
    job.now += 1000.0
    job.run(40, 0.1, 0.01)
    assert job.cadence.every == 10


def test_a_little_more_than_the_budget_changes_nothing() -> None:
    job = Job()
    job.run(60, 0.1, 0.0099)
    job.run(100 * RECHECK_ROWS, 0.1, 0.029)
    assert job.changes == [] and job.cadence.every == 10


def test_more_than_three_times_the_budget_changes_it() -> None:
    job = Job()
    job.run(60, 0.1, 0.0099)
    job.run(100 * RECHECK_ROWS, 0.1, 0.031)
    assert [every for _, every in job.changes] == [50]
    # And steps that become shorter do as well.
    job.run(50 * 10 * RECHECK_ROWS, 0.015, 0.031)
    assert [every for _, every in job.changes] == [50, 500]


def test_less_than_the_budget_changes_nothing() -> None:
    job = Job()
    job.run(60, 0.1, 0.01)
    job.run(100 * RECHECK_ROWS, 10.0, 0.0001)
    assert job.changes == []


def test_what_a_device_does_counts() -> None:
    job = Job()
    job.cadence.device_cost(0.04)
    job.run(60, 0.1, 0.001)
    assert job.cadence.every == 50


@pytest.mark.parametrize("budget", [0.0, -1.0, 1.5, float("nan")])
def test_a_budget_is_a_fraction(budget: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        Cadence(budget, 0)
