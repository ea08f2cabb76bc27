"""The wheel as it is installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import gradwatch


def test_importing_says_nothing_and_imports_nothing_big() -> None:
    code = "import gradwatch, sys; print(sorted({'torch', 'numpy', 'lightning', 'transformers'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_wheel_says_its_version_and_that_it_is_typed() -> None:
    assert gradwatch.__version__ == importlib.metadata.version("gradwatch")
    assert (Path(gradwatch.__file__).parent / "py.typed").is_file()


def test_one_wheel_is_for_every_python() -> None:
    wheel = importlib.metadata.distribution("gradwatch").read_text("WHEEL")
    assert wheel is not None
    assert "Tag: cp310-abi3-" in wheel
