"""All four instruments of a real training run, through `watch`, on a real server."""

from __future__ import annotations

import warnings
from typing import Any

import gradwatch
import numpy
import pytest
import torch
from conftest import Server, wait_for
from torch import nn

STEPS = 25
INPUTS = torch.randn(4000, 10, generator=torch.Generator().manual_seed(4))
TARGETS = (INPUTS[:, 0] * INPUTS[:, 1]).sign()


class Net(nn.Module):
    """Of a size at which its gradient has windows; with dropout and running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(10, 500)
        self.drop = nn.Dropout(0.1)
        self.middle = nn.Linear(500, 16)
        self.norm = nn.BatchNorm1d(16)
        self.outer = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.drop(torch.tanh(self.inner(x))))
        return self.outer(torch.tanh(self.norm(x))).squeeze(1)


def losses(model: nn.Module) -> torch.Tensor:
    model.eval()
    return (model(INPUTS) - TARGETS) ** 2


def mean_loss(model: nn.Module) -> torch.Tensor:
    return losses(model).mean()


def instruments() -> list[Any]:
    return [
        gradwatch.Cascade(every=5),
        gradwatch.Cascade("middle.*", every=10, name="middle", whole=True),
        gradwatch.Cascade("middle.*", every=10, name="middle, cut"),
        gradwatch.Curvature("middle.weight", mean_loss, every=10, directions=6),
        gradwatch.DeadDirections("middle", losses, every=10, activation=lambda z: z, batch="train"),
        gradwatch.LearningCell("inner", "middle", "tanh", every=10, probe=(INPUTS[:100], None)),
    ]


def train(run: gradwatch.Run | None, watched: list[Any], steps: int = STEPS, **arguments: Any) -> list[torch.Tensor]:
    """Everything that the training leaves behind."""
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    if run is not None:
        run.watch(model, optimizer, every=5, instruments=watched, **arguments)
    curve = []
    for _ in range(steps):
        batch = torch.randint(len(INPUTS), (64,))
        loss = ((model(INPUTS[batch]) - TARGETS[batch]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        curve.append(loss.detach())
        for instrument in watched:
            # However slow the machine is: the next snapshot is due in ten steps.
            if (last := getattr(instrument, "_last", None)) is not None:
                last.wait()
    return [*curve, *model.state_dict().values(), *(p.grad for p in model.parameters()), torch.rand(1)]


def read(server: Server, run_id: str, instrument: str, count: int, **query: Any) -> list[Any]:
    def enough() -> list[Any] | None:
        found = server.readings(run_id, instrument, **query)
        return found if len(found) >= count else None

    return wait_for(f"{count} readings of {instrument}", enough)


def test_a_reading_of_each_instrument_and_the_same_training(server: Server) -> None:
    run = gradwatch.init(project="python", name="instruments", server=server.url, strict=True)
    watched = train(run, instruments())
    run_id = run.id
    run.finish()
    assert run_id is not None
    for a, b in zip(watched, train(None, []), strict=True):
        assert torch.equal(a, b)

    cascade = read(server, run_id, "cascade", 5, layer="gradient")
    assert [row["step"] for row in cascade] == [1, 6, 11, 16, 21]
    # Of 13,565 entries only 3 windows can be cut.
    assert all(row["windows"] == 3 and row["reason"] is None and row["phi"] > 0 for row in cascade), cascade
    middle = read(server, run_id, "cascade", 3, layer="middle")
    assert [row["step"] for row in middle] == [1, 11, 21]
    assert all(row["whole_sites"] == 500 * 16 + 16 and row["windows"] == 1 for row in middle), middle
    # Windows that are cut here and those that the client cuts of a whole gradient are the same.
    for here, there in zip(read(server, run_id, "cascade", 3, layer="middle, cut"), middle, strict=True):
        assert here["step"] == there["step"] and here["whole_sites"] is None
        assert here["threshold"] == pytest.approx(there["threshold"], rel=1e-3)
        assert here["phi"] == pytest.approx(there["phi"], rel=1e-2)

    curvature = read(server, run_id, "curvature", 3)
    assert all(row["directions"] == 6 and row["reason"] != "non_finite" for row in curvature), curvature
    dead = read(server, run_id, "dead_directions", 3)
    assert all(row["reason"] is None and row["kept"] == 16 and not row["few_samples"] for row in dead), dead
    assert all(row["lambda_min"] > 0 and row["is_float32"] is False for row in dead)
    cell = read(server, run_id, "learning_cell", 3)
    # Neurons that have hardly begun to learn are gathered on no atoms.
    assert all(row["reason"] in (None, "no_atoms") and row["path_norm"] > 0 for row in cell), cell


def test_readings_are_those_of_the_step(server: Server) -> None:
    """What the server reads of step 1 is what numpy finds at the weights of step 1."""
    run = gradwatch.init(project="python", name="one step", server=server.url, strict=True)
    dead = gradwatch.DeadDirections("middle", losses, every=100)
    cell = gradwatch.LearningCell("inner", "middle", "tanh", every=100, output=7)
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch(model, optimizer, instruments=[dead, cell])
    mean_loss(model.train()).backward()
    model.train()
    optimizer.step()
    after = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer.step()
    run.finish()
    assert run.id is not None

    twin = Net()
    twin.load_state_dict(after)
    twin.double().eval()
    with torch.no_grad():
        z = twin.middle(torch.tanh(twin.inner(INPUTS.double())))
    z.requires_grad_()
    output = twin.outer(torch.tanh(twin.norm(z))).squeeze(1)
    (delta,) = torch.autograd.grad(((output - TARGETS.double()) ** 2).sum(), z)
    eigenvalues = numpy.linalg.eigvalsh((delta.T @ delta / len(delta)).numpy())
    (row,) = read(server, run.id, "dead_directions", 1)
    assert row["step"] == 1
    assert row["kept"] == 16
    # The passes are in float32.
    assert row["logdet"] == pytest.approx(numpy.log(eigenvalues).sum(), rel=1e-3)
    assert row["lambda_min"] == pytest.approx(eigenvalues[0], rel=1e-3)
    sigma = numpy.linalg.svd(z.detach().numpy(), compute_uv=False)
    assert row["sigma_min"] == pytest.approx(sigma[-1], rel=1e-3)
    (row,) = read(server, run.id, "learning_cell", 1)
    inner, outer = after["inner.weight"].double(), after["middle.weight"][7].double()
    assert row["path_norm"] == pytest.approx(float((500 * outer.abs() * inner.norm(dim=1)).mean()), rel=1e-5)


def test_what_fails_is_said_once_and_costs_nothing_else(server: Server) -> None:
    def broken(model: nn.Module) -> torch.Tensor:
        model.eval()
        model(INPUTS).sum().backward()
        raise RuntimeError("the evaluation batch is gone")

    class NoInstrument:
        pass

    run = gradwatch.init(project="python", name="broken", server=server.url)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = train(
            run,
            [
                gradwatch.Curvature("middle.weight", broken, every=3),
                gradwatch.Curvature("middle.wieght", mean_loss),
                gradwatch.DeadDirections("middle", broken, every=2),
                NoInstrument(),
                gradwatch.Cascade(every=5),
                gradwatch.Cascade("middle.*", every=5),
            ],
        )
    said = [str(warning.message) for warning in caught]
    for message in (
        "the curvature instrument of 'middle.weight' failed, training goes on without it: the evaluation batch is gone",
        "the curvature instrument of 'middle.weight' failed, training goes on without it: off after 3 failures in a row",
        "the curvature instrument of 'middle.wieght' failed, training goes on without it: parameter: the model has no",
        "the dead_directions instrument of 'middle' failed, training goes on without it: the evaluation batch is gone",
        "the NoInstrument instrument of '?' failed",
        "the cascade instrument of 'gradient' failed, training goes on without it: is there already",
    ):
        assert sum(message in line for line in said) == 1, (message, said)
    assert run.status()["failures"] == 3 + 1 + 3 + 1 + 1
    run.finish()
    assert run.id is not None
    for a, b in zip(watched, train(None, []), strict=True):
        assert torch.equal(a, b)
    assert len(read(server, run.id, "cascade", 5, layer="gradient")) == 5
    assert server.readings(run.id, "edge") is not None


def test_spectra_that_take_too_long_are_left_out(server: Server) -> None:
    class Slow:
        """Gives a snapshot that is never computed."""

        layer, instrument, every = "slow", "cascade", 1

        def declare(self, model: nn.Module) -> tuple[str, str, int, str, int]:
            return self.layer, self.instrument, 0, "", self.every

        def snapshot(self, step: int) -> Any:
            return self

        def is_computing(self) -> bool:
            return True

        def ready(self) -> bool:
            return True

        def wait(self) -> None:
            pass

        def detach(self) -> None:
            pass

    run = gradwatch.init(project="python", name="slow", server=server.url)
    with pytest.warns(gradwatch.GradwatchWarning, match="take too long are left out: give fewer samples") as said:
        train(run, [Slow(), gradwatch.Cascade(every=5)])
        run.finish()
    assert len(said) == 1 and run.id is not None
    assert run.status()["failures"] == 0
    assert len(read(server, run.id, "cascade", 5, layer="gradient")) == 5


def test_an_instrument_needs_no_torch_before_it_is_named() -> None:
    import subprocess
    import sys

    code = "import sys, gradwatch; assert 'torch' not in sys.modules; gradwatch.Cascade; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'Casacde'"):
        gradwatch.Casacde  # noqa: B018


def test_a_compiled_model(server: Server) -> None:
    """Its optimizer's hook is no place to compile in, and a compiled graph has no second derivative."""

    def compiled(run: gradwatch.Run | None) -> list[torch.Tensor]:
        torch.manual_seed(3)
        torch.compiler.reset()
        net = Net()
        model = torch.compile(net, backend="aot_eager")
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        if run is not None:
            dead = gradwatch.DeadDirections("middle", losses, every=100)
            run.watch(model, optimizer, instruments=[gradwatch.Curvature("inner.weight", mean_loss, every=2), dead])
        for _ in range(4):
            loss = ((model(INPUTS[:64]) - TARGETS[:64]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [loss.detach(), *net.state_dict().values(), torch.rand(1)]

    run = gradwatch.init(project="python", name="compiled", server=server.url, strict=True)
    watched = compiled(run)
    run.finish()
    assert run.id is not None
    for a, b in zip(watched, compiled(None), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in read(server, run.id, "curvature", 2)] == [1, 3]
    assert [row["step"] for row in read(server, run.id, "dead_directions", 1)] == [1]


def test_what_is_not_finite_is_sent_as_it_is(server: Server) -> None:
    run = gradwatch.init(project="python", name="not finite", server=server.url, strict=True)
    torch.manual_seed(3)
    model = Net().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.watch(
        model,
        optimizer,
        instruments=[
            gradwatch.Cascade(),
            gradwatch.Curvature("middle.weight", mean_loss),
            gradwatch.DeadDirections("middle", losses, gauge="ones"),
            gradwatch.LearningCell("inner", "middle", "tanh"),
        ],
    )
    (mean_loss(model) * float("inf")).backward()
    optimizer.step()
    run.finish()
    assert run.id is not None
    for instrument in ("cascade", "curvature", "dead_directions", "learning_cell"):
        (row,) = read(server, run.id, instrument, 1)
        assert row["reason"] == "non_finite", row
