"""Curvature along a layer's gradient directions, by exact Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from gradwatch import _native
from gradwatch.instruments._base import LayerInstrument
from gradwatch.instruments._lookup import parameter_named
from gradwatch.instruments._undisturbed import check_passes, undisturbed


class Curvature(LayerInstrument):
    """How the loss curves along the leading singular directions of a matrix parameter's gradient.

    A snapshot takes one forward and backward pass of the loss, a singular value decomposition of the gradient in float64,
    and a second backward pass for each direction.

    Args:
        parameter: A parameter's name: a matrix, or a convolution's weight, flattened to out x the rest.
        loss: Called with the model (without the wrapper of torch.compile or DDP), gives a scalar: the mean loss of a fixed
            evaluation batch. Only the model that it is given is protected from it. It may call `model.eval()`.
        every: The least number of optimizer steps between two snapshots.
        directions: How many, K.
        name: The layer's name on the server. Default: the parameter's.
    """

    instrument = "curvature"

    def __init__(
        self,
        parameter: str,
        loss: Callable[[torch.nn.Module], torch.Tensor],
        every: int = 20_000,
        directions: int = 20,
        name: str | None = None,
    ) -> None:
        super().__init__(name or parameter, every)
        if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
            raise ValueError(f"directions: {directions!r} is no number of directions")
        if not callable(loss):
            raise TypeError("loss: is not callable")
        self._parameter = parameter
        self._loss = loss
        self._directions = directions

    def _find(self, model: torch.nn.Module) -> tuple[int, str]:
        module, attribute = parameter_named(model, self._parameter)
        shape = tuple(getattr(module, attribute).shape)
        if len(shape) < 2:
            raise ValueError(f"parameter: {self._parameter} has shape {shape}, not that of a matrix")
        check_passes(model)
        return 0, ""

    def _take(self, model: torch.nn.Module) -> _native.Snapshot:
        # Fused attention has no second derivative.
        with undisturbed(model), sdpa_kernel(SDPBackend.MATH):
            module, attribute = parameter_named(model, self._parameter)
            weight = getattr(module, attribute).requires_grad_()
            loss = self._loss(model)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise TypeError(f"loss: gave no scalar but {_words(loss)}")
            if not loss.requires_grad:
                raise ValueError("loss: has no gradient: was it taken under torch.no_grad, or detached?")
            sigma, curvature = directional_curvatures(loss.reshape(()), weight, self._directions)
        return _native.Snapshot.curvature(self.layer, sigma, curvature)


def directional_curvatures(
    loss: torch.Tensor, weight: torch.Tensor, count: int
) -> tuple[list[float], list[float]]:
    """sigma_k and h_k = vec(u_k v_k^T)^T H vec(u_k v_k^T) of the leading directions of the gradient."""
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError("loss: does not depend on the parameter, or not through the model that it was given")
    matrix = gradient.detach().reshape(gradient.shape[0], -1).double()
    if not bool(matrix.isfinite().all()):
        # There are no directions, and the value says why.
        return [float("nan")], [float("nan")]
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    count = min(count, sigma.numel())
    curvatures = [_curvature(gradient, weight, torch.outer(u[:, k], vh[k])) for k in range(count)]
    return sigma[:count].tolist(), torch.stack(curvatures).tolist()


def _curvature(gradient: torch.Tensor, weight: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    along = direction.reshape(weight.shape).to(weight.dtype)
    product = None
    if gradient.requires_grad:
        (product,) = torch.autograd.grad(gradient, weight, along, retain_graph=True, allow_unused=True)
    if product is None:
        # The loss is linear in the parameter.
        return torch.zeros((), dtype=torch.float64, device=weight.device)
    return torch.sum(product.double() * along.double())


def _words(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
