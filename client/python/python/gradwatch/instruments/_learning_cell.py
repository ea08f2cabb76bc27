"""The neurons of a two-layer block, for the learning cell."""

from __future__ import annotations

import torch

from gradwatch import _native
from gradwatch.instruments._base import Declined, LayerInstrument
from gradwatch.instruments._lookup import module_named
from gradwatch.instruments._memory import single, values
from gradwatch.instruments._undisturbed import is_sharded

MAX_NEURONS = 8192
MAX_WIDTH = 1024


class LearningCell(LayerInstrument):
    """What a block Linear, activation, Linear has learned: f(x) = (1/N) sum of a_i act(w_i x) over its N neurons.

    f is one output of the block: a_i = N times the outer weight of neuron i to it; w_i is row i of the inner weight. With a
    probe batch the inner bias is one more entry of w_i, with the input 1, and the outer bias is taken off the targets.
    Without one inputs are taken as whitened Gaussian, which a constant is not: biases are then left out. Rows longer than
    1,024 are sketched. Nothing is computed but this: a snapshot costs a copy of the weights.

    Args:
        inner: The name of the inner nn.Linear.
        outer: The name of the outer nn.Linear.
        activation: tanh, relu, gelu, silu, sigmoid, erf, square, identity or he3.
        every: The least number of optimizer steps between two snapshots.
        output: Which output of the block; the first by default.
        probe: Inputs of the block, n x width, and f's n targets there or None.
        name: The layer's name on the server. Default: the inner module's.
    """

    instrument = "learning_cell"

    def __init__(
        self,
        inner: str,
        outer: str,
        activation: str = "relu",
        every: int = 1_000,
        output: int | None = None,
        probe: tuple[torch.Tensor, torch.Tensor | None] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name or inner, every)
        _native.check_activation(activation)
        self._names = inner, outer
        self._activation = activation
        self._output = output or 0
        self._probe = probe
        self._linears: tuple[torch.nn.Linear, torch.nn.Linear] | None = None

    def detach(self) -> None:
        super().detach()
        self._linears = None

    def _find(self, model: torch.nn.Module) -> tuple[int, str]:
        found = []
        for field, name in zip(("inner", "outer"), self._names, strict=True):
            module = module_named(model, name)
            if not isinstance(module, torch.nn.Linear):
                raise ValueError(f"{field}: {name} is a {type(module).__name__}, not an nn.Linear")
            if is_sharded(model, module.parameters()):
                raise Declined("the block is sharded: no process has it all")
            found.append(module)
        inner, outer = found
        if inner.out_features != outer.in_features:
            raise ValueError(f"outer: takes {outer.in_features} neurons, inner has {inner.out_features}")
        if inner.out_features > MAX_NEURONS:
            raise ValueError(f"inner: {inner.out_features} neurons, at most {MAX_NEURONS}")
        if not 0 <= self._output < outer.out_features:
            raise ValueError(f"output: {self._output} is not below {outer.out_features}")
        width = inner.in_features
        if self._probe is not None:
            inputs, targets = self._probe
            if inputs.dim() != 2 or inputs.shape[1] != width:
                raise ValueError(f"probe: inputs of shape {tuple(inputs.shape)} are not n x {width}")
            if targets is not None and targets.shape != inputs.shape[:1]:
                raise ValueError(f"probe: targets of shape {tuple(targets.shape)} are not one for each input")
            width += inner.bias is not None
            if width > MAX_WIDTH:
                raise ValueError(f"probe: inputs of width {width}, with a probe at most {MAX_WIDTH}")
        self._linears = inner, outer
        return min(width, MAX_WIDTH), self._activation

    def _take(self, model: torch.nn.Module) -> _native.Snapshot:
        coefficients, weights, probe = self._block()
        at = None if probe is None else (values(probe[0]), values(probe[1]))
        return _native.Snapshot.learning_cell(self.layer, weights.shape[1], values(coefficients), values(weights), at)

    def _block(self) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None]:
        """a, w, and the probe's inputs and targets (none: empty), float32 on the CPU."""
        assert self._linears is not None
        inner, outer = self._linears
        with torch.no_grad():
            weights = single(inner.weight)
            coefficients = single(inner.out_features * outer.weight[self._output].double())
            if self._probe is None:
                return coefficients, weights, None
            inputs = single(self._probe[0])
            targets = torch.empty(0, dtype=torch.float32, device="cpu") if self._probe[1] is None else single(self._probe[1])
            if inner.bias is not None:
                weights = torch.cat([weights, single(inner.bias).unsqueeze(1)], 1)
                inputs = torch.cat([inputs, inputs.new_ones(inputs.shape[0], 1)], 1)
            if outer.bias is not None:
                targets = targets - single(outer.bias[self._output])
            return coefficients, weights, (inputs, targets)
