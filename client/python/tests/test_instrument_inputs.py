"""What the instruments take from a model, against closed forms and plain loops in float64."""

from __future__ import annotations

import numpy
import pytest
import torch
from gradwatch import Cascade, Curvature, DeadDirections, LearningCell, _native
from gradwatch.instruments import _cascade, _curvature, _lookup, _memory
from torch import nn


def numpy_windows(gradients: list[numpy.ndarray]) -> numpy.ndarray:
    """METRICS: magnitudes over the tensor's RMS, one tensor behind the other, windows at floor(i (total - 4096) / (R - 1))."""
    scaled = []
    for gradient in gradients:
        flat = numpy.abs(gradient.astype(numpy.float64)).reshape(-1)
        rms = numpy.sqrt(numpy.mean(flat**2))
        scaled.append(flat / rms if rms > 0 else flat)
    all_of_them = numpy.concatenate(scaled)
    total = all_of_them.size
    count = min(16, total // 4096)
    starts = [(total - 4096) // 2] if count == 1 else [i * (total - 4096) // (count - 1) for i in range(count)]
    return numpy.concatenate([all_of_them[start : start + 4096] for start in starts])


@pytest.mark.parametrize("piece", [1 << 22, 1000])
def test_windows_of_a_gradient(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cascade, "PIECE", piece)
    torch.manual_seed(1)
    gradients = [
        torch.randn(300, 100),
        torch.randn(200, 130).t() * 1e-6,
        torch.randn(70).to(torch.bfloat16),
        torch.randn(64, 65, dtype=torch.float64) * 1e30,
        torch.zeros(5000),
        torch.randn(100, 90).to(torch.float16),
    ]
    windows = _cascade.cut_windows(list(gradients), [gradient.numel() for gradient in gradients])
    assert windows.dtype == torch.float32 and windows.numel() == 16 * 4096
    expected = numpy_windows([gradient.double().numpy() for gradient in gradients])
    numpy.testing.assert_allclose(windows.numpy(), expected, rtol=1e-6)


def test_a_parameter_without_a_gradient_counts_as_zeros() -> None:
    torch.manual_seed(1)
    first, last = torch.randn(5000), torch.randn(5000)
    windows = _cascade.cut_windows([first, None, last], [5000, 6000, 5000])
    expected = numpy_windows([first.numpy(), numpy.zeros(6000), last.numpy()])
    numpy.testing.assert_allclose(windows.numpy(), expected, rtol=1e-6)


def test_one_window_lies_in_the_middle() -> None:
    gradient = torch.arange(1.0, 6001.0)
    windows = _cascade.cut_windows([gradient], [6000])
    numpy.testing.assert_allclose(windows.numpy(), numpy_windows([gradient.numpy()]), rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_one_window_of_nan(bad: float) -> None:
    gradient = torch.randn(20_000)
    gradient[3] = bad
    windows = _cascade.cut_windows([gradient, torch.randn(9000)], [20_000, 9000])
    assert windows.numel() == 4096 and bool(windows.isnan().all())


def test_the_cascade_takes_trained_parameters_once() -> None:
    model = nn.Sequential(nn.Embedding(100, 60), nn.Linear(60, 100, bias=False), nn.Linear(100, 100))
    model[1].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    of = _lookup.parameters_matching
    assert [id(p) for p in of(model, ["*"])] == [id(model[0].weight), id(model[2].weight)]
    assert [id(p) for p in of(model, ["1.*"])] == [id(model[0].weight)], "by its other name"
    assert Cascade().declare(model) == ("gradient", "cascade", 0, "", 500)
    with pytest.raises(ValueError, match="none that is trained matches 2.bias"):
        Cascade("2.bias").declare(model)
    with pytest.raises(ValueError, match="100 entries, a window has 4096"):
        Cascade("0.*").declare(nn.Sequential(nn.Embedding(10, 10)))
    with pytest.raises(ValueError, match="whole: 1050625 entries, at most 1048576"):
        Cascade(whole=True).declare(nn.Linear(1025, 1025, bias=False))


class Block(nn.Module):
    """A small transformer block with everything that has made trouble: fused attention, GELU, layer norm."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.fc1 = nn.Linear(width, 12)
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(self.norm(x)).unsqueeze(1).chunk(3, -1)
        x = x + nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).squeeze(1)
        return self.fc2(nn.functional.gelu(self.fc1(x))).mean(1)


def batch(samples: int = 20, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 5, 8, generator=generator, dtype=dtype)
    return inputs, torch.randint(3, (samples,), generator=generator)


@pytest.mark.parametrize("name", ["fc1.weight", "qkv.weight"])
def test_curvatures_are_those_of_the_dense_hessian(name: str) -> None:
    torch.manual_seed(2)
    model = Block().double()
    inputs, targets = batch()

    def of_weight(weight: torch.Tensor) -> torch.Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs = torch.func.functional_call(model, {name: weight}, (inputs,))
        return nn.functional.cross_entropy(outputs, targets)

    weight = model.get_parameter(name).detach()
    hessian = torch.autograd.functional.hessian(of_weight, weight).reshape(weight.numel(), -1).numpy()
    gradient = torch.autograd.functional.jacobian(of_weight, weight).numpy()
    u, sigma, vh = numpy.linalg.svd(gradient)
    curvature = Curvature(name, lambda model: nn.functional.cross_entropy(model(inputs), targets), directions=6)
    assert curvature.declare(model) == (name, "curvature", 0, "", 20_000)
    sent = spied(_curvature, "curvature", lambda: curvature.snapshot(1))
    assert sent[0] == name
    numpy.testing.assert_allclose(sent[1], sigma[:6], rtol=1e-10)
    expected = []
    for k in range(6):
        direction = numpy.outer(u[:, k], vh[k]).reshape(-1)
        expected.append(direction @ hessian @ direction)
    assert max(abs(value) for value in expected) > 1e-4, "something to compare"
    numpy.testing.assert_allclose(sent[2], expected, rtol=1e-7, atol=1e-12)


def test_curvature_of_a_convolution_in_float32() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, 1))
    inputs = torch.randn(10, 3, 6, 6)

    def loss(model: nn.Module) -> torch.Tensor:
        return (model(inputs.to(model[0].weight.dtype)) ** 2).mean()

    single = Curvature("0.weight", loss)
    single.declare(model)
    found = spied(_curvature, "curvature", lambda: single.snapshot(0))
    double = Curvature("0.weight", loss)
    double.declare(model.double())
    exact = spied(_curvature, "curvature", lambda: double.snapshot(0))
    assert len(found[1]) == len(found[2]) == 4, "as many as the flattened weight has"
    numpy.testing.assert_allclose(found[1], exact[1], rtol=1e-4, atol=1e-6 * exact[1][0])
    numpy.testing.assert_allclose(found[2], exact[2], rtol=1e-3, atol=1e-5 * max(exact[2]))


def test_a_loss_that_is_linear_in_the_parameter_has_no_curvature() -> None:
    model = nn.Linear(4, 3)
    inputs = torch.randn(7, 4)
    curvature = Curvature("weight", lambda model: model(inputs).sum())
    curvature.declare(model)
    sent = spied(_curvature, "curvature", lambda: curvature.snapshot(0))
    assert sent[2] == [0.0, 0.0, 0.0]
    assert sent[1][0] > 0


def test_a_gradient_that_is_not_finite_has_one_nan() -> None:
    model = nn.Linear(4, 3)
    curvature = Curvature("weight", lambda model: model(torch.full((2, 4), float("inf"))).sum())
    curvature.declare(model)
    sent = spied(_curvature, "curvature", lambda: curvature.snapshot(0))
    assert numpy.isnan(sent[1]).all() and numpy.isnan(sent[2]).all() and len(sent[1]) == 1


def spied(module: object, method: str, call: object) -> tuple[object, ...]:
    """The arguments that a snapshot is made from."""
    seen: list[tuple[object, ...]] = []

    class Snapshot:
        pass

    setattr(Snapshot, method, staticmethod(lambda *arguments: seen.append(arguments)))
    native = module._native  # type: ignore[attr-defined]
    spy = type("Native", (), {"Snapshot": Snapshot})
    try:
        module._native = spy  # type: ignore[attr-defined]
        call()  # type: ignore[operator]
    finally:
        module._native = native  # type: ignore[attr-defined]
    assert len(seen) == 1
    return seen[0]


def per_sample(model: nn.Module, module: nn.Module, inputs: torch.Tensor, loss_of: object) -> torch.Tensor:
    """The gradient of each sample's own loss to the module's output, by a loop over samples."""
    rows = []
    for i in range(len(inputs)):
        kept = []
        handle = module.register_forward_hook(lambda module, args, output: kept.append(output))
        loss = loss_of(model, inputs[i : i + 1], i)  # type: ignore[operator]
        handle.remove()
        rows.append(torch.autograd.grad(loss, kept[0])[0])
    return torch.cat(rows)


def test_per_sample_gradients_are_those_of_a_loop() -> None:
    torch.manual_seed(2)
    model = Block().double()
    inputs, targets = batch()
    dead = DeadDirections(
        "fc1",
        lambda model: nn.functional.cross_entropy(model(inputs), targets, reduction="none"),
        activation=nn.functional.gelu,
    )
    assert dead.declare(model) == ("fc1", "dead_directions", 12, "", 2_000)
    rows, delta, gauge = dead._samples(model)
    of_loop = per_sample(
        model, model.fc1, inputs, lambda model, x, i: nn.functional.cross_entropy(model(x), targets[i : i + 1])
    )
    assert delta.shape == (100, 12) and gauge == []
    torch.testing.assert_close(delta, of_loop.reshape(-1, 12), rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        x = inputs
        query, key, value = model.qkv(model.norm(x)).unsqueeze(1).chunk(3, -1)
        x = x + nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True).squeeze(1)
        expected = nn.functional.gelu(model.fc1(x))
    torch.testing.assert_close(rows, expected.reshape(-1, 12), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("inplace", [False, True])
def test_an_activation_in_place_does_not_reach_the_pre_activation(inplace: bool) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=inplace), nn.Linear(5, 1)).double()
    inputs = torch.randn(40, 6, dtype=torch.float64)
    dead = DeadDirections("0", lambda model: model(inputs).squeeze(1) ** 2, activation="1", gauge="ones")
    dead.declare(model)
    rows, delta, gauge = dead._samples(model)
    before = inputs @ model[0].weight.T + model[0].bias
    torch.testing.assert_close(rows, before.clamp(min=0))
    output = before.clamp(min=0) @ model[2].weight.T + model[2].bias
    torch.testing.assert_close(delta, 2 * output * model[2].weight * (before > 0))
    assert gauge == [[1.0] * 5]
    assert not model[0]._forward_hooks and not model[1]._forward_hooks


def test_every_place_of_an_image_is_a_row() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4, 2)).double()
    inputs = torch.randn(9, 2, 4, 4, dtype=torch.float64)
    dead = DeadDirections("0", lambda model: (model(inputs) ** 3).sum(1), activation="1", batch="held_out")
    assert dead.declare(model)[2] == 3
    rows, delta, _ = dead._samples(model)
    assert rows.shape == delta.shape == (9 * 4, 3)
    of_loop = per_sample(model, model[0], inputs, lambda model, x, i: (model(x) ** 3).sum())
    torch.testing.assert_close(delta, of_loop.movedim(1, -1).reshape(-1, 3))
    torch.testing.assert_close(rows, model[:2](inputs).movedim(1, -1).reshape(-1, 3).detach())


def test_what_precedes_the_layer_may_be_frozen() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    model[0].requires_grad_(False)
    inputs = torch.randn(30, 6, dtype=torch.float64)
    dead = DeadDirections("0", lambda model: model(inputs).squeeze(1))
    dead.declare(model)
    _, delta, _ = dead._samples(model)
    assert float(delta.abs().sum()) > 0 and not model[0].weight.requires_grad


def test_a_gauge_is_a_function_of_the_model() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0, 4.0, 0.5]))
    inputs = torch.randn(500, 4)
    dead = DeadDirections("0", lambda model: model(inputs).squeeze(1), gauge=lambda model: 1 / model[0].weight)
    assert dead.declare(model)[2] == 4
    assert dead._samples(model)[2] == [[1.0, 0.5, 0.25, 2.0]]
    assert dead.snapshot(0) is not None
    wrong = DeadDirections("0", lambda model: model(inputs).squeeze(1), gauge=lambda model: torch.ones(3))
    wrong.declare(model)
    with pytest.raises(ValueError, match="3 values are no direction of width 4"):
        wrong.snapshot(0)


@pytest.mark.parametrize("bias", [False, True])
def test_the_pairs_of_a_block_compute_what_it_computes(bias: bool) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 10, bias=bias), nn.Tanh(), nn.Linear(10, 3, bias=bias))
    inputs, targets = torch.randn(50, 6), torch.randn(50)
    cell = LearningCell("0", "2", "tanh", output=1, probe=(inputs, targets))
    assert cell.declare(model) == ("0", "learning_cell", 6 + bias, "tanh", 1_000)
    a, w, probe = cell._block()
    assert probe is not None and a.shape == (10,) and w.shape == (10, 6 + bias)
    f = (torch.tanh(probe[0] @ w.T) @ a) / 10
    with torch.no_grad():
        output = model(inputs)[:, 1]
        torch.testing.assert_close(f - probe[1], output - targets)
    assert cell.snapshot(0) is not None


def test_without_a_probe_biases_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3)).to(torch.bfloat16)
    cell = LearningCell("0", "2")
    assert cell.declare(model)[2] == 6
    a, w, probe = cell._block()
    assert probe is None and a.dtype == w.dtype == torch.float32
    torch.testing.assert_close(a, 10 * model[2].weight[0].float().detach())
    assert cell.snapshot(0) is not None


def test_long_rows_are_sketched() -> None:
    model = nn.Sequential(nn.Linear(1500, 4), nn.ReLU(), nn.Linear(4, 1))
    cell = LearningCell("0", "2")
    assert cell.declare(model)[2] == 1024
    assert cell.snapshot(0) is not None
    with pytest.raises(ValueError, match="with a probe at most 1024"):
        LearningCell("0", "2", probe=(torch.randn(5, 1500), None)).declare(model)


def test_mistakes_are_named() -> None:
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    inputs = torch.randn(20, 6)

    def taken(instrument: Curvature | DeadDirections) -> None:
        instrument.declare(model)
        instrument.snapshot(0)

    def scalar(model: nn.Module) -> torch.Tensor:
        return model(inputs).sum()

    def constant(model: nn.Module) -> torch.Tensor:
        return model(inputs).sum(1).detach()

    for make, message in [
        (lambda: Cascade(every=0), "every: 0 is no number of steps"),
        (lambda: Curvature("0.wieght", scalar).declare(model), "the model has no '0.wieght'; did you mean 0.weight"),
        (lambda: Curvature("0.bias", scalar).declare(model), "has shape (10,), not that of a matrix"),
        (lambda: Curvature("0.weight", scalar, directions=0), "directions: 0"),
        (lambda: taken(Curvature("0.weight", constant)), "gave no scalar but a tensor of shape (20,)"),
        (lambda: taken(Curvature("0.weight", lambda model: constant(model).sum())), "has no gradient"),
        (lambda: taken(Curvature("0.weight", lambda model: 3.0)), "gave no scalar but float"),
        (lambda: taken(Curvature("0.weight", lambda _: scalar(nn.Linear(6, 1)))), "does not depend on the parameter"),
        (lambda: DeadDirections("0", constant, batch="test"), "'test' is neither train nor held_out"),
        (lambda: DeadDirections("0", constant, gauge="twos"), "gauge: 'twos'"),
        (lambda: DeadDirections("1", constant).declare(model), "width: a ReLU does not say"),
        (lambda: taken(DeadDirections("0", scalar)), "gave one number, not a loss for every sample"),
        (lambda: taken(DeadDirections("0", constant)), "has no gradient"),
        (lambda: taken(DeadDirections("0", lambda model: inputs.sum(1))), "did not call the module"),
        (lambda: taken(DeadDirections("1", lambda model: model(inputs).sum(1), width=7)), "width: 7, but"),
        (lambda: taken(DeadDirections("0", lambda model: model(inputs).sum(1), activation="2")), "width: 10, but"),
        (lambda: taken(DeadDirections("0", lambda model: model(inputs)[:3, 0])), "3 losses, the module's output has 20"),
        (lambda: LearningCell("0", "2", "relu6"), '"relu6" is not known'),
        (lambda: LearningCell("0", "1").declare(model), "outer: 1 is a ReLU"),
        (lambda: LearningCell("2", "0").declare(model), "outer: takes 6 neurons, inner has 3"),
        (lambda: LearningCell("0", "2", output=3).declare(model), "output: 3 is not below 3"),
        (lambda: LearningCell("0", "2", probe=(inputs[:, :5], None)).declare(model), "are not n x 6"),
        (lambda: LearningCell("0", "2", probe=(inputs, inputs)).declare(model), "are not one for each input"),
    ]:
        with pytest.raises((ValueError, TypeError)) as caught:
            make()
        assert message in str(caught.value)


def test_whole_gradients_and_positions_come_from_the_client() -> None:
    assert _native.window_positions(16 * 4096) == [i * 4096 for i in range(16)]
    with pytest.raises(ValueError, match="too_small"):
        _native.window_positions(4095)
    model = nn.Linear(30, 30)
    model(torch.randn(4, 30)).sum().backward()
    cascade = Cascade(whole=True)
    cascade.declare(model)
    assert cascade.snapshot(1) is not None


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_is_no_matter(default: torch.dtype) -> None:
    """What is read at an address is float32 whatever a program makes its tensors of."""
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3))
    inputs = torch.randn(50, 6)
    torch.set_default_dtype(default)
    try:
        cell = LearningCell("0", "2", "tanh", probe=(inputs, None))
        cell.declare(model)
        a, w, probe = cell._block()
        assert probe is not None and {it.dtype for it in (a, w, *probe)} == {torch.float32}
        assert cell.snapshot(0) is not None
        bad = torch.full((5000,), float("nan"), dtype=torch.float32)
        assert _cascade.cut_windows([bad], [5000]).dtype == torch.float32
        cascade = Cascade(whole=True)
        cascade.declare(model)
        model[0].weight.grad = torch.ones_like(model[0].weight)
        assert cascade.snapshot(0) is not None
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_tensor_that_is_not_what_it_is_read_as_is_refused() -> None:
    empty = torch.randn(10)
    empty.untyped_storage().resize_(0)
    for tensor in (torch.ones(3, dtype=torch.float64), torch.ones(3, device="meta"), torch.ones(4, 4).t()[:2], empty):
        with pytest.raises(ValueError, match="is not to be read as"):
            _memory.values(tensor)
