"""Numbers that people log: Python's, numpy's, tensors of one element on any device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch

    from gradwatch._frames import Later

MAX_NAME_BYTES = 256


class OnDevice:
    """A number on its way from a device to here.

    Invariant: nobody waits for the device. The copy is queued behind what computes the number, and looked at when it has
    arrived.
    """

    def __init__(self, value: torch.Tensor) -> None:
        import torch

        value = value.detach()
        self._host = value.reshape(()).to(device="cpu", dtype=torch.float64, non_blocking=True)
        self._event: Any = cast(Any, torch.cuda.Event)()
        self._event.record(torch.cuda.current_stream(value.device))

    def ready(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        self._event.synchronize()

    def value(self) -> float:
        return float(self._host)


def number(value: Any) -> float | Later:
    """The value as a number; one that is on a CUDA device comes later."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{value!r} is text, not a number")
    if (placements := getattr(value, "placements", None)) is not None and hasattr(value, "to_local"):
        # To ask for the number could be a collective, which the other processes may never come to.
        if not all(placement.is_replicate() for placement in placements):
            raise TypeError("is a DTensor whose value is in no process: log `.full_tensor()` of it")
        value = value.to_local()
    device = getattr(value, "device", None)
    if getattr(device, "type", None) == "cuda" and hasattr(value, "detach"):
        return OnDevice(value)
    # Arrays and tensors of one element; `float` of them warns where they have a dimension or require a gradient.
    item = getattr(value, "item", None)
    return float(item() if callable(item) else value)


def resolved(value: float | Later | None) -> float | None:
    """The number, which has arrived."""
    return value if value is None or isinstance(value, (int, float)) else value.value()


def name_problem(name: Any) -> str | None:
    """What is wrong with a scalar's name."""
    if not isinstance(name, str) or not name:
        return "is no text"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "cannot be written in UTF-8"
    if size > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    is_control = any(c < " " or "\x7f" <= c <= "\x9f" for c in name)
    return "holds a control character" if is_control else None


def json_value(value: Any, depth: int = 16) -> Any:
    """The value as JSON can say it: what it cannot say becomes text."""
    if isinstance(value, str):
        # Neither a server nor UTF-8 has NUL or half a surrogate pair, which file names are known to bring.
        return value.replace("\0", "").encode(errors="replace").decode()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)
    if depth == 0:
        return json_value(str(value))
    if isinstance(value, Mapping):
        return {json_value(str(key)): json_value(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_value(item, depth - 1) for item in value]
    return json_value(str(value))
