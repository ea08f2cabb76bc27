"""The gradient, for the cascade."""

from __future__ import annotations

import math

import torch

from gradwatch import _native
from gradwatch.instruments._base import Declined, LayerInstrument
from gradwatch.instruments._lookup import parameters_matching
from gradwatch.instruments._memory import single, values
from gradwatch.instruments._undisturbed import is_sharded

WINDOW = 4096
MAX_WHOLE = 1 << 20
# What a gradient's square is summed over at once: bounds the memory that the sum in float64 takes.
PIECE = 1 << 22
# The largest float16, so that no value becomes infinite on its way.
LARGEST = 65_504.0


class Cascade(LayerInstrument):
    """How unevenly large entries of a gradient lie: 16 windows of 4,096 entries of it, 128 KiB a snapshot.

    The gradient is that which the optimizer has seen: `.grad` right behind its step, so after clipping and accumulation. A
    parameter without one counts as zeros. Only the windows leave the device.

    Args:
        parameters: A glob or several; the parameters that require gradients are taken in the model's order.
        every: The least number of optimizer steps between two snapshots.
        name: The layer's name on the server.
        whole: Send all entries as well, of at most 1,048,576: for readings across a family of widths.
    """

    instrument = "cascade"

    def __init__(
        self, parameters: str | list[str] = "*", every: int = 500, name: str = "gradient", whole: bool = False
    ) -> None:
        super().__init__(name, every)
        self._patterns = [parameters] if isinstance(parameters, str) else list(parameters)
        self._whole = whole
        self._parameters: list[torch.nn.Parameter] = []

    def detach(self) -> None:
        super().detach()
        self._parameters = []

    def _find(self, model: torch.nn.Module) -> tuple[int, str]:
        self._parameters = list(parameters_matching(model, self._patterns))
        if not self._parameters:
            raise ValueError(f"parameters: none that is trained matches {', '.join(self._patterns)}")
        if is_sharded(model, self._parameters):
            raise Declined("the gradient is sharded: no process has it all")
        total = sum(parameter.numel() for parameter in self._parameters)
        if self._whole and total > MAX_WHOLE:
            raise ValueError(f"whole: {total} entries, at most {MAX_WHOLE}")
        if not self._whole and total < WINDOW:
            raise ValueError(f"parameters: {total} entries, a window has {WINDOW}: send the whole gradient")
        return 0, ""

    def _take(self, model: torch.nn.Module) -> _native.Snapshot:
        gradients = [parameter.grad for parameter in self._parameters]
        if all(gradient is None for gradient in gradients):
            raise ValueError("no parameter has a gradient behind the optimizer's step: it is set to None within")
        for gradient in gradients:
            if gradient is not None and (gradient.layout != torch.strided or gradient.is_complex()):
                raise Declined("the gradient is sparse or complex")
        with torch.no_grad():
            if self._whole:
                tensors = [
                    torch.zeros(parameter.numel(), dtype=torch.float32, device="cpu") if gradient is None else single(gradient).reshape(-1)
                    for parameter, gradient in zip(self._parameters, gradients, strict=True)
                ]
                return _native.Snapshot.cascade(self.layer, [values(tensor) for tensor in tensors])
            windows = cut_windows(gradients, [parameter.numel() for parameter in self._parameters])
            return _native.Snapshot.cascade_windows(self.layer, values(windows))


def cut_windows(gradients: list[torch.Tensor | None], sizes: list[int]) -> torch.Tensor:
    """Each tensor divided by its RMS, magnitudes, row-major, all tensors one after the other; 16 windows of that.

    Invariant: nothing but the windows is copied from the gradients' device, and tensors that no window reaches into are not
    read.
    """
    positions = _native.window_positions(sum(sizes))
    parts: list[list[torch.Tensor]] = [[] for _ in positions]
    scales: list[torch.Tensor] = []
    start = 0
    for gradient, size in zip(gradients, sizes, strict=True):
        within = [
            (window, max(position - start, 0), min(position + WINDOW - start, size))
            for window, position in enumerate(positions)
            if position < start + size and position + WINDOW > start
        ]
        start += size
        if not within:
            continue
        if gradient is None:
            for window, first, end in within:
                parts[window].append(torch.zeros(end - first, dtype=torch.float64, device="cpu"))
            continue
        flat = gradient.detach().reshape(-1)
        scale = root_mean_square(flat)
        scales.append(scale)
        for window, first, end in within:
            entries = flat[first:end].double().abs()
            parts[window].append(torch.where(scale == 0, entries, entries / scale).clamp(max=LARGEST))
    pieces = [part for window in parts for part in window] + [scale.reshape(1) for scale in scales]
    if len({piece.device for piece in pieces}) > 1:
        pieces = [piece.cpu() for piece in pieces]
    # The one copy.
    everything = torch.cat(pieces).cpu()
    windows, found = everything[: len(positions) * WINDOW], everything[len(positions) * WINDOW :]
    if not bool(found.isfinite().all()):
        # Of a gradient that is not finite, one window of NaN: each of its windows would say no more.
        return torch.full((WINDOW,), float("nan"), dtype=torch.float32, device="cpu")
    return single(windows)


def root_mean_square(flat: torch.Tensor) -> torch.Tensor:
    """In float64, where the tensor lies, without waiting for it."""
    norms = [torch.linalg.vector_norm(piece, dtype=torch.float64) for piece in torch.split(flat, PIECE)]
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm / math.sqrt(flat.numel())
