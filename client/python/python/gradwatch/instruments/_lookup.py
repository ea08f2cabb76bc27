"""Parts of a model by the names that its author gave them, whatever it was wrapped in since."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch.nn.parallel import DataParallel, DistributedDataParallel

# What torch.compile and wrappers of layers put into names.
_INSERTED = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})

T = TypeVar("T")


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself. A forward pass of it is eager, and no collective."""
    inner: object
    if isinstance(model, (DataParallel, DistributedDataParallel)):
        inner = model.module
    else:
        inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, torch.nn.Module) else model


def plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _INSERTED)


def module_named(model: torch.nn.Module, name: str) -> torch.nn.Module:
    found: dict[str, torch.nn.Module] = {
        plain(path): module for path, module in model.named_modules(remove_duplicate=False)
    }
    return _one_of(found, name, "module")


def parameter_named(model: torch.nn.Module, name: str) -> tuple[torch.nn.Module, str]:
    """The module that holds a parameter, and its name there."""
    found: dict[str, tuple[torch.nn.Module, str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, _ in module.named_parameters(recurse=False, remove_duplicate=False):
            found[plain(f"{path}.{attribute}" if path else attribute)] = (module, attribute)
    return _one_of(found, name, "parameter")


def parameters_matching(model: torch.nn.Module, patterns: Iterable[str]) -> Iterator[torch.nn.Parameter]:
    """Trained parameters that a glob matches, each once, in the model's order. A tied one has several names."""
    patterns = list(patterns)
    matched = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if any(fnmatchcase(plain(name), pattern) for pattern in patterns):
            matched.add(id(parameter))
    for parameter in model.parameters():
        if id(parameter) in matched and parameter.requires_grad:
            yield parameter


def _one_of(found: dict[str, T], name: str, what: str) -> T:
    if name in found:
        return found[name]
    close = difflib.get_close_matches(name, found, n=3)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ValueError(f"{what}: the model has no {name!r}{hint}")
