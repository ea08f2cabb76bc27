"""Tensors, as the native part takes them."""

from __future__ import annotations

import torch

from gradwatch._storage import is_backed


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Its values as contiguous float32, or float64 where they are, on the CPU. Waits for a device once."""
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.detach().to("cpu", dtype).contiguous()


def single(tensor: torch.Tensor) -> torch.Tensor:
    """The same as float32 whatever it is."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


def values(tensor: torch.Tensor) -> tuple[int, int]:
    """Where a tensor of `single` lies: hold it during the call that is told."""
    _check(tensor, torch.float32)
    return tensor.data_ptr(), tensor.numel()


def reals(tensor: torch.Tensor) -> tuple[int, int, str]:
    """Where a tensor of `on_cpu` lies: hold it during the call that is told."""
    _check(tensor, torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return tensor.data_ptr(), tensor.numel(), "f64" if tensor.dtype == torch.float64 else "f32"


def _check(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    # What is read at an address depends on it, and nothing else would notice.
    if tensor.dtype != dtype or not tensor.is_cpu or not tensor.is_contiguous() or not is_backed(tensor):
        raise ValueError(f"a tensor of {tensor.dtype} on {tensor.device} is not to be read as {dtype} in memory")
