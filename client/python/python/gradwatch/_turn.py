"""Whose turn it is: one thread at a time, and within that thread one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Turn:
    """A lock that knows when a call has come in the middle of another of the same thread.

    That is what a signal handler does, or a loss of an instrument's that logs: it must not wait, for the other cannot go on
    meanwhile, and it must not change what the other is in the middle of changing. It leaves what it has to do for `later`.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._left: list[Callable[[], object]] = []

    def __enter__(self) -> bool:
        """Waits for the turn. Gives whether this thread is in the middle of it already."""
        self._lock.acquire()
        return self._begin()

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, timeout: float) -> bool:
        """Waits for the turn, not for longer than this. Gives whether it has come."""
        if not self._lock.acquire(timeout=timeout):
            return False
        self._begin()
        return True

    def release(self) -> None:
        try:
            if self._depth == 1:
                self._do_what_was_left()
        finally:
            self._depth -= 1
            self._lock.release()

    def later(self, call: Callable[[], object]) -> None:
        """To be done when this thread has done what it is in the middle of. It must
        not fail, nor ask for the turn, which it has."""
        self._left.append(call)

    def _begin(self) -> bool:
        self._depth += 1
        if self._depth == 1:
            # What a signal left between two turns.
            self._do_what_was_left()
        return self._depth > 1

    def _do_what_was_left(self) -> None:
        while self._left:
            self._left.pop(0)()
