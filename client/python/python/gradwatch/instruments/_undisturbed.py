"""Forward and backward passes of our own, in the middle of training, which training does not notice."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from gradwatch.instruments._base import Declined


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Lets a callable of the user's work with the model.

    Invariant: whatever happens within, training goes on with the same bits as without it. Random number generators
    (PyTorch's of the CPU and of the model's devices, Python's and numpy's global ones), train and eval modes, autocast and
    its cache are put back. Parameters are stand-ins on the same memory, so that nobody's `.grad`, gradient hooks or
    reducers hear of a backward pass; buffers are copies, so that running statistics stay.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_state(model))
        stack.enter_context(_modes(model))
        stack.enter_context(_stand_ins(model))
        stack.enter_context(_no_autocast())
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):
            # Compiled parts run eagerly: there is nothing to compile for a pass in thousands of steps, and compiled
            # graphs have no second derivative.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.enable_grad())
        yield


def check_passes(model: torch.nn.Module) -> None:
    """A pass runs on one process alone: one with a collective in it would wait for the others for ever."""
    if is_sharded(model, model.parameters()):
        raise Declined("needs passes of the whole model, and no process has it all: the parameters are sharded")
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules()):
        raise Declined("needs passes on one process alone, and SyncBatchNorm waits for all of them")


def is_sharded(model: torch.nn.Module, parameters: Iterable[torch.Tensor]) -> bool:
    """Whether this process may hold a part of these parameters only: FSDP of either kind, tensor parallel, ZeRO-3."""
    # Whoever has a DTensor has imported it.
    dtensor = sys.modules.get("torch.distributed.tensor")
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()) or any(
        (dtensor is not None and isinstance(parameter, dtensor.DTensor)) or hasattr(parameter, "ds_tensor")
        for parameter in parameters
    )


@contextmanager
def _random_state(model: torch.nn.Module) -> Iterator[None]:
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    restore: list[Callable[[], Any]] = []

    def keep(get: Callable[..., Any], put: Callable[..., Any], *where: Any) -> None:
        state = get()
        restore.append(lambda: put(state, *where))

    keep(torch.get_rng_state, torch.set_rng_state)
    keep(random.getstate, random.setstate)
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        keep(numpy_random.get_state, numpy_random.set_state)
    for device in devices:
        if device.type == "mps":
            keep(torch.mps.get_rng_state, torch.mps.set_rng_state)
        elif device.type not in ("cpu", "meta"):
            backend = getattr(torch, device.type)
            keep(lambda at=device, of=backend: of.get_rng_state(at), backend.set_rng_state, device)
    try:
        yield
    finally:
        for put in restore:
            put()


@contextmanager
def _modes(model: torch.nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _stand_ins(model: torch.nn.Module) -> Iterator[None]:
    replaced: list[tuple[torch.nn.Module, dict[str, Any], str, torch.Tensor]] = []
    # Tied parameters stay tied.
    of: dict[int, torch.Tensor] = {}
    try:
        for module in model.modules():
            tables: tuple[dict[str, Any], dict[str, Any]] = (module._parameters, module._buffers)
            for table, stand_in in zip(tables, (_same_memory, _copy), strict=True):
                for name, tensor in list(table.items()):
                    if tensor is not None:
                        if id(tensor) not in of:
                            of[id(tensor)] = stand_in(tensor)
                        replaced.append((module, table, name, tensor))
                        _put(module, table, name, of[id(tensor)])
        yield
    finally:
        for module, table, name, tensor in replaced:
            _put(module, table, name, tensor)


def _same_memory(parameter: torch.Tensor) -> torch.Tensor:
    return torch.nn.Parameter(parameter.detach(), parameter.requires_grad)


def _copy(buffer: torch.Tensor) -> torch.Tensor:
    return buffer.detach().clone()


def _put(module: torch.nn.Module, table: dict[str, Any], name: str, tensor: torch.Tensor) -> None:
    """Past `Module.__setattr__`, which calls hooks of registration, but not past one of the module's own, which may keep
    the tensor elsewhere too, as those of recurrent layers do."""
    if type(module).__setattr__ is torch.nn.Module.__setattr__:
        table[name] = tensor
    else:
        setattr(module, name, tensor)


@contextmanager
def _no_autocast() -> Iterator[None]:
    """The user's callable sets its own. Weights that it casts stay out of the cache that training's autocast may hold."""
    cached = torch.is_autocast_cache_enabled()
    kinds = [kind for kind in ("cpu", "cuda", "xpu", "mps") if torch.is_autocast_enabled(kind)]
    torch.set_autocast_cache_enabled(False)
    try:
        for kind in kinds:
            torch.set_autocast_enabled(kind, False)
        yield
    finally:
        for kind in kinds:
            torch.set_autocast_enabled(kind, True)
        torch.set_autocast_cache_enabled(cached)
