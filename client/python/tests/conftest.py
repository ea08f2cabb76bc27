"""What the tests share: a real server, its REST interface, and an environment of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

# Before PyTorch is imported by anything: a test's tensors are small, and the machine has other things to do.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

T = TypeVar("T")

# How long a test waits for what must happen.
PATIENCE = 60.0


def binary() -> Path:
    """The server: $GRADWATCH_BIN, else this checkout's debug binary."""
    named = os.environ.get("GRADWATCH_BIN")
    path = Path(named) if named else Path(__file__).parents[3] / "target" / "debug" / "gradwatch"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no server; build it (cargo build) or name one with GRADWATCH_BIN")
    return path


def wait_for(what: str, condition: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Waits until the condition gives something, and gives that."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.02)
    return value


class Server:
    """`gradwatch serve`, a process of its own, on a data directory."""

    def __init__(self, data_dir: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.log: list[str] = []
        self._arguments = arguments
        self._environment = environment or {}
        self._address = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Starts it, where it was before if it has been started before, and waits until it listens."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GRADWATCH_")}
        environment.pop("DATABASE_URL", None)
        environment |= {"GRADWATCH_LOG__FORMAT": "json", "GRADWATCH_LOG__FILTER": "info"} | self._environment
        command = [str(binary()), "serve", "--listen", self._address, "--data-dir", str(self.data_dir), *self._arguments]
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line)
            try:
                fields = json.loads(line)["fields"]
            except (ValueError, KeyError):
                continue
            if fields.get("message") == "listening":
                self._address = fields["address"]
                break
        else:
            raise RuntimeError("the server ended before it listened:\n" + "".join(self.log))
        self._process = process
        # Or it would block one day, when the pipe is full.
        threading.Thread(target=lambda: self.log.extend(process.stderr or ()), daemon=True).start()

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and waits until it has drained."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it accepts connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def address(self) -> str:
        """host:port."""
        return self._address

    @property
    def url(self) -> str:
        """http://host:port."""
        return f"http://{self._address}"

    def get(self, path: str, **query: Any) -> Any:
        """A REST answer: `server.get(f"runs/{run.id}/steps", limit=10)`."""
        words = {key.rstrip("_"): value for key, value in query.items()}
        address = f"{self.url}/api/v1/{path}" + ("?" + urllib.parse.urlencode(words, doseq=True) if words else "")
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return json.load(answer)

    def items(self, path: str, **query: Any) -> list[Any]:
        """All items of a list, page by page."""
        items: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            page = self.get(path, **query, **cursor)
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = {"cursor": page["next_cursor"]}

    def readings(self, run_id: str, instrument: str = "edge", **query: Any) -> list[Any]:
        """Readings of a run."""
        return self.items(f"runs/{run_id}/readings/{instrument}", **query)

    def steps(self, run_id: str, **query: Any) -> list[Any]:
        """Recorded steps of a run, with their scalars."""
        return self.items(f"runs/{run_id}/steps", **query)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that do it no harm."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own, which it may kill: `own_server("--insecure", environment={...})`."""
    servers: list[Server] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> Server:
        servers.append(Server(tmp_path / f"server-{len(servers)}", *arguments, environment=environment))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, and a spool that goes away."""
    for name in [name for name in os.environ if name.startswith("GRADWATCH_") and name != "GRADWATCH_BIN"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRADWATCH_SPOOL_DIR", str(tmp_path / "spool"))
