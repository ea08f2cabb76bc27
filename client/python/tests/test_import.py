"""`import gradwatch` costs next to nothing, and says nothing."""

from __future__ import annotations

import subprocess
import sys


def python(code: str, *flags: str) -> str:
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_import_is_silent_under_warnings_as_errors() -> None:
    assert python("import gradwatch; print(gradwatch.__version__)", "-W", "error").strip()


def test_import_needs_neither_torch_nor_numpy() -> None:
    code = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
import gradwatch
run = gradwatch.init(project="p", name="n", mode="disabled")
run.log({"loss": 1.0})
run.finish()
print(run.status()["failures"])
"""
    assert python(code).strip() == "0"
