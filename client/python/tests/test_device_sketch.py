"""The sketch by PyTorch operations, as on a CUDA device, is the native one up to rounding. No GPU is needed: the operations
are the same on the CPU."""

from __future__ import annotations

from typing import Any

import fake_device
import gradwatch
import numpy as np
import pytest
import torch
from conftest import Server
from gradwatch import _device_sketch, _native, _sketching
from gradwatch._device_sketch import DeviceSketch, Slice
from gradwatch._parameters import DTYPES
from gradwatch._shards import Owned
from jobs import same, train
from numpy.typing import NDArray
from torch import nn

CPU = torch.device("cpu")


def native(d: int, seed: int, atoms: int, slices: list[Slice]) -> NDArray[np.float64]:
    sketches = _native.Sketches(d, seed, atoms, [(f"{i}", [i]) for i in range(atoms)])
    sketches.add(
        [(s.atom, s.key, s.offset, s.values.data_ptr(), s.values.numel(), DTYPES[s.values.dtype]) for s in slices]
    )
    return np.stack([np.frombuffer(sketches.group(i)) for i in range(atoms)])


def some(d: int, dtype: torch.dtype) -> list[Slice]:
    """Slices of every shape: within a chunk, over its edge, whole chunks, large, far inside a tensor, in several atoms."""
    generator = torch.Generator().manual_seed(d)
    places = [(1, 0), (1, d - 1), (63, 5), (64, 64), (d, 0), (d, 1), (3 * d + 17, d - 1), (70_000, 12_345)]
    places += [(131_072, 1 << 33), (200_000, 0), (5 * d, 7 * d)]
    return [
        Slice(i % 3, _native.tensor_key(f"t{i}"), torch.randn(n, generator=generator, dtype=torch.float64).to(dtype), at)
        for i, (n, at) in enumerate(places)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [64, 128, 4096, 65_536])
def test_it_is_the_native_sketch(d: int, dtype: torch.dtype) -> None:
    slices = some(d, dtype)
    expected = native(d, 7, 4, slices)
    sketch = DeviceSketch(CPU, d, 7, 4)
    for _ in range(2):
        actual = sketch.take(slices).numpy()
        assert np.abs(actual - expected).max() <= 1e-12 * np.abs(expected).max()
    # The fourth atom has nothing.
    assert not actual[3].any()


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_device_sketch, "PIECE", 1 << 13)
    monkeypatch.setattr(_device_sketch, "SMALL", 1 << 10)
    largest = 0
    index_add = torch.Tensor.index_add_

    def watched(self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, source.numel())
        # One index for each block of 64 values.
        assert index.numel() * 64 == source.numel()
        return index_add(self, dim, index, source)

    monkeypatch.setattr(torch.Tensor, "index_add_", watched)
    slices = some(256, torch.float32)
    actual = DeviceSketch(CPU, 256, 1, 4).take(slices).numpy()
    assert np.abs(actual - native(256, 1, 4, slices)).max() < 1e-9
    # Small slices are put together until they are a piece or more.
    assert largest <= (1 << 13) + 4 * 256


def test_what_is_not_finite_stays_where_it_is() -> None:
    values = torch.zeros(1000)
    values[3], values[500], values[999] = float("nan"), float("inf"), -float("inf")
    slices = [Slice(0, _native.tensor_key("w"), values, 10)]
    expected, actual = native(64, 0, 1, slices), DeviceSketch(CPU, 64, 0, 1).take(slices).numpy()
    assert np.array_equal(np.isfinite(actual), np.isfinite(expected))
    assert np.array_equal(np.isposinf(actual), np.isposinf(expected))


@pytest.mark.parametrize("piece", [1 << 22, 1 << 8, 16])
def test_blocks_are_sketched_where_they_lie(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """A tensor of 30 × 40 of which this process has columns 10 to 24 of rows 5 to 24."""
    monkeypatch.setattr(_sketching, "PIECE", piece)
    whole = torch.zeros(30, 40)
    whole[5:25, 10:25] = torch.randn(20, 15, generator=torch.Generator().manual_seed(0))
    key = _native.tensor_key("w")
    part = Owned(whole[5:25, 10:25], offset=5 * 40 + 10, length=15, stride=40)
    slices = _sketching._slices(_sketching._Tensor(0, key, None, None), part)  # type: ignore[arg-type]
    expected = native(64, 0, 1, [Slice(0, key, whole, 0)])
    actual = DeviceSketch(CPU, 64, 0, 1).take(slices).numpy()
    assert np.abs(actual - expected).max() < 1e-12
    sketches = _native.Sketches(64, 0, 1, [("w", [0])])
    values = part.values.contiguous()
    sketches.add_blocks(0, key, part.offset, part.stride, part.length, values.data_ptr(), values.numel(), "f32")
    assert np.frombuffer(sketches.group(0)) == pytest.approx(expected[0], abs=1e-12)


@pytest.mark.parametrize("every", [1, 3])
def test_rows_that_arrive_late_are_submitted_in_their_order(
    monkeypatch: pytest.MonkeyPatch, server: Server, every: int
) -> None:
    """The way of a CUDA row, with the CPU in the device's place."""

    def watched(on_device: bool) -> tuple[Any, Any]:
        run = gradwatch.init(project="device", name="n", server=server.url, strict=True)
        if on_device:
            fake_device.put_in_place(monkeypatch)

        def watching(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            groups = {"attention": "*.attn.*", "all": "*"}
            run.watch(model, optimizer, groups=groups, every=every, encoding="f32")
            fake_device.Event.waited = 0

        trained = train(20, watching=watching, behind_step=lambda step, loss: run.log({"loss": loss}))
        # Nobody has waited for a device before the end.
        assert fake_device.Event.waited == 0
        run.finish()
        assert run.id is not None
        return trained, [[r["step"], r["update_norm"]] for r in server.readings(run.id, group="all")]

    (bare, expected), (seen, rows) = watched(False), watched(True)
    assert same(bare, seen)
    assert [step for step, _ in rows] == [step for step, _ in expected] == list(range(every, 21, every))
    assert [norm for _, norm in rows] == pytest.approx([norm for _, norm in expected], rel=1e-6)
