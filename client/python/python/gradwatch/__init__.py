"""Watches a training job from the inside.

    import gradwatch

    run = gradwatch.init(project="gpt", name="gpt-124m", config={"lr": 3e-4})
    run.watch(model, optimizer, groups={"attention": "*.attn.*", "all": "*"}, every=10)
    run.log({"loss": loss.item()})

Nothing here hurts training: what goes wrong is counted, said once as a `GradwatchWarning`, and training goes on unwatched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradwatch import instruments as _instruments
from gradwatch._guard import GradwatchWarning
from gradwatch._native import __version__
from gradwatch._run import Run
from gradwatch._settings import init

if TYPE_CHECKING:
    from gradwatch.instruments import Cascade, Curvature, DeadDirections, LearningCell

__all__ = [
    "Cascade",
    "Curvature",
    "DeadDirections",
    "GradwatchWarning",
    "LearningCell",
    "Run",
    "__version__",
    "init",
]


def __getattr__(name: str) -> Any:
    """The instruments import PyTorch, and the callbacks their libraries, so only who names one does."""
    if name in _instruments.MODULES:
        return getattr(_instruments, name)
    if name in ("lightning", "transformers"):
        return importlib.import_module(f"gradwatch.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
