"""gradwatch for Lightning:

    trainer = lightning.Trainer(callbacks=[gradwatch.lightning.Callback("gpt", "gpt-124m", every=10)])
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gradwatch._callback import Watching
from gradwatch._guard import guarded


class Callback(pl.Callback):
    """Watches `Trainer.fit`: takes the arguments of `gradwatch.init` and `Run.watch`.

    Metrics are those of `self.log(...)`, as often as Lightning's loggers take them and after each validation. A checkpoint of
    the trainer keeps where the run stands, so that `fit(ckpt_path=...)` goes on with the run.
    """

    def __init__(self, project: str, name: str, **settings: Any) -> None:
        self._watching = Watching(project, name, settings)
        self._failures = self._watching._failures
        self._step = 0
        # The values that were logged last: Lightning keeps those of a validation until the next one.
        self._logged: dict[str, torch.Tensor] = {}

    @property
    def state_key(self) -> str:
        return "gradwatch"

    @guarded(None)
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step
        if trainer.global_step == 0:
            # Training from its beginning, though the callback may have seen another.
            self._watching.resume_at(None)
        self._watching.begin(pl_module, trainer.optimizers, config=dict(pl_module.hparams))

    @guarded(None)
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A batch of several is no step; and a metric may lie on a device that is not to be waited for at every step.
        every = max(1, getattr(trainer, "log_every_n_steps", 1))
        if trainer.global_step // every > self._step // every:
            self._log(trainer)
        self._step = trainer.global_step

    @guarded(None)
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._log(trainer)

    @guarded(None)
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(trainer)

    @guarded(None)
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._watching.end("preempted" if isinstance(exception, SIGTERMException) else "failed")

    @guarded(None)
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Behind the last checkpoint.
        self._watching.end("finished")

    def state_dict(self) -> dict[str, Any]:
        return {"checkpoint_id": self._checkpoint_id()}

    @guarded(None)
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._watching.resume_at(state_dict["checkpoint_id"])

    @guarded(None)
    def _checkpoint_id(self) -> str | None:
        return self._watching.checkpoint_id

    def _log(self, trainer: pl.Trainer) -> None:
        metrics = trainer.callback_metrics
        new = {name: value for name, value in metrics.items() if self._logged.get(name) is not value}
        self._logged = dict(metrics)
        if self._watching.run is not None and new:
            self._watching.run.log(new)
