"""Watching an optimizer: a row of sketches every so many steps."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from gradwatch import _shards
from gradwatch._cadence import Cadence
from gradwatch._frames import DeclaredGroups, Frame
from gradwatch._guard import CAUGHT
from gradwatch._groups import Groups, Resolved, resolve
from gradwatch._parameters import Parameters, collect, unwrapped
from gradwatch._rates import Rates
from gradwatch._run import Spec
from gradwatch._sketching import Row, Sketching
from gradwatch.instruments._schedule import Schedule

if TYPE_CHECKING:
    from gradwatch import _native
    from gradwatch._run import Run
    from gradwatch.instruments import Instrument

# Names in a message, the first of many.
SHOWN = 3
NEVER = 1 << 62
# How long a process waits for what the first one has said long ago, unless something is wrong with it.
AGREEMENT_S = 10.0

# Hooks of watches that are over, to be taken off when the optimizer is watched again. Not earlier: `finish` may be called by
# another thread while a step of the optimizer is on its way through its hooks, which must not change then.
_over: WeakKeyDictionary[torch.optim.Optimizer, list[Any]] = globals().get("_over", WeakKeyDictionary())


class Watch:
    """The hooks on one job's optimizers.

    Invariants: parameters are only read; nothing that training depends on is changed: gradients, random numbers, modes,
    devices. No exception leaves a hook. Between two rows a hook counts and returns.
    """

    def __init__(
        self,
        run: Run,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        groups: Groups,
        every: int | Cadence,
        instruments: Iterable[Instrument],
        *,
        windows: Sequence[int],
        dim: int,
        seed: int,
        encoding: str,
    ) -> None:
        self._run = run
        self._timeline = run._timeline
        # They hold us, with their hooks: held in turn, they and the model would outlive their program's last mention of them
        # until the garbage collector comes by, with their memory.
        self._optimizer_refs = [weakref.ref(unwrapped(optimizer)) for optimizer in optimizers]
        self._cadence = every if isinstance(every, Cadence) else None
        self._every = every.every if isinstance(every, Cadence) else every
        # The row with which a choice that was made applies.
        self._choice_at: int | None = None
        self._chosen_at = 0
        self._choice = self._every
        self._handles: list[tuple[weakref.ref[torch.optim.Optimizer], Any]] = []
        self._is_over = False
        self._native: _native.Run | None = None
        self._sketching: Sketching | None = None
        self._instruments: Schedule | None = None
        # What the first row starts from, until that row is taken.
        self._base: Row | None = None
        self._base_step = 0
        self._has_base = False
        self._first_handles: list[tuple[weakref.ref[torch.optim.Optimizer], Any]] = []

        self._model = model
        self._groups = groups
        self._dim = dim
        self._seed = seed
        parameters, resolved = self._parameters, self._resolved = self._find()
        self._say_what_is_missing(parameters, resolved)
        self._trained = self._what_is_trained()
        self._rates = Rates(self._optimizers, parameters.watched, resolved.groups)

        settings = run._settings
        topology = self._topology = run._topology = _shards.topology(
            model,
            [(p.name, p.tensor) for p in parameters.watched],
            [settings.project, settings.name],
            settings.identity,
        )
        # A step counts when all shards have sent a frame of it. So each sends one of every step: another may have something
        # to say of it.
        self._every_step = topology.sends and topology.shard[1] > 1
        if topology.launch is not None:
            spec = Spec()
            spec.groups = self._declared()
            self._instruments = Schedule(
                instruments, model, self._timeline.step, run._failures, reads=topology.shard[0] == 0
            )
            spec.layers = self._instruments.layers
            spec.windows = list(windows)
            spec.sketch_dim, spec.seed, spec.encoding, spec.update_interval = dim, seed, encoding, self._every
            self._sketching = self._sketching_of_all()
            self._sketching.prepare()
            self._native = run._open(spec, shard=topology.shard, launch=topology.launch)
        # The next step with a row, and the next with anything to do.
        self._next_row = self._timeline.step + self._every
        self._next = self._timeline.step + 1 if self._native is not None else NEVER
        if self._every_step:
            self._timeline.current()
        self._hook()

    def detach(self) -> None:
        """From here on the hooks do nothing."""
        self._is_over = True
        for ref, handle in [*self._handles, *self._first_handles]:
            if (optimizer := ref()) is not None:
                _over.setdefault(optimizer, []).append(handle)
        self._handles.clear()
        self._first_handles.clear()
        if self._instruments is not None:
            self._instruments.detach()

    # What is watched.

    @property
    def _optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer for ref in self._optimizer_refs if (optimizer := ref()) is not None]

    def _find(self) -> tuple[Parameters, Resolved]:
        parameters = collect(self._model, self._optimizers)
        return parameters, resolve(self._groups, [(p.name, *p.aliases) for p in parameters.watched])

    def _declared(self) -> DeclaredGroups:
        watched = self._parameters.watched
        return [(name, [(watched[i].name, watched[i].elements) for i in members]) for name, members in self._resolved.groups]

    def _sketching_of_all(self) -> Sketching:
        sketching = Sketching(
            self._parameters.watched,
            self._resolved.atom_of,
            self._resolved.atoms,
            self._resolved.atoms_of,
            dim=self._dim,
            seed=self._seed,
            topology=self._topology,
            failures=self._run._failures,
        )
        if self._cadence is not None:
            sketching.device_cost = self._cadence.device_cost
        return sketching

    def _what_is_trained(self) -> list[int]:
        in_optimizers = [id(p) for o in self._optimizers for group in o.param_groups for p in group["params"]]
        return in_optimizers + [id(tensor) for tensor in self._parameters.frozen if tensor.requires_grad]

    def _follow(self, frame: Frame) -> None:
        """Looks whether the optimizer has come to train other parameters: what is watched changes with them, and another
        attempt begins, which declares them."""
        trained = self._what_is_trained()
        if trained == self._trained:
            return
        self._trained = trained
        before = self._parameters, self._resolved
        parameters, resolved = self._find()
        if not resolved.groups or [id(p.tensor) for p in parameters.watched] == [id(p.tensor) for p in before[0].watched]:
            return
        if self._topology.shard[1] > 1:
            self._run._failures.warn(
                "the optimizer trains other parameters than when `watch` was called; in shards only those of then are watched"
            )
            return
        self._parameters, self._resolved = parameters, resolved
        try:
            sketching = self._sketching_of_all()
            row = sketching.take()
        except BaseException:
            self._parameters, self._resolved = before
            raise
        self._sketching = sketching
        self._rates = Rates(self._optimizers, parameters.watched, resolved.groups)
        frame.next_groups = (self._declared(), row.sketches)
        frame.pending += row.pending
        frame.when_done.append(partial(sketching.give_back, row.sketches))

    # Hooks.

    def _hook(self) -> None:
        # Compilers must not look into the hooks: they would make a new program for every step.
        for optimizer in self._optimizers:
            for handle in _over.pop(optimizer, ()):
                handle.remove()
        disable: Any = torch.compiler.disable
        first = self._optimizers[0]
        self._handles.append((weakref.ref(first), first.register_step_post_hook(disable(self._after_step))))
        if self._native is not None:
            before = disable(self._before_step)
            self._first_handles = [(weakref.ref(it), it.register_step_pre_hook(before)) for it in self._optimizers]

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        # What was loaded or moved since `watch` is no update, so the base is what the first step finds.
        if self._sketching is None or self._has_base or self._is_over:
            return
        self._has_base = True
        try:
            if self._may_look():
                self._base = self._sketching.take()
                self._base_step = self._timeline.step
        except CAUGHT as error:
            self._failed(error)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_over:
            return
        timeline = self._timeline
        step = timeline.step + 1
        if step < self._next and not timeline.open:
            timeline.step = step
            return
        try:
            if self._may_look():
                with self._run._lock:
                    # Not before: another thread that calls `flush` would submit the step without its row.
                    timeline.step = step
                    self._on_step(step)
        except CAUGHT as error:
            self._failed(error)
        finally:
            # It was made, whatever became of our look at it.
            timeline.step = step

    def _may_look(self) -> bool:
        """Not in a forked child, and not while a CUDA graph is recorded: it would hold our work as well, and do it for ever."""
        if not self._run._process.is_ours():
            return False
        cuda: Any = torch.cuda
        if cuda.is_initialized() and cuda.is_current_stream_capturing():
            self._run._failures.warn("steps in a CUDA graph are not watched: the optimizer is not there when they are made")
            return False
        return True

    def _failed(self, error: BaseException) -> None:
        if self._run._failures.strict:
            raise error
        self._run._failures.note("watch", error)

    def _on_step(self, step: int) -> None:
        while self._first_handles:
            self._first_handles.pop()[1].remove()
        cadence, has_row = self._cadence, step >= self._next_row
        if cadence is not None and (has_row or cadence.looks_at_every_step):
            cadence.begin(step)
        # The last step is kept open: scalars of it may come late, with a count that starts at 0.
        self._timeline.release(before=step - 1)
        if self._every_step:
            self._timeline.frame(step)
        if has_row:
            self._next_row = step + self._every
            try:
                self._take_row(step)
            except CAUGHT as error:
                # What follows is done all the same: other shards do it too.
                self._failed(error)
        if cadence is not None and (has_row or cadence.looks_at_every_step):
            cadence.end(step, has_row)
            if has_row:
                self._choose(cadence, step)
        self._next = self._next_row
        if self._instruments is not None:
            if step >= self._instruments.next:
                self._take_snapshots(step, self._instruments)
            self._next = min(self._next, self._instruments.next)
        if cadence is not None and cadence.looks_at_every_step:
            self._next = step + 1

    def _choose(self, cadence: Cadence, step: int) -> None:
        """Lets the budget decide, at the same steps in all processes: the first one chooses, and all of them follow with a
        row that none of them can have reached before it has chosen."""
        topology = self._topology
        alone = topology.shard[1] == 1
        if self._choice_at is None and cadence.is_time_to_choose(step):
            self._choice_at, self._chosen_at = step if alone else step + 2 * self._every, step
            if topology.decides:
                choice = cadence.choose()
                # Nobody follows what could not be said, this process neither.
                topology.agreement.publish(f"every/{step}", str(choice))
                self._choice = choice
        if self._choice_at is None or step < self._choice_at:
            return
        self._choice_at = None
        if not topology.decides:
            text = topology.agreement.wait(f"every/{self._chosen_at}", lambda _: True, AGREEMENT_S)
            if text is None:
                self._cadence = None
                raise TimeoutError("the first process did not say how often to watch")
            self._choice = int(text)
        cadence.change(self._choice)
        if self._choice == self._every:
            return
        self._every = self._choice
        self._next_row = step + self._every
        frame = self._timeline.frame(step)
        if frame is not None:
            frame.next_interval = self._every

    def _take_row(self, step: int) -> None:
        if self._sketching is None:
            return
        frame = self._timeline.frame(step)
        if frame is None:
            return
        # Until it has its row: without, the sum of the other shards' parts would pass for the whole.
        frame.is_broken = self._every_step
        row = self._sketching.take()
        frame.is_broken = False
        if self._base is not None:
            frame.base = (self._base_step, self._base.sketches)
            frame.pending += self._base.pending
            frame.when_done.append(partial(self._sketching.give_back, self._base.sketches))
            self._base = None
        frame.phase = self._timeline.phase
        frame.sketches = row.sketches
        frame.pending += row.pending
        frame.when_done.append(partial(self._sketching.give_back, row.sketches))
        self._rates.put_into(frame)
        self._follow(frame)

    def _take_snapshots(self, step: int, instruments: Schedule) -> None:
        for snapshot in instruments.take(step):
            frame = self._timeline.frame(step)
            if frame is not None:
                frame.snapshots.append(snapshot)
                frame.pending.append(snapshot)

    # What people should know.

    def _say_what_is_missing(self, parameters: Parameters, resolved: Resolved) -> None:
        if not parameters.watched:
            raise ValueError(
                "the optimizer trains none of the model's parameters"
                " (was it made before the model was moved, wrapped or sharded?)"
            )
        if not resolved.groups:
            raise ValueError(f"groups: none of {', '.join(map(repr, resolved.empty))} has a parameter")
        for reason, names in parameters.left_out.items():
            self._run._failures.warn(f"{_some(names)}: left out, because {reason}")
        for name in resolved.empty:
            self._run._failures.warn(f"groups: {name!r} has no parameter; left out")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
