"""`gradwatch.transformers.Callback` with the real library: a tiny GPT-2 with random weights, and nothing to download."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from conftest import Server
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments, set_seed

import gradwatch.transformers


class Counting(Dataset[dict[str, torch.Tensor]]):
    """Sequences that count upwards."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = (torch.arange(12) + index) % 24
        return {"input_ids": tokens, "labels": tokens}


def trainer(folder: Path, callbacks: list[TrainerCallback], **arguments: Any) -> Trainer:
    set_seed(0)
    # Input and output embeddings are tied, and dropout shows the random numbers.
    model = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_positions=12, n_embd=16, n_layer=2, n_head=2))
    settings = {
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "logging_steps": 3,
        "save_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **settings | arguments),
        train_dataset=Counting(),
        eval_dataset=Counting(),
        callbacks=callbacks,
    )


def callback(server: Server, name: str, **settings: Any) -> gradwatch.transformers.Callback:
    defaults = {"server": server.url, "strict": True, "every": 1, "windows": (3,), "dim": 256}
    return gradwatch.transformers.Callback("transformers", name, **defaults | settings)


def weights(it: Trainer) -> dict[str, torch.Tensor]:
    assert it.model is not None
    return {name: value.clone() for name, value in it.model.state_dict().items()}


def assert_equal(ours: Trainer, theirs: Trainer) -> None:
    ours_of, theirs_of = weights(ours), weights(theirs)
    assert ours_of.keys() == theirs_of.keys()
    assert all(torch.equal(ours_of[name], theirs_of[name]) for name in ours_of)


def run_of(server: Server, name: str) -> dict[str, Any]:
    (run,) = server.items("runs", project="transformers", name=name)
    return dict(run)


def test_training_is_watched_from_its_begin_to_its_end(server: Server, tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain", [])
    plain.train()
    watched = trainer(tmp_path / "watched", [callback(server, "train", groups={"attention": "*.attn.*", "all": "*"})])
    watched.train()
    assert_equal(watched, plain)

    run = run_of(server, "train")
    assert run["state"] == "finished"
    assert run["config"]["learning_rate"] == 1e-3
    steps = {step["step"]: step["scalars"] for step in server.steps(run["run_id"])}
    assert sorted(steps) == list(range(1, 13))
    assert [step for step in steps if "loss" in steps[step]] == [3, 6, 9, 12]
    assert [step for step in steps if "eval_loss" in steps[step]] == [6, 12]
    assert "train_runtime" in steps[12]
    for group in ("attention", "all"):
        assert len(server.readings(run["run_id"], group=group)) == 12
    # Looking at the model once more is no training.
    watched.evaluate()


def test_a_checkpoint_goes_on_with_its_run(server: Server, tmp_path: Path) -> None:
    trainer(tmp_path, [callback(server, "resumed")]).train()
    resumed = trainer(tmp_path, [callback(server, "resumed")], max_steps=16)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    run = run_of(server, "resumed")
    assert run["state"] == "finished"
    assert [segment["live_to_step"] for segment in server.items(f"runs/{run['run_id']}/segments")][0] == 8
    live = server.steps(run["run_id"])
    assert [step["step"] for step in live] == list(range(1, 17))
    assert [step["segment"] for step in live] == [1] * 8 + [2] * 8


def test_a_checkpoint_that_nobody_watched_begins_a_run(server: Server, tmp_path: Path) -> None:
    trainer(tmp_path, []).train()
    trainer(tmp_path, [callback(server, "begun")], max_steps=16).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    run = run_of(server, "begun")
    assert [step["step"] for step in server.steps(run["run_id"])] == list(range(1, 9))


def test_states_of_callbacks_may_be_restored(server: Server, tmp_path: Path) -> None:
    """transformers then makes callbacks anew from a checkpoint: ours is none of those."""
    trainer(tmp_path, [callback(server, "restored")]).train()
    again = trainer(tmp_path, [callback(server, "restored")], max_steps=16, restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert len(server.steps(run_of(server, "restored")["run_id"])) == 16


def test_a_second_training_is_a_second_run(server: Server, tmp_path: Path) -> None:
    it = trainer(tmp_path, [callback(server, "twice")])
    it.train()
    it.train()
    assert [run["state"] for run in server.items("runs", project="transformers", name="twice")] == ["finished", "finished"]


def test_a_mistake_in_the_settings_does_not_stop_training(server: Server, tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain", [])
    plain.train()
    for settings in [{"every": "never"}, {"nonsense": 1}, {"mode": "nonsense"}, {"labels": 3}]:
        watched = trainer(tmp_path / "watched", [callback(server, "mistaken", **{"strict": False} | settings)])
        with pytest.warns(gradwatch.GradwatchWarning):
            watched.train()
        assert_equal(watched, plain)
    assert server.items("runs", project="transformers", name="mistaken") == []


def test_a_training_that_begins_again_ends_the_run_before(server: Server, tmp_path: Path) -> None:
    """As `auto_find_batch_size` does: the callback hears of no end."""

    class TooLarge(TrainerCallback):
        times = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.times += 1
            if self.times == 2:
                raise RuntimeError("out of memory")

    it = trainer(tmp_path, [callback(server, "again"), TooLarge()])
    with pytest.raises(RuntimeError, match="out of memory"):
        it.train()
    it.train()
    runs = server.items("runs", project="transformers", name="again")
    assert sorted(run["state"] for run in runs) == ["failed", "finished"]


def test_who_saves_no_checkpoint_does_not_ask_where_the_run_stands(server: Server, tmp_path: Path) -> None:
    """A process that sends nothing would ask another one, over the network, at every step."""
    it = callback(server, "silent")
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    model = torch.nn.Linear(2, 2)
    state, control = TrainerState(), TrainerControl()
    it.on_train_begin(args, state, control, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    for saves, kept in ((False, {}), (True, {"gradwatch": {"checkpoint_id": it._watching.checkpoint_id}})):
        it.on_step_end(SimpleNamespace(should_save=saves), state, control)  # type: ignore[arg-type]
        assert state.stateful_callbacks == kept
    it.on_train_end(args, state, control)
