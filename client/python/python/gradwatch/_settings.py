"""Where settings come from: arguments, then GRADWATCH_* variables, then defaults."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ParamSpec
from uuid import UUID

from gradwatch import _native
from gradwatch._guard import CAUGHT, Failures
from gradwatch._run import Run
from gradwatch._values import json_value

MODES = ("online", "offline", "disabled")


@dataclass(frozen=True)
class Settings:
    """What a run is, and where it goes."""

    project: str
    name: str
    config_json: str = "{}"
    labels: Mapping[str, str] = field(default_factory=dict)
    # Of the run to go on with or to begin, if its id was given.
    run_id: str | None = None
    # The attempt to go on with, None for the newest one, and the step behind which it goes on.
    resumes: tuple[str | None, int] | None = None
    server: str = _native.DEFAULT_SERVER
    token: str | None = None
    mode: str = "online"
    spool_dir: str | None = None
    buffer_bytes: int | None = None
    close_timeout: float = 30.0

    @property
    def identity(self) -> str | None:
        """The text of the checkpoint, or the run's id."""
        attempt_id, step = self.resumes or (None, 0)
        if attempt_id is None:
            return self.run_id
        return f"{self.run_id}/{attempt_id}@{step}"


P = ParamSpec("P")


def _or_disabled(make: Callable[P, Run]) -> Callable[P, Run]:
    """What makes a run makes one that does nothing where it fails, unless it is to be strict."""

    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> Run:
        try:
            return make(*args, **kwargs)
        except CAUGHT as error:
            if kwargs.get("strict") is True:
                raise
            failures = Failures()
            failures.note("init", error)
            return Run(Settings(project="", name="", mode="disabled"), failures)

    return call


@_or_disabled
def init(
    project: str,
    name: str,
    *,
    config: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    id: str | None = None,
    resume: str | None = None,
    server: str | None = None,
    token: str | None = None,
    mode: str | None = None,
    spool_dir: str | os.PathLike[str] | None = None,
    buffer_bytes: int | None = None,
    close_timeout: float = 30.0,
    strict: bool = False,
) -> Run:
    """Begins a run. Nothing is sent before `Run.watch`; the network is never waited for.

    Args:
        project: The project that the run belongs to.
        name: The run's name, which need not be unique.
        config: Hyperparameters and whatever else identifies the job; made JSON.
        labels: Labels to find the run by.
        id: `Run.checkpoint_id` from a checkpoint: the run goes on from there, in a new segment. Or a UUID for a new run.
            None begins a new run under an id of its own.
        resume: "allow" says so: with it `id` may be what a checkpoint holds, or None where there is none yet. Also with a
            UUID: where the run is there already, this job takes its place from step 0 on, in a new segment.
        server: Where the server is. Default: GRADWATCH_SERVER, else http://127.0.0.1:7700.
        token: A token with the scope `ingest`. Default: GRADWATCH_TOKEN.
        mode: "online"; "offline": to disk only, `gradwatch sync` sends it later; "disabled". Default: GRADWATCH_MODE, else
            "online".
        spool_dir: Where frames wait on disk that no server has acknowledged. Default: GRADWATCH_SPOOL_DIR, else
            gradwatch/spool in the user's state folder.
        buffer_bytes: Memory for frames on their way. Default 64 MiB.
        close_timeout: Seconds that `Run.finish` waits for the server at most.
        strict: Raise what is otherwise a warning: for tests and for finding mistakes in the call.
    """
    failures = Failures(strict)
    if resume not in (None, "allow"):
        raise ValueError(f'resume: {resume!r} is neither None nor "allow"')
    run_id, resumes = (None, None) if id is None else named(id, resume)
    settings = Settings(
        project=project,
        name=name,
        config_json=json.dumps(json_value(config if isinstance(config, Mapping) else vars(config) if config else {})),
        labels={str(key): str(value) for key, value in (labels or {}).items()},
        run_id=run_id,
        resumes=resumes,
        server=server or os.environ.get("GRADWATCH_SERVER") or _native.DEFAULT_SERVER,
        token=token or os.environ.get("GRADWATCH_TOKEN") or None,
        mode=mode or os.environ.get("GRADWATCH_MODE") or "online",
        spool_dir=None,
        buffer_bytes=buffer_bytes,
        close_timeout=close_timeout,
    )
    if settings.mode not in MODES:
        raise ValueError(f"mode: {settings.mode!r} is none of {', '.join(MODES)}")
    if settings.mode != "disabled":
        settings = replace(settings, spool_dir=usable_spool_dir(spool_dir, settings.mode, failures))
    return Run(settings, failures)


def named(id: str, resume: str | None) -> tuple[str, tuple[str | None, int] | None]:
    """The run that `id` names and, when it is a checkpoint's, the attempt and the step to go on from."""
    run, slash, rest = str(id).strip().partition("/")
    attempt, at, step = rest.partition("@")
    try:
        run_id = str(UUID(run))
        if not slash:
            # Without a checkpoint the job starts again: whatever the run has is gone on with from its beginning.
            return run_id, None if resume is None else (None, 0)
        if not at or not step.isascii() or not step.isdigit():
            raise ValueError
        resumes = (str(UUID(attempt)), int(step))
    except ValueError:
        raise ValueError(f"id: {id!r} is neither a UUID nor a run's checkpoint_id (run/attempt@step)") from None
    if resume is None:
        raise ValueError('id: is that of a checkpoint, and goes with resume="allow"')
    return run_id, resumes


def usable_spool_dir(given: str | os.PathLike[str] | None, mode: str, failures: Failures) -> str | None:
    """The spool's folder, made if need be. Online, a disk that cannot be used costs the spool and nothing else."""
    try:
        path = Path(given or os.environ.get("GRADWATCH_SPOOL_DIR") or default_spool_dir())
        # The native client takes text; a path may hold other bytes.
        str(path).encode()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"{path} cannot be written to")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        if mode == "offline":
            raise
        failures.warn(f"spool_dir: no spool on disk, what is not acknowledged waits in memory: {error}")
        return None
    return str(path.absolute())


def default_spool_dir() -> Path:
    """`gradwatch/spool` in the user's state folder."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    # A relative path is to be ignored, says the XDG Base Directory Specification.
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "gradwatch" / "spool"
