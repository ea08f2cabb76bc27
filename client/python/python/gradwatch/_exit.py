"""What becomes of runs that are open when the process ends.

A run that nobody finished is ended with the process: as failed when an exception ended it, as finished otherwise. Neither
os._exit nor a signal that kills leaves time for that, and a child of `multiprocessing` hides how it ends: then nothing is
said, and the server notices the silence.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from typing import Protocol

# All runs together may hold up the end of the process for so long.
EXIT_TIMEOUT_S = 2.0


class Ending(Protocol):
    """A run, as far as the end of the process goes."""

    def _end_with_process(self, outcome: str | None, timeout: float) -> None:
        """Ends it with an outcome, or without one where nobody knows."""


# Those that this process opened. They are held: a run that its program has let go of ends with the process. A module that is
# imported again (importlib.reload) still knows them.
_open: dict[int, Ending] = globals().get("_open", {})


def opened(run: Ending) -> None:
    """From here on the run ends with the process at the latest."""
    _open[id(run)] = run


def ended(run: Ending) -> None:
    """It has ended by itself."""
    _open.pop(id(run), None)


def outcome() -> str | None:
    """How the process ends, at its end: None where nobody knows."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return None
    if hasattr(sys, "ps1"):
        # At a prompt the last exception may be of long ago.
        return "finished"
    # The exception that nobody caught. `sys.exit` is none.
    uncaught = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return "finished" if uncaught is None else "failed"


def _end_all() -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    how = outcome()
    for run in list(_open.values()):
        run._end_with_process(how, max(0.0, deadline - time.monotonic()))


# A forked child has none of its parent's runs.
os.register_at_fork(after_in_child=_open.clear)
atexit.register(_end_all)
