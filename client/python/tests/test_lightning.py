"""`gradwatch.lightning.Callback` with the real library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import Server
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradwatch.lightning


class Module(pl.LightningModule):
    """A regression with dropout."""

    def __init__(self, width: int = 16, fail_at: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, width), nn.Dropout(0.1), nn.ReLU(), nn.Linear(width, 1))
        self.fail_at = fail_at

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        if self.fail_at == self.global_step:
            raise ArithmeticError("the loss is odd")
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)


def fit(
    folder: Path,
    callbacks: list[pl.Callback],
    *,
    epochs: int = 2,
    ckpt_path: str | None = None,
    fail_at: int | None = None,
    **trainer: Any,
) -> tuple[Module, pl.Trainer]:
    pl.seed_everything(0, verbose=False)
    x = torch.randn(32, 8)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
    module = Module(fail_at=fail_at)
    it = pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    )
    it.fit(module, loader, loader, ckpt_path=ckpt_path)
    return module, it


def callback(server: Server, name: str, **settings: Any) -> gradwatch.lightning.Callback:
    return gradwatch.lightning.Callback(
        "lightning", name, **{"server": server.url, "strict": True, "every": 1, "windows": (3,), "dim": 256} | settings
    )


def run_of(server: Server, name: str) -> dict[str, Any]:
    (run,) = server.items("runs", project="lightning", name=name)
    return dict(run)


def test_a_fit_is_watched_from_its_begin_to_its_end(server: Server, tmp_path: Path) -> None:
    plain, _ = fit(tmp_path, [])
    watched, trainer = fit(tmp_path, [callback(server, "fit", labels={"team": "a"})])
    for ours, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)

    run = run_of(server, "fit")
    assert run["state"] == "finished"
    assert run["labels"] == {"team": "a"}
    assert run["config"]["width"] == 16
    steps = {step["step"]: step for step in server.steps(run["run_id"])}
    assert sorted(steps) == list(range(1, 17))
    assert steps[3]["lr"] == 1e-2 and steps[3]["weight_decay"] == 0.1
    # As often as Lightning's own loggers, and each validation where it was: once.
    assert [step for step in steps if "loss" in steps[step]["scalars"]] == list(range(2, 17, 2))
    assert [step for step in steps if "val_loss" in steps[step]["scalars"]] == [8, 16]
    assert steps[16]["scalars"]["val_loss"] == pytest.approx(float(trainer.callback_metrics["val_loss"]))
    assert len(server.readings(run["run_id"])) == 16


def test_accumulated_batches_are_one_step(server: Server, tmp_path: Path) -> None:
    fit(tmp_path, [callback(server, "accumulated")], accumulate_grad_batches=4)
    run = run_of(server, "accumulated")
    steps = {step["step"]: step["scalars"] for step in server.steps(run["run_id"])}
    assert sorted(steps) == [1, 2, 3, 4]
    assert [step for step in steps if "loss" in steps[step]] == [2, 4]


def test_an_exception_ends_the_run_as_failed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        fit(tmp_path, [callback(server, "failing")], fail_at=5)
    run = run_of(server, "failing")
    assert run["state"] == "failed"
    assert run["last_step"] == 5


def test_a_checkpoint_goes_on_with_its_run(server: Server, tmp_path: Path) -> None:
    _, trainer = fit(tmp_path, [callback(server, "resumed")])
    checkpoint = str(tmp_path / "last.ckpt")
    trainer.save_checkpoint(checkpoint)
    state = torch.load(checkpoint, weights_only=True)["callbacks"]["gradwatch"]
    run = run_of(server, "resumed")
    assert state["checkpoint_id"].startswith(run["run_id"])

    fit(tmp_path, [callback(server, "resumed")], epochs=3, ckpt_path=checkpoint)
    run = run_of(server, "resumed")
    assert run["state"] == "finished"
    assert [step["step"] for step in server.steps(run["run_id"])] == list(range(1, 25))
    assert [segment["segment"] for segment in server.items(f"runs/{run['run_id']}/segments")] == [1, 2]


def test_a_mistake_in_the_settings_does_not_stop_training(server: Server, tmp_path: Path) -> None:
    plain, _ = fit(tmp_path, [])
    for settings in [{"every": "never"}, {"nonsense": 1}, {"mode": "nonsense"}, {"labels": 3}]:
        with pytest.warns(gradwatch.GradwatchWarning):
            watched, _ = fit(tmp_path, [callback(server, "mistaken", **{"strict": False} | settings)])
        for ours, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    assert server.items("runs", project="lightning", name="mistaken") == []


def test_no_server(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path, [])
    nobody = gradwatch.lightning.Callback("lightning", "nobody", server="http://127.0.0.1:1", close_timeout=0.1, every=1)
    watched, _ = fit(tmp_path, [nobody])
    for ours, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_training_from_its_beginning_is_another_run(server: Server, tmp_path: Path) -> None:
    """As of cross-validation, which hands one callback to one trainer after the other."""
    again = callback(server, "folds")
    fit(tmp_path, [again])
    fit(tmp_path, [again])
    runs = server.items("runs", project="lightning", name="folds")
    assert [run["state"] for run in runs] == ["finished", "finished"]
    assert [len(server.items(f"runs/{run['run_id']}/segments")) for run in runs] == [1, 1]
