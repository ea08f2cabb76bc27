"""A training job that is being watched."""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from gradwatch import _exit, _native
from gradwatch._cadence import Cadence
from gradwatch._frames import DeclaredGroups, Frame, Later, Timeline
from gradwatch._guard import CAUGHT, Failures, Process, guarded
from gradwatch._turn import Turn
from gradwatch._values import name_problem, number, resolved

if TYPE_CHECKING:
    import torch

    from gradwatch import _shards
    from gradwatch._settings import Settings
    from gradwatch._watch import Watch

logger = logging.getLogger("gradwatch")

# Frames that may wait for `watch`.
MAX_WAITING_FRAMES = 1000
# Numbers of one step. A server rejects a frame with more, and the row with it.
MAX_SCALARS = 256
EVENT_NAME = re.compile(r"[a-z0-9_]{1,64}")
OUTCOMES = ("finished", "failed", "preempted")


class Spec:
    """What is declared of a run's stream when it opens."""

    def __init__(self) -> None:
        self.groups: DeclaredGroups = []
        self.layers: list[tuple[str, str, int, str, int]] = []
        self.windows: list[int] = []
        self.sketch_dim = 4096
        self.seed = 0
        self.encoding = "f16"
        self.update_interval = 1


class Run:
    """A run, made by `gradwatch.init`. Also a context manager, which ends it: as failed when an exception leaves it.

    Invariant: what it is told in a process that is not its own, or after its end, it takes no notice of.
    """

    def __init__(self, settings: Settings, failures: Failures) -> None:
        self._settings = settings
        self._failures = failures
        self._process = Process()
        # Log calls may come from any thread, and from a signal handler in the middle of any of ours.
        self._lock = Turn()
        self._native: _native.Run | None = None
        # Held by the optimizer's hooks alone: a run that is still open keeps no model in memory.
        self._watch: Callable[[], Watch | None] = lambda: None
        self._is_watching = False
        # The step that `watch` was called at.
        self._watched_from = 0
        self._timeline = Timeline(self._submit)
        if settings.resumes is not None:
            self._timeline.resume(settings.resumes[1])
        # Known once the job is watched.
        self._topology: _shards.Topology | None = None
        self._known_launch: str | None = None
        # Whether the native run knows what the next row starts from.
        self._has_base = False
        # What it had come to when it ended.
        self._last_attempt: str | None = None
        self._last_status: dict[str, int | bool | str | None] = {}
        self._finished = settings.mode == "disabled"

    # What users call.

    @guarded(None)
    def watch(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        *,
        groups: Mapping[str, str | Iterable[str]] | None = None,
        every: int | str = 10,
        budget: float = 0.01,
        instruments: Iterable[Any] = (),
        windows: Sequence[int] = (10,),
        dim: int = 4096,
        seed: int = 0,
        encoding: str = "f16",
    ) -> None:
        """Sketches the model's updates from now on: hooks the optimizer's step.

        Args:
            model: The model. Wrapped or compiled is fine; its parameters go by the names that they have without.
            optimizer: The optimizer that trains it, or several: a step is then one of the first.
            groups: Parameters to be watched together: a name for each group, and one or more globs for the names of its
                parameters, in which `*` also stands for dots. Default: `{"all": "*"}`. Groups may overlap; what is frozen
                (does not require a gradient, or is in none of the optimizers) is in none.
            every: Optimizer steps between two rows, or "auto": as often as `budget` allows.
            budget: With "auto", the fraction of the step time that watching may cost.
            instruments: What else to look at, see `gradwatch.instruments`.
            windows: Rows that readings look back on, 3 to 64; several are possible.
            dim: Size of a sketch, a power of two from 64 to 65,536.
            seed: The sketch's seed. Sketches of one seed and dimension can be compared.
            encoding: "f16" or "f32": how sketches travel.
        """
        if self._finished or not self._process.is_ours():
            return
        from gradwatch._watch import Watch

        cadence = Cadence(budget, self._timeline.step) if every == "auto" else None
        if cadence is None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f'every: {every!r} is neither a number of steps nor "auto"')
        with self._lock:
            if self._is_watching:
                raise RuntimeError("the run is watching already: begin another run for another model")
            watch = Watch(
                self,
                model,
                list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer],  # type: ignore[list-item]
                groups if groups is not None else {"all": "*"},
                cadence or cast(int, every),
                instruments,
                windows=windows,
                dim=dim,
                seed=seed,
                encoding=encoding,
            )
            self._watch = weakref.ref(watch)
            self._is_watching = True
            self._watched_from = self._timeline.step

    @guarded(None)
    def log(self, scalars: Mapping[str, Any], step: int | None = None) -> None:
        """Adds numbers to what is said about a step: by default the last one that the optimizer made.

        Steps are optimizer steps: the n-th gives step n. A `step` of your own may lag one behind, as a count from 0 does; one
        that is further back is too late, and one that runs ahead is taken for the present one.
        """
        if self._is_silent():
            return
        numbers = {}
        for name, value in scalars.items():
            if problem := name_problem(name):
                self._failures.mistake("log: name", f"log: the name {name!r:.80} {problem}; left out")
                continue
            try:
                numbers[name] = number(value)
            except Exception as error:
                self._failures.mistake(f"log: {name}", f"log: {name!r} is no number; left out: {error}")
        with self._lock as is_within:
            if is_within:
                self._lock.later(partial(self._add, numbers, step))
            else:
                self._add(numbers, step)

    @guarded(None)
    def _add(self, numbers: Mapping[str, float | Later], step: int | None) -> None:
        frame = self._frame_of(step)
        if frame is None:
            return
        for name, value in numbers.items():
            if len(frame.scalars) >= MAX_SCALARS and name not in frame.scalars:
                self._failures.mistake("log: many", f"log: more than {MAX_SCALARS} numbers of one step; left out")
                break
            frame.scalars[name] = value
            if not isinstance(value, float):
                frame.pending.append(value)

    @guarded(None)
    def happened(self, name: str) -> None:
        """Something happened at this step, such as "solved": to align runs on it."""
        if self._is_silent():
            return
        if not isinstance(name, str) or not EVENT_NAME.fullmatch(name):
            raise ValueError(f"name: {name!r:.80} is not made of lower-case letters, digits and underscores")
        with self._lock as is_within:
            if is_within:
                self._lock.later(partial(self._mark, name))
            else:
                self._mark(name)

    @guarded(None)
    def _mark(self, name: str) -> None:
        frame = self._frame_of(None)
        if frame is not None and name not in frame.happened:
            frame.happened.append(name)

    @guarded(None)
    def flush(self) -> None:
        """Hands over what is said about the steps so far, instead of waiting for more. The network is not waited for."""
        if self._native is not None and self._process.is_ours():
            with self._lock as is_within:
                if is_within:
                    self._lock.later(self._hand_over)
                else:
                    self._hand_over()

    @guarded(None)
    def _hand_over(self) -> None:
        self._timeline.flush()

    @guarded(None)
    def finish(self, outcome: str = "finished") -> None:
        """Delivers what is left, for `close_timeout` at most, and says how the job ended: "finished", "failed" or
        "preempted". What became of the frames is said in a line of the log `gradwatch`."""
        if outcome not in OUTCOMES:
            self._failures.mistake("finish", f"finish: {outcome!r} is none of {', '.join(OUTCOMES)}; taken for finished")
            outcome = "finished"
        if self._finished or not self._process.is_ours():
            return
        with self._lock:
            self._finished = True
            if outcome == "finished" and self._native is not None and self._timeline.step == self._watched_from:
                self._failures.warn(
                    "the optimizer that was given to `watch` made no step: was another one made behind it, or is it one that"
                    " calls another's? It is that one whose steps are to be watched"
                )
            native = self._last_native()
        if native is not None:
            self._close(native, outcome, None)

    def _last_native(self) -> _native.Run | None:
        """What is to be closed, after all that is left was handed over to it. From here on the run takes nothing."""
        try:
            if self._native is not None:
                self._timeline.flush()
            elif self._timeline.open and not self._is_watching:
                self._failures.warn("nothing was watched, so that what was logged has no run to go to")
        finally:
            native, self._native = self._native, None
            if native is not None:
                self._last_attempt = native.attempt_id
            if (watch := self._watch()) is not None:
                watch.detach()
        return native

    def _close(self, native: _native.Run, outcome: str, timeout: float | None) -> None:
        report = native.close(outcome, timeout)
        _exit.ended(self)
        self._last_status = {key: value for key, value in report.items() if key not in ("words", "complete")}
        logger.log(logging.INFO if report["complete"] else logging.WARNING, "%s", report["words"])

    @guarded(None)
    def _end_with_process(self, outcome: str | None, timeout: float) -> None:
        """Ends it at the end of the process. A thread that is at work on it right now is not waited for long."""
        self._finished = True
        native: _native.Run | None = None
        if self._lock.acquire(timeout=timeout):
            try:
                # Spectra that are being computed would be waited for, as long as `finish` does.
                for frame in self._timeline.open:
                    frame.pending = [it for it in frame.pending if it not in frame.snapshots or it.ready()]
                native = self._last_native()
            finally:
                self._lock.release()
        if native is None:
            return
        if outcome is None:
            native.abandon(timeout)
        else:
            self._close(native, outcome, timeout)

    @property
    def id(self) -> str | None:
        """The run's UUID: None before it is known."""
        launch = self._launch()
        return launch.split("/")[0] if launch is not None else self._settings.run_id

    @property
    def checkpoint_id(self) -> str | None:
        """Text to keep in a checkpoint made now: `init(id=..., resume="allow")` goes on from here. None before `watch`."""
        launch = self._launch()
        if launch is None:
            return None
        run_id, attempt_id, _ = launch.split("/")
        return f"{run_id}/{self._attempt_id() or attempt_id}@{self._timeline.step}"

    @property
    def phase(self) -> int:
        """A counter to raise when training enters a phase whose updates must not share a window with those before."""
        return self._timeline.phase

    @phase.setter
    def phase(self, phase: int) -> None:
        self._set_phase(phase)

    @guarded(None)
    def _set_phase(self, phase: int) -> None:
        if isinstance(phase, bool) or not isinstance(phase, int) or not 0 <= phase < 1 << 32:
            raise ValueError(f"phase: {phase!r} is no counter")
        self._timeline.phase = phase

    def status(self) -> dict[str, Any]:
        """Counters: frames submitted, settled, dropped, rejected; failures of ours; why nothing is delivered."""
        status = self._status()
        return {"step": self._timeline.step, "failures": self._failures.count, **(status or self._last_status)}

    @guarded(None)
    def _launch(self) -> str | None:
        """run_id/attempt_id/started_at_us, what all processes of the job have in common."""
        # A forked child has its parent's connection to the store, and must not speak on it.
        if self._known_launch is None and self._topology is not None and self._process.is_ours():
            self._known_launch = self._topology.launch_of_all()
        return self._known_launch

    def _is_silent(self) -> bool:
        """Whether what is said here goes nowhere: behind the end, in a forked child, and where another process sends."""
        return self._finished or not self._process.is_ours() or not (self._topology is None or self._topology.sends)

    @guarded(None)
    def _attempt_id(self) -> str | None:
        """The attempt that is under way, if it is not the first one."""
        native = self._native
        if not self._process.is_ours():
            return None
        if native is None:
            silent = self._topology is not None and not self._topology.sends
            return self._topology.later_attempt() if silent and self._topology is not None else self._last_attempt
        with self._lock as is_within:
            if not is_within and any(frame.begins_attempt for frame in self._timeline.open):
                # Another attempt begins with it, which what is said of these steps belongs to.
                self._timeline.flush()
            # While it has not been closed by another thread.
            return native.attempt_id if self._native is not None else self._last_attempt

    @guarded(None)
    def _status(self) -> dict[str, Any] | None:
        native = self._native
        if native is None or not self._process.is_ours():
            return None
        try:
            return {**native.status(), "problem": native.problem()}
        except RuntimeError:
            # Closed in this very moment, by another thread.
            return None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        is_exit = isinstance(error, SystemExit) and error.code in (None, 0)
        self.finish("finished" if error is None or is_exit else "failed")

    # A model that holds its run may be copied, and may be saved: a copy has the same run, and one that is loaded, or that
    # another process is given, has one that does nothing.

    def __copy__(self) -> Run:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        return self

    def __reduce__(self) -> tuple[Callable[[str, str], Run], tuple[str, str]]:
        return _inert, (self._settings.project, self._settings.name)

    # What `Watch` builds on.

    def _open(self, spec: Spec, *, shard: tuple[int, int], launch: str) -> _native.Run:
        """Opens the stream."""
        settings = self._settings
        self._native = _native.Run.open(
            server=settings.server,
            token=settings.token,
            project=settings.project,
            name=settings.name,
            labels=list(settings.labels.items()),
            config_json=settings.config_json,
            launch=launch,
            shard=shard,
            resumes=settings.resumes,
            groups=spec.groups,
            layers=spec.layers,
            windows=spec.windows,
            sketch_dim=spec.sketch_dim,
            seed=spec.seed,
            encoding=spec.encoding,
            update_interval=spec.update_interval,
            buffer_bytes=settings.buffer_bytes,
            close_timeout=settings.close_timeout,
            spool_dir=settings.spool_dir,
            offline=settings.mode == "offline",
        )
        _exit.opened(self)
        return self._native

    def _frame_of(self, step: int | None) -> Frame | None:
        """The frame that something said of `step` goes to."""
        timeline = self._timeline
        if not self._is_watching and len(timeline.open) >= MAX_WAITING_FRAMES:
            self._failures.mistake("log: waiting", "log: too much was logged before `watch`; the rest until then is left out")
            return None
        if step is None:
            return timeline.current()
        if isinstance(step, bool) or not hasattr(step, "__index__"):
            raise TypeError(f"step: {step!r} is no step")
        step = int(step)
        if step > timeline.step + 1:
            self._failures.warn(
                f"log: step {step} runs ahead of the optimizer, which has made {timeline.step} steps;"
                " what is logged goes to the present step. Leave `step` out if you count something else",
                "log: ahead",
            )
            return timeline.current()
        frame = timeline.frame(step) if step >= 0 else None
        if frame is None:
            self._failures.mistake(
                "log: late", f"log: step {step} is over, the optimizer has made {timeline.step} steps; left out"
            )
        return frame

    def _submit(self, frame: Frame) -> None:
        """Hands a frame to the native client. Takes no exception out: a frame that is at fault must not cost another."""
        native = self._native
        if native is None:
            return
        try:
            if frame.base is not None:
                self._set_base(native, *frame.base)
            if any(snapshot.is_computing() for snapshot in frame.snapshots):
                self._failures.warn("spectra of dead directions that take too long are left out: give fewer samples")
                frame.snapshots = [snapshot for snapshot in frame.snapshots if not snapshot.is_computing()]
            if self._is_whole(native, frame):
                try:
                    self._submit_to(native, frame, frame.snapshots)
                except ValueError as error:
                    if not frame.snapshots:
                        raise
                    self._failures.note("submit", error)
                    self._submit_to(native, frame, [])
            if frame.next_interval is not None:
                native.change_update_interval(frame.step + 1, frame.next_interval)
                self._has_base = False
                if frame.sketches is not None:
                    self._set_base(native, frame.step, frame.sketches)
            if frame.next_groups is not None:
                groups, base = frame.next_groups
                native.change_groups(frame.step + 1, groups)
                self._set_base(native, frame.step, base)
            if frame.begins_attempt and self._topology is not None:
                self._topology.begin_attempt(native.attempt_id)
        except CAUGHT as error:
            self._failures.note("submit", error)
        finally:
            for done in frame.when_done:
                done()

    def _set_base(self, native: _native.Run, step: int, sketches: _native.Sketches) -> None:
        native.set_base(step, sketches)
        self._has_base = True

    def _is_whole(self, native: _native.Run, frame: Frame) -> bool:
        """Whether the frame says all that this process has to say of its step.

        The server adds up what shards bring of a row: one that brings nothing would pass for one that owns nothing. Without
        its frame the step is incomplete, as it should be.
        """
        if self._topology is None or self._topology.shard[1] == 1:
            return True
        if frame.sketches is not None and not self._has_base:
            # There is nothing to tell it from; it is what the next row starts from.
            self._set_base(native, frame.step, frame.sketches)
            return False
        return not frame.is_broken

    def _submit_to(self, native: _native.Run, frame: Frame, snapshots: list[_native.Snapshot]) -> None:
        native.submit(
            frame.step,
            phase=frame.phase,
            learning_rate=resolved(frame.learning_rate),
            weight_decay=frame.weight_decay,
            group_rates=[(name, resolved(lr), decay) for name, lr, decay in frame.group_rates],
            scalars=[(name, value) for name, it in frame.scalars.items() if (value := resolved(it)) is not None],
            sketches=frame.sketches,
            snapshots=snapshots,
            happened=frame.happened,
        )


def _inert(project: str, name: str) -> Run:
    from gradwatch._settings import Settings

    return Run(Settings(project, name, mode="disabled"), Failures())
