"""The parameters of a model that an optimizer trains, under the names that their owners know them by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from gradwatch import _shards

# Element types that are sketched, as the native client calls them.
DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}

# Modules that hold the model itself, and nothing else, as a child of this name.
WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}

# Places in a model that one module is found in.
MAX_NAMES = 64


@dataclass(frozen=True)
class Parameter:
    """A parameter that is watched."""

    # Its first name, and the others that it is tied to.
    name: str
    aliases: tuple[str, ...]
    tensor: torch.Tensor
    # Numbers in the whole of it; a complex one is two.
    elements: int


@dataclass
class Parameters:
    """What an optimizer trains of a model."""

    watched: list[Parameter] = field(default_factory=list)
    # Names by the reason why they cannot be watched.
    left_out: dict[str, list[str]] = field(default_factory=dict)
    # Parameters that the optimizer has, whether it changes them or not.
    frozen: list[torch.Tensor] = field(default_factory=list)


def collect(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> Parameters:
    """The model's parameters in the model's order, each once, without those that are frozen: that do not require a gradient
    or are in none of the optimizers."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for name, tensor in named_parameters(model):
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    found = Parameters()
    for key, (name, *aliases) in names.items():
        tensor = tensors[key]
        if key not in trained:
            continue
        if not tensor.requires_grad:
            found.frozen.append(tensor)
        elif reason := problem(tensor):
            found.left_out.setdefault(reason, []).append(name)
        elif elements := _shards.elements(tensor) * (2 if tensor.is_complex() else 1):
            found.watched.append(Parameter(name, tuple(aliases), tensor, elements))
    return found


def named_parameters(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All parameters under all their names (of a module in very many places, the first), first names first, in the order of `Module.named_parameters`. Wrappers such as
    `torch.compile` and DistributedDataParallel leave no trace in the names, so that these are the same with and without."""
    return _walk(module, "", [], Counter())


def _walk(
    module: torch.nn.Module, prefix: str, above: list[torch.nn.Module], times: Counter[int]
) -> Iterator[tuple[str, torch.Tensor]]:
    # Modules that share modules that share modules have more paths than can be walked.
    times[id(module)] += 1
    if times[id(module)] > MAX_NAMES:
        return
    inner = WRAPPERS.get(type(module).__name__)
    if inner is not None and list(module._modules) == [inner]:
        wrapped = module._modules[inner]
        if wrapped is not None and not module._parameters:
            yield from _walk(wrapped, prefix, [*above, module], times)
            return
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + name, parameter
    for name, child in module._modules.items():
        # A module that is its own descendant has no more names than are found on the way to it.
        if child is not None and not any(child is other for other in above) and child is not module:
            yield from _walk(child, f"{prefix}{name}.", [*above, module], times)


def problem(tensor: torch.Tensor) -> str | None:
    """Why a parameter cannot be sketched, in words."""
    if torch.nn.parameter.is_lazy(tensor):
        return "not initialised yet"
    if tensor.is_meta:
        return "on the meta device"
    if tensor.layout != torch.strided:
        return f"of layout {tensor.layout}"
    dtype = tensor.dtype.to_real() if tensor.is_complex() else tensor.dtype
    if dtype not in DTYPES:
        return f"of {tensor.dtype}"
    if _shards.is_distributed(tensor):
        return _shards.unsupported(tensor)
    try:
        has_storage = tensor.numel() == 0 or tensor.data_ptr() != 0
    except (RuntimeError, NotImplementedError):
        has_storage = False
    return None if has_storage else f"a {type(tensor).__name__} without storage"


def unwrapped(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer whose step is the real one: wrappers such as accelerate's call themselves optimizers, but never became
    one."""
    for _ in range(8):
        inner = getattr(optimizer, "optimizer", None)
        if "_optimizer_step_post_hooks" in vars(optimizer) or not isinstance(inner, torch.optim.Optimizer):
            break
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer: {type(optimizer).__name__} is no torch.optim.Optimizer")
    return optimizer
