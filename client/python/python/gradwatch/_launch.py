"""What one process tells the others: texts in the store at which the process group met.

No collective: nothing of training's own communication is reordered, and nobody waits for a process that is not there for
longer than it says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

POLL_S = 0.02
# Hosts' clocks differ, and a process that is started again takes longer than this before it says anything.
CLOCKS_DIFFER_S = 5.0


class Agreement:
    """Texts of one run that its leading process publishes and the others receive. Each key is published once, or in
    full again: who receives sees one of the texts.

    A store may fail at any time, as when the process that keeps it is gone: what it raises passes.
    """

    def __init__(self, store: Store | None, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def publish(self, key: str, text: str) -> None:
        """Tells the others. Without others it is nothing."""
        if self._store is not None:
            self._store.set(f"{self._prefix}/{key}", text)

    def receive(self, key: str) -> str | None:
        """What was published, if it was. Waits for nothing but the store's answer."""
        # `check` and then `get`: `get` alone would wait, and keep other threads from the store meanwhile.
        if self._store is None or not self._store.check([f"{self._prefix}/{key}"]):
            return None
        return self._store.get(f"{self._prefix}/{key}").decode()

    def wait(self, key: str, wanted: Callable[[str], bool], timeout_s: float) -> str | None:
        """What was published, as soon as it is the one that is wanted; None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = self.receive(key)
            if text is not None and wanted(text):
                return text
            if time.monotonic() > deadline:
                return None
            time.sleep(POLL_S)


_numbers: dict[str, int] = {}


def agreement(name: str) -> Agreement:
    """For what the processes do together for the n-th time under this name: n is counted here, as it is in each of them."""
    from torch.distributed import distributed_c10d

    number = _numbers[name] = _numbers.get(name, 0) + 1
    # The store of torchrun's agent outlives the workers, and with it what they published before they were started again.
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Agreement(distributed_c10d._get_default_store(), f"gradwatch/{restart}/{name}/{number}")


def of_this_launch(published_at: float) -> bool:
    """Whether it was published since this process began.

    Only asked where torchrun's agent keeps the store: when a node joins, it starts workers again and counts no restart.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    started_at = _process_started_at()
    return started_at is None or published_at > started_at - CLOCKS_DIFFER_S


def _process_started_at() -> float | None:
    """When this process began, where the system says it (Linux)."""
    try:
        with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
            # Behind the name, which may hold anything: the 20th field is the start in clock ticks since boot.
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            age = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - age
