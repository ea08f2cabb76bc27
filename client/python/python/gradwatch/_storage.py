"""Whether a tensor's memory is there."""

from __future__ import annotations

import torch


def is_backed(tensor: torch.Tensor) -> bool:
    """Whether all of the tensor lies within its storage.

    Code that offloads or shards by hand takes storages away from tensors that it keeps (`untyped_storage().resize_(0)`). The
    tensor has its shape as before, and an address behind which there is nothing: who reads it ends the process.
    """
    if tensor.numel() == 0:
        return True
    last = tensor.storage_offset() + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride()))
    return bool((last + 1) * tensor.element_size() <= tensor.untyped_storage().nbytes())
