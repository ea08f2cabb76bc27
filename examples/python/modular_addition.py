"""A small transformer learns a + b (mod p), and groks: it knows the training pairs long before it knows the others.

    python modular_addition.py                    # plain PyTorch
    python modular_addition.py --watch            # the same, watched by the server at GRADWATCH_SERVER

The two print the same numbers: watching changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import time

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.ReLU(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Reads `a b =` and says the sum where it stands at `=`."""

    def __init__(self, modulus: int, width: int = 128, heads: int = 4, depth: int = 1) -> None:
        super().__init__()
        self.tokens = nn.Embedding(modulus + 1, width)
        self.positions = nn.Parameter(torch.randn(3, width) / width**0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, modulus, bias=False)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


def pairs(modulus: int, train_share: float) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """All pairs with their sums, in random order, cut into those to train and those to test on."""
    a, b = torch.meshgrid(torch.arange(modulus), torch.arange(modulus), indexing="ij")
    tokens = torch.stack([a.flatten(), b.flatten(), torch.full((modulus**2,), modulus)], dim=1)
    sums = (a + b).flatten() % modulus
    order = torch.randperm(modulus**2)
    train, test = order.split([int(train_share * len(order)), len(order) - int(train_share * len(order))])
    return (tokens[train], sums[train]), (tokens[test], sums[test])


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    (x, y), (test_x, test_y) = pairs(arguments.modulus, arguments.train_share)
    model = Transformer(arguments.modulus)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=arguments.weight_decay, betas=(0.9, 0.98))

    with contextlib.ExitStack() as stack:
        run = None
        if arguments.watch:
            import gradwatch

            run = stack.enter_context(gradwatch.init("examples", "modular-addition", config=vars(arguments)))
            run.watch(
                model,
                optimizer,
                groups={"attention": "*.attn.*", "mlp": "*.mlp.*", "all": "*"},
                every=arguments.every,
            )

        began = time.perf_counter()
        solved = False
        for step in range(1, arguments.steps + 1):
            logits = model(x)
            loss = functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            if step % arguments.test_every and step != arguments.steps:
                continue
            with torch.no_grad():
                test_logits = model(test_x)
            scalars = {
                "loss": loss.item(),
                "test_loss": functional.cross_entropy(test_logits, test_y).item(),
                "accuracy": (logits.argmax(-1) == y).float().mean().item(),
                "test_accuracy": (test_logits.argmax(-1) == test_y).float().mean().item(),
            }
            if run is not None:
                run.log(scalars)
            if not solved and scalars["test_accuracy"] >= 0.95:
                solved = True
                print(f"step {step}: solved")
                if run is not None:
                    run.happened("solved")
            if step % (arguments.test_every * 10) == 0 or step == arguments.steps:
                print(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in scalars.items()))
        print(f"{arguments.steps} steps in {time.perf_counter() - began:.1f} s")

    if arguments.save:
        torch.save(model.state_dict(), arguments.save)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small transformer learns a + b (mod p)")
    parser.add_argument("--watch", action="store_true", help="watch the run with gradwatch")
    parser.add_argument("--every", type=int, default=1, help="steps between two sketches of the updates")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--test-every", type=int, default=10, help="steps between two looks at the test pairs")
    parser.add_argument("--modulus", type=int, default=43)
    parser.add_argument("--train-share", type=float, default=0.6, help="of all pairs")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="where the final weights go")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
