"""Learning rate and weight decay, as the optimizers' param groups say them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradwatch import _values
from gradwatch._frames import Frame, Later

if TYPE_CHECKING:
    import torch

    from gradwatch._parameters import Parameter


class Rates:
    """Where the rates of each group of ours are to be found."""

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        parameters: Sequence[Parameter],
        groups: Sequence[tuple[str, list[int]]],
    ) -> None:
        # Held weakly, see `Watch`.
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        place = {
            id(tensor): (i, j)
            for i, optimizer in enumerate(optimizers)
            for j, group in enumerate(optimizer.param_groups)
            for tensor in group["params"]
        }
        # By group of ours: its name and the param groups (optimizer, index) that its parameters are in.
        self._places = [
            (name, sorted({place[id(parameters[member].tensor)] for member in members})) for name, members in groups
        ]
        self._all = sorted({at for _, places in self._places for at in places})

    def put_into(self, frame: Frame) -> None:
        """What all agree on is the frame's; where they do not agree, each group has its own, as far as its own parameters
        agree."""
        if not self._all:
            return
        rates = {at: self._of(*at) for at in self._all}
        later = {id(lr): lr for lr, _ in rates.values() if lr is not None and not isinstance(lr, float)}
        frame.pending.extend(later.values())
        frame.learning_rate, frame.weight_decay = _agreed([rates[at] for at in self._all])
        for name, places in self._places:
            own = _agreed([rates[at] for at in places])
            if own != (frame.learning_rate, frame.weight_decay):
                frame.group_rates.append((name, *own))

    def _of(self, optimizer: int, group: int) -> tuple[float | Later | None, float | None]:
        of = self._optimizers[optimizer]()
        groups = of.param_groups if of is not None else []
        if group >= len(groups):
            return None, None
        decay = _rate(groups[group].get("weight_decay"))
        return _rate(groups[group].get("lr")), decay if isinstance(decay, float) else None


def _rate(value: Any) -> float | Later | None:
    if value is None:
        return None
    try:
        rate = _values.number(value)
    except (TypeError, ValueError):
        return None
    # Some optimizers mean something else by a negative one.
    return None if isinstance(rate, float) and rate < 0.0 else rate


def _agreed(rates: Sequence[tuple[float | Later | None, float | None]]) -> tuple[float | Later | None, float | None]:
    (lr, decay), *others = rates
    return (
        lr if all(other == lr for other, _ in others) else None,
        decay if all(other == decay for _, other in others) else None,
    )
