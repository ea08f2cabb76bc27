"""Activations and per-sample gradients of a layer, for its dead directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradwatch import _native
from gradwatch.instruments._base import Declined, LayerInstrument, Skipped
from gradwatch.instruments._lookup import module_named
from gradwatch.instruments._memory import on_cpu, reals
from gradwatch.instruments._undisturbed import check_passes, undisturbed

Gauge = Callable[[torch.nn.Module], torch.Tensor | Iterable[torch.Tensor]]

MAX_WIDTH = 65_536
# rows x width^2: about a minute of a core.
MAX_WORK = 400_000_000_000
# Where modules keep how wide their output is.
_WIDTHS = ("out_features", "out_channels", "embedding_dim", "num_features", "nf")


class DeadDirections(LayerInstrument):
    """How many directions of a layer carry no gradient: spectra of per-sample gradients and of activations.

    Row i of the gradients is that of sample i's own loss with respect to the module's output (the pre-activation), all of
    them from one backward pass of the sum. That is right as long as no sample's loss depends on another sample: batch
    normalisation in train mode breaks it. Of a sequence or an image every position is a row, with the gradient of the loss
    of the whole of it. The spectra are computed on a thread beside training, in time that grows as rows x width^2; there
    is no snapshot while the one before is computed.

    Args:
        module: The name of the module whose output is the pre-activation.
        loss: Called with the model (without the wrapper of torch.compile or DDP), gives a loss for every sample of a
            fixed batch (`reduction="none"`), best 100 x width of them. Only the model that it is given is protected from it.
        every: The least number of optimizer steps between two snapshots.
        batch: Whether the batch is trained on, "train", or not, "held_out".
        activation: What the pre-activation goes through: a function of it, or the name of a module whose output it is.
            None: the pre-activation is taken for the activation.
        gauge: Directions that are dead by construction: "ones" at the logits of a softmax, or a function of the model
            that gives them, each of the layer's width.
        width: The layer's width, where the module does not say it.
        name: The layer's name on the server. Default: the module's.
    """

    instrument = "dead_directions"

    def __init__(
        self,
        module: str,
        loss: Callable[[torch.nn.Module], torch.Tensor],
        every: int = 2_000,
        batch: str = "train",
        activation: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
        gauge: str | Gauge | None = None,
        width: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or module, every)
        if batch not in ("train", "held_out"):
            raise ValueError(f"batch: {batch!r} is neither train nor held_out")
        if isinstance(gauge, str) and gauge != "ones":
            raise ValueError(f'gauge: {gauge!r} is neither "ones" nor a function of the model')
        if not callable(loss):
            raise TypeError("loss: is not callable")
        self._module = module
        self._loss = loss
        self._batch = batch
        self._activation = activation
        self._gauge = gauge
        self._given_width = width
        self._width = 0
        self._last: _native.Snapshot | None = None

    def detach(self) -> None:
        super().detach()
        self._last = None

    def _find(self, model: torch.nn.Module) -> tuple[int, str]:
        module = module_named(model, self._module)
        if isinstance(self._activation, str):
            module_named(model, self._activation)
        self._width = self._given_width or _width_of(module)
        if not 1 <= self._width <= MAX_WIDTH:
            raise ValueError(f"width: {self._width} is not between 1 and {MAX_WIDTH}")
        check_passes(model)
        return self._width, ""

    def _take(self, model: torch.nn.Module) -> _native.Snapshot:
        # One thread of ours beside training, not more.
        if self._last is not None and self._last.is_computing():
            raise Skipped("the spectra of the snapshot before are still being computed: choose a longer `every`")
        rows, delta, gauge = self._samples(model)
        if len(rows) * self._width**2 > MAX_WORK:
            raise Declined(f"spectra of {len(rows)} rows of {self._width} take too long: at most {MAX_WORK // self._width**2}")
        at = reals(rows), reals(delta)
        self._last = _native.Snapshot.dead_directions(self.layer, self._width, *at, self._batch, gauge)
        return self._last

    def _samples(self, model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor, list[list[float]]]:
        """Activations and per-sample gradients, n x width each, on the CPU; gauge directions."""
        with undisturbed(model):
            module = module_named(model, self._module)
            after = module_named(model, self._activation) if isinstance(self._activation, str) else None
            with _outputs(module, for_gradients=True) as outputs, _outputs(after) as activations:
                losses = self._loss(model)
            if not outputs:
                raise ValueError("loss: did not call the module, or not that of the model that it was given")
            total = _sum_of_losses(losses)
            # What the loss makes of one sample says nothing of another: each row is the gradient of its own loss.
            gradients = torch.autograd.grad(total, outputs, allow_unused=True)
            with torch.no_grad():
                gauge = self._directions(model)
                if after is None:
                    activations = [self._act(output.detach()) for output in outputs]
                # A pass that the losses do not come from says nothing.
                pairs = [pair for pair in zip(activations, gradients, strict=True) if pair[1] is not None]
                if not pairs:
                    raise ValueError("loss: does not depend on the module's output")
                delta = on_cpu(torch.cat([self._rows(module, gradient) for _, gradient in pairs]))
                rows = on_cpu(torch.cat([self._rows(module, activation) for activation, _ in pairs]))
        if len(delta) % losses.shape[0] != 0:
            raise ValueError(f"loss: {losses.shape[0]} losses, the module's output has {len(delta)} rows")
        if rows.shape != delta.shape:
            raise ValueError(f"activation: has shape {tuple(rows.shape)}, the pre-activation {tuple(delta.shape)}")
        return rows, delta, gauge

    def _act(self, output: torch.Tensor) -> torch.Tensor:
        return self._activation(output) if callable(self._activation) else output

    def _rows(self, module: torch.nn.Module, output: torch.Tensor) -> torch.Tensor:
        """n x width: one row for each sample, at each place."""
        if isinstance(module, _CHANNELS_FIRST) and output.dim() > 2:
            output = output.movedim(1, -1)
        if output.dim() < 1 or output.shape[-1] != self._width:
            raise ValueError(f"width: {self._width}, but an output has shape {tuple(output.shape)}")
        return output.reshape(-1, self._width)

    def _directions(self, model: torch.nn.Module) -> list[list[float]]:
        if self._gauge is None:
            return []
        if isinstance(self._gauge, str):
            return [[1.0] * self._width]
        found = self._gauge(model)
        directions = [found] if isinstance(found, torch.Tensor) else list(found)
        return [direction.detach().double().reshape(-1).tolist() for direction in directions]


_CHANNELS_FIRST = (
    torch.nn.Conv1d,
    torch.nn.Conv2d,
    torch.nn.Conv3d,
    torch.nn.ConvTranspose1d,
    torch.nn.ConvTranspose2d,
    torch.nn.ConvTranspose3d,
    torch.nn.BatchNorm1d,
    torch.nn.BatchNorm2d,
    torch.nn.BatchNorm3d,
)


def _sum_of_losses(losses: object) -> torch.Tensor:
    if not isinstance(losses, torch.Tensor):
        raise TypeError(f"loss: gave {type(losses).__name__}, not a tensor")
    if losses.dim() == 0:
        raise ValueError('loss: gave one number, not a loss for every sample (reduction="none")')
    if not losses.requires_grad:
        raise ValueError("loss: has no gradient: was it taken under torch.no_grad, or detached?")
    return losses.sum()


def _width_of(module: torch.nn.Module) -> int:
    for attribute in _WIDTHS:
        if isinstance(width := getattr(module, attribute, None), int):
            return width
    if shape := getattr(module, "normalized_shape", None):
        return int(shape[-1])
    raise ValueError(f"width: a {type(module).__name__} does not say how wide its output is: give it")


@contextmanager
def _outputs(module: torch.nn.Module | None, for_gradients: bool = False) -> Iterator[list[torch.Tensor]]:
    """What the module gives while this is open."""
    found: list[torch.Tensor] = []

    def hook(module: torch.nn.Module, args: Any, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"module: a {type(module).__name__} gives {type(output).__name__}, not a tensor")
        if not for_gradients:
            found.append(output.detach().clone())
            return output
        point = output if output.requires_grad else output.detach().requires_grad_()
        found.append(point)
        # The next module may work in place: that must not reach what is differentiated to.
        return point.clone()

    if module is None:
        yield found
        return
    handle = module.register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()
