"""gradwatch for transformers:

    trainer = Trainer(..., callbacks=[gradwatch.transformers.Callback("gpt", "gpt-124m", every=10)])
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradwatch._callback import Watching
from gradwatch._guard import guarded

# Under which name the trainer's state, and with it each of its checkpoints, keeps where the run stands.
_KEY = "gradwatch"


class Callback(TrainerCallback):
    """Watches `Trainer.train`: takes the arguments of `gradwatch.init` and `Run.watch`.

    Scalars are those that the trainer logs. Its checkpoints keep where the run stands, so that
    `train(resume_from_checkpoint=...)` goes on with the run.
    """

    def __init__(self, project: str, name: str, **settings: Any) -> None:
        self._watching = Watching(project, name, settings)
        self._failures = self._watching._failures

    @guarded(None)
    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        self._watching.resume_at(_states(state).get(_KEY, {}).get("checkpoint_id"))
        if model is not None and optimizer is not None:
            self._watching.begin(model, optimizer, config=args.to_sanitized_dict())

    @guarded(None)
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._keep(args, state)

    @guarded(None)
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._keep(args, state)

    @guarded(None)
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._watching.run is not None and logs:
            self._watching.run.log({name: value for name, value in logs.items() if isinstance(value, int | float)})

    @guarded(None)
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._watching.end("finished")

    def _keep(self, args: TrainingArguments, state: TrainerState) -> None:
        # Before each save: the trainer writes its state, and then tells its callbacks of it. Those who write none need not
        # ask, which is a question to another process where nothing is sent.
        if args.should_save and (checkpoint_id := self._watching.checkpoint_id) is not None:
            _states(state)[_KEY] = {"checkpoint_id": checkpoint_id}


def _states(state: TrainerState) -> dict[str, Any]:
    states: Any = state.stateful_callbacks
    return states if isinstance(states, dict) else {}
