"""Small real training jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

P = 23


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Learns a + b mod P from the tokens a, b and =; input and output embeddings are tied."""

    def __init__(self, width: int = 32, heads: int = 2, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Embedding(P + 1, width)
        self.position = nn.Parameter(0.02 * torch.randn(3, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.head = nn.Linear(width, P + 1, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embed(tokens) + self.position)[:, -1])


def batch(generator: torch.Generator, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums, drawn from a generator of their own."""
    ab = torch.randint(P, (size, 2), generator=generator)
    return torch.cat([ab, torch.full((size, 1), P)], dim=1), ab.sum(1) % P


@dataclass
class Trained:
    """What training gives."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    # The state of the global generator behind the last step: dropout uses it.
    rng: torch.Tensor


Optimizers = Callable[[nn.Module], torch.optim.Optimizer]
Watching = Callable[[nn.Module, torch.optim.Optimizer], None]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)


def train(
    steps: int,
    *,
    model: Callable[[], nn.Module] = Transformer,
    optimizer: Optimizers = adamw,
    watching: Watching | None = None,
    behind_step: Callable[[int, torch.Tensor], None] | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda it: it,
    accumulate: int = 1,
    clip: float | None = None,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    compiled_step: bool = False,
    spoil: int | None = None,
) -> Trained:
    """Trains from a fixed seed; `spoil` makes the gradient of that iteration infinite."""
    torch.manual_seed(1)
    data = torch.Generator().manual_seed(2)
    bare = model()
    it = wrap(bare)
    opt = optimizer(bare)
    if watching is not None:
        watching(it, opt)
    step = torch.compile(opt.step) if compiled_step else opt.step
    losses = []
    for i in range(steps):
        for _ in range(accumulate):
            tokens, target = batch(data)
            with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
                loss = nn.functional.cross_entropy(it(tokens).float(), target) / accumulate
            (scaler.scale(loss) if scaler else loss).backward()
        if i == spoil:
            next(bare.parameters()).grad.view(-1)[0] = float("inf")
        if clip is not None:
            nn.utils.clip_grad_norm_(bare.parameters(), clip)
        if scaler is not None:
            scaler.step(opt)
            scaler.update()
        elif isinstance(opt, torch.optim.LBFGS):

            def closure() -> torch.Tensor:
                opt.zero_grad()
                again = nn.functional.cross_entropy(it(tokens), target)
                again.backward()
                return again

            opt.step(closure)
        else:
            step()
        opt.zero_grad()
        losses.append(loss.item())
        if behind_step is not None:
            behind_step(i + 1, loss)
    return Trained(losses, {k: v.detach().clone() for k, v in bare.state_dict().items()}, torch.get_rng_state())


def same(a: Trained, b: Trained) -> bool:
    """Bit for bit."""
    return (
        a.losses == b.losses
        and a.weights.keys() == b.weights.keys()
        and all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
        and torch.equal(a.rng, b.rng)
    )
