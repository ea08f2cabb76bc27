"""Runs a script as a process of its own, with gradwatch and without, and compares what both leave behind."""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import gradwatch
from conftest import Server, wait_for

HERE = Path(__file__).parent
# Where the package lies that is tested: an installed wheel, or the sources.
PACKAGE = Path(gradwatch.__file__).parents[1]
# A training that ends, ends within this: nothing is timed, but nothing may hang.
PATIENCE = 120.0

# What may stand on stderr on behalf of gradwatch: a warning with the line it is about, or a line of its log.
_SAID = re.compile(r"^(.*GradwatchWarning: gradwatch: .*\n(  .*\n)?|gradwatch: .*\n)", re.MULTILINE)


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str
    result: Mapping[str, Any] | None

    def after(self, stdout: str) -> Ended:
        """The same without what was read of its output."""
        return replace(self, stdout=self.stdout.removeprefix(stdout))

    @property
    def said(self) -> list[str]:
        """What gradwatch said on stderr."""
        return [match.group(0) for match in _SAID.finditer(self.stderr)]

    @property
    def noise(self) -> str:
        """What anybody else said there."""
        return _SAID.sub("", self.stderr)


class Nursery:
    """A process that forks itself for each script, see `nursery.py`."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py"), str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        atexit.register(self._connection.close)

    @classmethod
    @functools.cache
    def get(cls) -> Nursery:
        return cls()

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """The pid of a script that has just been started."""
        socket.send_fds(self._connection, [json.dumps(request).encode()], descriptors)
        return int(json.loads(self._connection.recv(1 << 10)))

    def code(self, pid: int) -> int | None:
        """The exit code of a script, once it has ended."""
        self._connection.sendall(json.dumps({"ended": pid}).encode())
        code = json.loads(self._connection.recv(1 << 10))
        return None if code is None else int(code)


class Program:
    """A script that is running: forked from the nursery, or with an interpreter of its own."""

    def __init__(
        self,
        source: str,
        *,
        watched: bool,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        fresh: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gradwatch-hurt-")
        folder = Path(self._folder.name)
        script = folder / "script.py"
        script.write_text("from training import *\n" + textwrap.dedent(source))
        self._out = folder / "out.json"
        path = [str(HERE), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"OUT": str(self._out), "WATCHED": str(int(watched))} | dict(env or {})
        environment = {name: value for name, value in environment.items() if value != "-"}
        (stdin, ours_in), (ours_out, stdout), (ours_err, stderr) = os.pipe(), os.pipe(), os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        if flags or fresh:
            self._process = subprocess.Popen(
                [sys.executable, *flags, str(script)],
                env=environment,
                cwd=folder,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            self.pid = self._process.pid
        else:
            request = {"script": str(script), "folder": str(folder), "environment": environment, "path": path}
            self.pid = Nursery.get().start(request, [stdin, stdout, stderr])
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        self._stdin, self._stdout = open(ours_in, "w"), open(ours_out)
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, args=[open(ours_err)], daemon=True)
        self._reader.start()

    def _read_errors(self, stderr: TextIO) -> None:
        with stderr:
            self._errors.extend(stderr)

    def line(self) -> str:
        """The next line that it prints."""
        return self._stdout.readline().rstrip("\n")

    def say(self, line: str) -> None:
        """Something for the script to read."""
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def threads(self) -> list[str]:
        """The names of its threads, as the system knows them."""
        return [path.read_text().strip() for path in Path(f"/proc/{self.pid}/task").glob("*/comm")]

    def end(self) -> Ended:
        """Waits until it has ended, and all that it began."""
        # Whoever still reads there finds the end.
        self._stdin.close()
        with self._stdout:
            hanging = threading.Timer(PATIENCE, os.killpg, [self.pid, signal.SIGKILL])
            hanging.start()
            stdout = self._stdout.read()
            self._reader.join()
            code = wait_for("the program's end", lambda: None if (code := self._code()) is None else [code])[0]
        stderr = "".join(self._errors)
        hangs = not hanging.is_alive()
        hanging.cancel()
        assert not hangs, f"the program hangs\n{stdout}\n{stderr}"
        result = json.loads(self._out.read_text()) if self._out.exists() else None
        # The paths of two runs are not the same.
        stdout, stderr = (text.replace(self._folder.name, "FOLDER") for text in (stdout, stderr))
        if result is not None:
            result["process"]["directory"] = result["process"]["directory"].replace(self._folder.name, "FOLDER")
        self._folder.cleanup()
        return Ended(code, stdout, stderr, result)

    def _code(self) -> int | None:
        return self._process.poll() if self._process is not None else Nursery.get().code(self.pid)


def run(
    source: str,
    *,
    watched: bool = True,
    env: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    fresh: bool = False,
) -> Ended:
    """Runs a script to its end."""
    return Program(source, watched=watched, env=env, flags=flags, fresh=fresh).end()


@functools.cache
def _unwatched(source: str, flags: tuple[str, ...], fresh: bool, variables: tuple[tuple[str, str], ...]) -> Ended:
    return run(source, watched=False, env=dict(variables), flags=flags, fresh=fresh)


def unwatched(
    source: str, *, env: Mapping[str, str] | None = None, flags: Sequence[str] = (), fresh: bool = False
) -> Ended:
    """The same script without gradwatch: run once for all that ask."""
    # What is gradwatch's makes no difference to it.
    variables = {name: value for name, value in (env or {}).items() if not name.startswith("GRADWATCH_") and name != "NAME"}
    return _unwatched(source, tuple(flags), fresh, tuple(sorted(variables.items())))


def assert_same(watched: Ended, plain: Ended) -> None:
    """Training has noticed nothing."""
    assert watched.noise == plain.noise, watched.noise
    assert watched.stdout == plain.stdout
    assert watched.code == plain.code, watched.stderr
    if plain.result is None:
        assert watched.result is None
    else:
        assert watched.result is not None
        ours, theirs = dict(watched.result), dict(plain.result)
        for result in (ours, theirs):
            # The tests' own settings differ.
            names = result["process"]["environment"]
            result["process"] = result["process"] | {
                "environment": [name for name in names if not name.startswith("GRADWATCH_")]
            }
        assert ours == theirs


class Job:
    """What a server recorded of the scripts of one test, which know it by its name."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.name = uuid.uuid4().hex

    @property
    def env(self) -> dict[str, str]:
        """What the scripts need to know."""
        return {"GRADWATCH_SERVER": self._server.url, "NAME": self.name}

    @property
    def run(self) -> Any:
        """The one run."""
        runs = self._server.items("runs", name=self.name)
        assert len(runs) == 1
        return runs[0]

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def state(self) -> str:
        return str(self.run["state"])

    @property
    def steps(self) -> list[int]:
        """The steps that are recorded."""
        return [step["step"] for step in self._server.steps(self.run_id)]

    @property
    def scalars(self) -> dict[int, dict[str, Any]]:
        """The scalars of each step."""
        return {step["step"]: step["scalars"] for step in self._server.steps(self.run_id)}

    @property
    def happened(self) -> list[str]:
        """What the job said that happened."""
        events = self._server.items(f"runs/{self.run_id}/events")
        return [event["type"].removeprefix("job.") for event in events if event["type"].startswith("job.")]

    def ends(self) -> str:
        """How the run ended, once it has."""
        return wait_for("the run's end", lambda: self.state if self.state != "running" else None)


def compare(
    source: str, *, env: Mapping[str, str] | None = None, flags: Sequence[str] = (), fresh: bool = False
) -> Ended:
    """Runs a script with gradwatch, and asserts that it was the same as without."""
    watched = run(source, env=env, flags=flags, fresh=fresh)
    assert_same(watched, unwatched(source, env=env, flags=flags, fresh=fresh))
    return watched
