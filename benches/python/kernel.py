"""The speed of the sketch as Python calls it, beside the Rust benchmark of the same kernel on the same number of values.

Both run in turns, each with one thread, and say the median of many passes; a turn's ratio is that of its two medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

import machine
import torch
from gradwatch import _native

ELEMENTS = 124_000_000
DIM = 4096
SEED = 7


def from_python(values: torch.Tensor, passes: int) -> float:
    """Median seconds of a pass."""
    sketches = _native.Sketches(DIM, SEED, 1, [("all", [0])])
    pieces = [(0, _native.tensor_key("tensor.0"), 0, values.data_ptr(), values.numel(), "f32")]
    sketches.add(pieces)
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        sketches.add(pieces)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def from_rust(elements: int) -> float:
    """What the Rust benchmark says of the path that it finds best."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--quiet", "--package", "gradwatch-spectral", "--bench", "sketch"]
    done = subprocess.run([*command, "--", "--elements", str(elements)], stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    name = f"sketch f64, 1 tensor, {said['best_path']} vs. read"
    return 1e-3 * float(next(result["candidate_ms"] for result in said["results"] if result["name"] == name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=ELEMENTS)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--passes", type=int, default=31)
    parser.add_argument("--out", type=Path, default=Path("target/bench/python_kernel.json"))
    arguments = parser.parse_args()

    began = machine.machine()
    values = torch.rand(arguments.elements, generator=torch.Generator().manual_seed(SEED)) - 0.5
    gigabytes = 4e-9 * arguments.elements
    turns = []
    for _ in range(arguments.turns):
        # Python before and behind: what the machine does meanwhile hits both.
        before = from_python(values, arguments.passes)
        rust = from_rust(arguments.elements)
        behind = from_python(values, arguments.passes)
        python = (before + behind) / 2
        turns.append({"python_gb_s": gigabytes / python, "rust_gb_s": gigabytes / rust, "ratio": rust / python})
        print(", ".join(f"{key} {value:.3f}" for key, value in turns[-1].items()), flush=True)
    ratio = statistics.median(turn["ratio"] for turn in turns)
    print(f"from Python at {100 * ratio:.1f} % of the speed of the Rust benchmark; required: 90 %")
    machine.write(
        arguments.out,
        {
            "machine": began,
            "versions": machine.versions("torch", "gradwatch"),
            "elements": arguments.elements,
            "ratio": ratio,
            "turns": turns,
        },
    )


if __name__ == "__main__":
    main()
