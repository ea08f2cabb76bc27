"""What the callbacks of Lightning and transformers have in common."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradwatch._guard import Failures
from gradwatch._run import Run
from gradwatch._settings import init

if TYPE_CHECKING:
    import torch


class Watching:
    """A run that begins and ends with a trainer's training; made of the arguments of `gradwatch.init` and `Run.watch`."""

    def __init__(self, project: str, name: str, settings: Mapping[str, Any]) -> None:
        of_watch = inspect.signature(Run.watch).parameters
        self._watch_settings = {key: value for key, value in settings.items() if key in of_watch}
        self._init_settings = {"project": project, "name": name} | {
            key: value for key, value in settings.items() if key not in of_watch
        }
        self._failures = Failures(strict=bool(settings.get("strict")))
        # Where training goes on: what a checkpoint says, then what the run says.
        self._checkpoint_id: str | None = None
        self.run: Run | None = None

    def begin(
        self,
        model: torch.nn.Module,
        optimizers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Begins a run, or goes on with that of the checkpoint which training goes on from."""
        settings = dict(self._init_settings)
        settings.setdefault("config", config)
        if self._checkpoint_id is not None:
            settings |= {"id": self._checkpoint_id, "resume": "allow"}
        if self.run is not None:
            # Of a training that ended without a word, as one does whose batch was too large, and that begins again.
            self.run.finish("failed")
        self.run = init(**settings)
        self.run.watch(model, optimizers, **self._watch_settings)

    def resume_at(self, checkpoint_id: Any) -> None:
        """The next training goes on from a checkpoint that keeps this; None: from none."""
        self._checkpoint_id = checkpoint_id if isinstance(checkpoint_id, str) else None

    @property
    def checkpoint_id(self) -> str | None:
        """What a checkpoint made now keeps."""
        if self.run is not None:
            self._checkpoint_id = self.run.checkpoint_id
        return self._checkpoint_id

    def end(self, outcome: str) -> None:
        """Ends the run, if it has not ended yet. Training that goes on later, not from its beginning, goes on with it."""
        self._checkpoint_id = self.checkpoint_id
        run, self.run = self.run, None
        if run is not None:
            run.finish(outcome)
