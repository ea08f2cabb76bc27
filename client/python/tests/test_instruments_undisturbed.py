"""Passes of the instruments' own, which training must not notice; and callables that fail."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator

import numpy
import pytest
import torch
from gradwatch import Cascade, Curvature, DeadDirections, LearningCell
from gradwatch.instruments import Instrument, _dead_directions
from gradwatch.instruments._base import Declined, Skipped, SwitchedOff
from gradwatch.instruments._undisturbed import undisturbed
from torch import nn


class Net(nn.Module):
    """Dropout, running statistics, a recurrent layer, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.rnn = nn.GRU(16, 16, batch_first=True)
        self.norm = nn.BatchNorm1d(16)
        self.fc1 = nn.Linear(16, 32)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.2)
        self.fc2 = nn.Linear(32, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.rnn(self.embed(x))[0][:, -1]
        x = self.spectral(self.norm(x))
        return self.head(self.fc2(self.drop(self.act(self.fc1(x)))))


BATCH = torch.randint(30, (64, 7), generator=torch.Generator().manual_seed(5))


def careless(model: nn.Module) -> None:
    """All that a user's callable may do to global state."""
    torch.manual_seed(7)
    torch.rand(3)
    random.seed(7)
    numpy.random.seed(7)
    model.eval()
    model.fc1.train()
    model(BATCH).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        model(BATCH)
    model.train()


def mean_loss(model: nn.Module) -> torch.Tensor:
    careless(model)
    return nn.functional.cross_entropy(model(BATCH), BATCH[:, 0])


def losses(model: nn.Module) -> torch.Tensor:
    careless(model)
    return nn.functional.cross_entropy(model(BATCH), BATCH[:, 0], reduction="none")


def all_four() -> list[Instrument]:
    return [
        Cascade(every=2, whole=True),
        Curvature("fc1.weight", mean_loss, every=3, directions=3),
        DeadDirections("fc1", losses, every=2, activation="act"),
        LearningCell("fc1", "fc2", every=2, probe=(torch.randn(9, 16), torch.randn(9))),
    ]


def train(
    instruments: list[Instrument],
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    around: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    steps: int = 8,
) -> list[torch.Tensor]:
    """Everything that a training run leaves behind."""
    torch.manual_seed(1)
    random.seed(1)
    numpy.random.seed(1)
    net = Net()
    model = wrap(net)
    net.fc2.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for instrument in instruments:
        instrument.declare(model)
    taken = 0
    curve: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []

    def hook(*_: object) -> None:
        nonlocal taken
        for instrument in instruments:
            if step % instrument.every == 0:
                snapshot = instrument.snapshot(step)
                assert snapshot is not None
                snapshot.wait()
                taken += 1

    optimizer.register_step_post_hook(hook)
    with around():
        for step in range(steps):
            noise = random.random() + numpy.random.rand()
            x = torch.randint(30, (32, 7))
            loss = nn.functional.cross_entropy(model(x).float(), x[:, 0]) * noise
            loss.backward()
            if step % 2 == 1:
                # Gradients of two steps add up: what lies in `.grad` must stay.
                optimizer.step()
                optimizer.zero_grad(set_to_none=step % 4 == 1)
            else:
                optimizer.step()
            curve.append(loss.detach())
    assert taken == 0 or taken >= 3 * steps // 2
    gradients = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert all(p.requires_grad for p in net.parameters())
    assert all(module.training for module in net.modules())
    assert net.head.weight is net.embed.weight
    assert [p.data_ptr() for p in net.rnn._flat_weights] == [p.data_ptr() for p in net.rnn.parameters()]
    assert all(any(p is q for q in net.rnn.parameters()) for p in net.rnn._flat_weights)
    return [*curve, *net.state_dict().values(), *gradients, *seen, torch.get_rng_state(), torch.rand(2)]


@contextlib.contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.parametrize("around", [contextlib.nullcontext, autocast])
def test_training_is_the_same_bit_for_bit(around: Callable[[], contextlib.AbstractContextManager[object]]) -> None:
    without = train([], around=around)
    watched = train(all_four(), around=around)
    assert len(without) == len(watched)
    for a, b in zip(without, watched, strict=True):
        assert torch.equal(a, b)


def test_training_of_a_compiled_model_is_the_same() -> None:
    """Compiled graphs have no second derivative: the instruments' passes are eager."""

    def wrap(model: nn.Module) -> nn.Module:
        # Half of it within, half of it around.
        model.fc1.compile(backend="aot_eager")
        return torch.compile(model, backend="aot_eager")  # type: ignore[return-value]

    without = train([], wrap)
    watched = train(all_four(), wrap)
    for a, b in zip(without, watched, strict=True):
        assert torch.equal(a, b)


def test_passes_begin_without_autocast() -> None:
    model = nn.Linear(8, 8)
    x = torch.randn(5, 8)
    seen: list[tuple[bool, bool]] = []

    def loss(model: nn.Module) -> torch.Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        with torch.autocast("cpu", torch.bfloat16):
            assert model(x).dtype == torch.bfloat16
        return model(x).square().mean()

    curvature = Curvature("weight", loss)
    curvature.declare(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(x).sum()
        assert curvature.snapshot(0) is not None
        assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled()
    assert seen == [(False, False)]


def test_everything_is_put_back_when_the_callable_fails() -> None:
    net = Net()
    net.drop.eval()
    before = [(name, id(tensor), tensor.clone()) for name, tensor in (*net.named_parameters(), *net.named_buffers())]
    state = torch.get_rng_state(), random.getstate(), str(numpy.random.get_state())
    cached = torch.is_autocast_cache_enabled()
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), undisturbed(net):
        careless(net)
        net.norm.running_mean.fill_(3)
        raise KeyboardInterrupt
    after = [(name, id(tensor), tensor.clone()) for name, tensor in (*net.named_parameters(), *net.named_buffers())]
    for (name, identity, tensor), (name_after, identity_after, tensor_after) in zip(before, after, strict=True):
        assert (name, identity) == (name_after, identity_after) and torch.equal(tensor, tensor_after), name
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), str(numpy.random.get_state()))
    assert [name for name, module in net.named_modules() if not module.training] == ["drop"]
    assert all(p.grad is None for p in net.parameters())
    assert torch.is_autocast_cache_enabled() == cached and torch.is_grad_enabled()


def test_an_instrument_that_fails_three_times_in_a_row_is_off() -> None:
    failing = True
    calls = 0

    def loss(model: nn.Module) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if failing:
            raise RuntimeError("no batch")
        return model(torch.ones(2, 4)).square().sum()

    model = nn.Linear(4, 3)
    curvature = Curvature("weight", loss, every=10)
    curvature.declare(model)
    for step in (0, 10):
        with pytest.raises(RuntimeError, match="no batch"):
            curvature.snapshot(step)
        assert curvature.snapshot(step + 9) is None, "it rests"
    failing = False
    assert curvature.snapshot(20) is not None
    failing = True
    for step in (30, 40):
        with pytest.raises(RuntimeError, match="no batch"):
            curvature.snapshot(step)
    with pytest.raises(SwitchedOff, match="off after 3 failures in a row, the last: no batch"):
        curvature.snapshot(50)
    assert calls == 6
    assert curvature.snapshot(1000) is None and calls == 6
    # A new run begins anew.
    curvature.declare(model)
    with pytest.raises(RuntimeError):
        curvature.snapshot(0)


def test_one_thread_beside_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that is still being computed is not joined by another, and is no failure that switches anything off."""
    computing = True

    class Snapshot:
        def is_computing(self) -> bool:
            return computing

    class Native:
        class Snapshot:
            dead_directions = staticmethod(lambda *arguments: Snapshot())

    calls = 0

    def loss(model: nn.Module) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return model(torch.ones(9, 4)).square().sum(1)

    dead = DeadDirections("", loss, every=1, width=3, name="head")
    dead.declare(nn.Linear(4, 3))
    monkeypatch.setattr(_dead_directions, "_native", Native)
    assert dead.snapshot(0) is not None
    for step in range(1, 6):
        with pytest.raises(Skipped, match="still being computed"):
            dead.snapshot(step)
    computing = False
    assert dead.snapshot(6) is not None and calls == 2
    monkeypatch.setattr(_dead_directions, "MAX_WORK", 9 * 9 - 1)
    with pytest.raises(Declined, match="spectra of 9 rows of 3 take too long: at most 8"):
        dead.snapshot(7)
    assert dead.snapshot(8) is None


def test_no_gradients_behind_the_step() -> None:
    model = nn.Linear(100, 100)
    cascade = Cascade()
    cascade.declare(model)
    with pytest.raises(ValueError, match="no parameter has a gradient behind the optimizer's step"):
        cascade.snapshot(0)
    sparse = nn.Embedding(100, 100, sparse=True)
    sparse(torch.tensor([3])).sum().backward()
    cascade.declare(sparse)
    with pytest.raises(Declined, match="sparse"):
        cascade.snapshot(0)
    assert cascade.snapshot(1) is None


@pytest.fixture
def process_group(tmp_path: object) -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_what_is_sharded_is_declined(process_group: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))

    def shard(name: str, module: nn.Module, mesh: object) -> None:
        for key, parameter in list(module.named_parameters(recurse=False)):
            tensor = distribute_tensor(parameter.detach(), mesh, [Shard(0)])
            module.register_parameter(key, nn.Parameter(tensor))

    model = distribute_module(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)), mesh, shard)
    for instrument in (
        Cascade(),
        Curvature("0.weight", mean_loss),
        DeadDirections("0", losses),
        LearningCell("0", "2"),
    ):
        with pytest.raises(Declined, match="sharded"):
            instrument.declare(model)
    assert "torch.distributed.tensor" in sys.modules


def test_synchronised_batch_norm_is_declined(process_group: None) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.SyncBatchNorm(64), nn.Linear(64, 64))
    for instrument in (Curvature("0.weight", mean_loss), DeadDirections("0", losses)):
        with pytest.raises(Declined, match="SyncBatchNorm"):
            instrument.declare(model)
    Cascade().declare(model)
    LearningCell("0", "2").declare(model)


def test_the_wrapper_of_distributed_training_is_taken_off(process_group: None) -> None:
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 1)))
    seen: list[nn.Module] = []

    def loss(model: nn.Module) -> torch.Tensor:
        seen.append(model)
        return model(torch.ones(3, 6)).square().mean()

    curvature = Curvature("0.weight", loss)
    curvature.declare(model)
    assert curvature.snapshot(0) is not None
    assert seen == [model.module]
