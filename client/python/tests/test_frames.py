"""The timeline: frames are submitted in order, once, and as late as is needed."""

from __future__ import annotations

import random

import pytest
from gradwatch._frames import Frame, Timeline


class Coming:
    """Something that arrives when the test says so."""

    def __init__(self) -> None:
        self.here = False
        self.waited = False

    def ready(self) -> bool:
        return self.here

    def wait(self) -> None:
        self.here = self.waited = True


def timeline() -> tuple[Timeline, list[int]]:
    submitted: list[int] = []
    return Timeline(lambda frame: submitted.append(frame.step)), submitted


def test_a_frame_waits_for_what_is_pending_and_holds_up_those_behind_it() -> None:
    line, submitted = timeline()
    coming = Coming()
    for step in (1, 2, 3):
        frame = line.frame(step)
        assert frame is not None
    line.open[1].pending.append(coming)
    line.step = 5
    line.release(before=4)
    assert submitted == [1]
    coming.here = True
    line.release(before=4)
    assert submitted == [1, 2, 3] and not coming.waited


def test_flush_waits_and_leaves_what_is_of_the_next_step() -> None:
    line, submitted = timeline()
    coming = Coming()
    line.current().pending.append(coming)
    line.frame(1)
    line.flush()
    assert submitted == [0] and coming.waited
    assert [frame.step for frame in line.open] == [1]
    assert line.frame(0) is None
    assert line.current().step == 1


def test_behind_a_checkpoint_nothing_is_said_of_what_is_before_it() -> None:
    line, submitted = timeline()
    line.resume(40)
    assert line.frame(40) is None and line.frame(39) is None
    assert line.current().step == 41
    line.step = 41
    line.flush()
    assert submitted == [41]


def test_a_frame_that_fails_holds_up_nothing() -> None:
    submitted: list[int] = []

    def submit(frame: Frame) -> None:
        if frame.step == 1:
            raise ValueError
        submitted.append(frame.step)

    line = Timeline(submit)
    for step in (0, 1, 2):
        line.frame(step)
    line.step = 2
    with pytest.raises(ValueError):
        line.flush()
    line.flush()
    assert submitted == [0, 2]


@pytest.mark.parametrize("seed", range(50))
def test_steps_ascend_whatever_is_asked_for(seed: int) -> None:
    chance = random.Random(seed)
    line, submitted = timeline()
    opened: set[int] = set()
    for _ in range(300):
        match chance.randrange(4):
            case 0:
                line.step += 1
                line.release(before=line.step - 1)
            case 1:
                frame = line.frame(max(0, line.step + chance.randint(-4, 1)))
                if frame is not None:
                    opened.add(frame.step)
                    if chance.random() < 0.3:
                        coming = Coming()
                        coming.here = chance.random() < 0.5
                        frame.pending.append(coming)
            case 2:
                opened.add(line.current().step)
            case 3 if chance.random() < 0.2:
                line.flush()
    line.step += 1
    line.flush()
    assert submitted == sorted(opened)
