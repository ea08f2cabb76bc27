"""Mistakes in calls: counted, said once each, and training goes on. Values of all kinds that training code has at hand."""

from __future__ import annotations

import pytest
from conftest import Server
from programs import Job, compare, run

GARBAGE = """
    class Hostile:
        def __getattr__(self, name): raise RuntimeError(name)
        def __str__(self): raise RuntimeError("str")
        def __repr__(self): raise RuntimeError("repr")
        def __iter__(self): raise RuntimeError("iter")
        def __len__(self): raise RuntimeError("len")
        def __bool__(self): raise RuntimeError("bool")
        def __eq__(self, other): raise RuntimeError("eq")
        def __float__(self): raise RuntimeError("float")
        def __hash__(self): raise RuntimeError("hash")

    cyclic = {}
    cyclic["self"] = cyclic
    deep = []
    for _ in range(100_000):
        deep = [deep]
    GARBAGE = [
        None, 0, -1, 2**70, 1.5, float("nan"), float("inf"), True, "", "x", "\\0", "\\ud800", "x" * 100_000, b"bytes", [], [None], (), {},
        {None: None}, {"": ""}, {"a": None}, {"\\ud800": 1}, {"a": "\\0"}, cyclic, deep, object(), object, lambda: 1, Hostile(), Ellipsis,
        torch.tensor(1.0), torch.zeros(3), torch.nn.Linear(1, 1), torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1),
        threading, Exception("x"), range(3), iter([1]), {1, 2},
    ]
"""


def test_garbage_for_init(server: Server) -> None:
    source = GARBAGE + """
    if WATCHED:
        import gradwatch
        names = ["config", "labels", "id", "resume", "server", "token", "mode", "spool_dir", "buffer_bytes", "close_timeout"]
        for value in GARBAGE:
            for name in names:
                made = gradwatch.init("hurt", "garbage", **({"mode": "disabled"} | {name: value}))
                made.log({"loss": 1.0})
                made.finish()
            for project, name in [(value, "x"), ("x", value)]:
                gradwatch.init(project, name, mode="disabled").finish()
        gradwatch.init("hurt", "garbage", mode="nonsense").finish()
    training = Training()
    run = training.begin()
    training.train(run)
    run.finish()
    training.save()
    """
    job = Job(server)
    compare(source, env=job.env)
    assert job.steps == list(range(1, 21))


@pytest.mark.parametrize("name", ["config", "labels", "id", "resume", "token", "buffer_bytes", "close_timeout"])
def test_garbage_that_reaches_the_native_part(server: Server, name: str) -> None:
    source = GARBAGE + f"""
    training = Training()
    for value in GARBAGE:
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run = training.init(**{{"close_timeout": 0.0, "server": "http://127.0.0.1:1"}} | {{"{name}": value}})
        run.watch(model, optimizer, every=1)
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        run.log({{"loss": 1.0}})
        run.finish()
    training.train(run)
    training.save()
    """
    compare(source, env=Job(server).env)


def test_garbage_for_watch(server: Server) -> None:
    source = GARBAGE + """
    training = Training()
    names = ["groups", "every", "budget", "instruments", "windows", "dim", "seed", "encoding"]
    for value in GARBAGE:
        for name in names:
            run = training.init(close_timeout=0.0, server="http://127.0.0.1:1")
            model = nn.Linear(2, 2)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            run.watch(model, optimizer, **{name: value})
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
            run.finish()
        for arguments in [(value, training.optimizer), (training.model, value), (value, value)]:
            run = training.init(close_timeout=0.0, server="http://127.0.0.1:1")
            run.watch(*arguments)
            run.finish()
    run = training.init()
    run.watch(training.model)
    run.watch()
    run.watch(nonsense=1)
    training.watch(run)
    training.train(run)
    run.finish()
    training.save()
    """
    job = Job(server)
    compare(source, env=job.env)
    assert job.steps == list(range(1, 21))


def test_garbage_for_the_rest(server: Server) -> None:
    source = GARBAGE + """
    training = Training()
    run = training.begin()
    training.train(run, 5)
    for value in GARBAGE:
        run.log(value)
        run.log({"x": value})
        run.log({"x": 1.0}, step=value if value is not None else 10**30)
        run.happened(value)
        with contextlib.suppress(Exception):
            run.status(value)
    run.log()
    run.log(1, 2, 3, 4)
    run.happened()
    run.phase = "one"
    run.finish(nonsense=True)
    training.train(run, 5)
    if WATCHED:
        assert run.status()["failures"] > 50
    for value in GARBAGE:
        training.init(server="http://127.0.0.1:1").finish(value)
    run.finish()
    training.save()
    """
    job = Job(server)
    compare("\n    import contextlib\n" + source, env=job.env)
    assert job.state == "finished"
    assert job.steps == list(range(1, 11))


def test_scalars_of_all_kinds(server: Server) -> None:
    source = """
        training = Training()
        run = training.begin()
        training.step()
        run.log({
            "python": 1.5,
            "int": 2,
            "bool": True,
            "numpy32": numpy.float32(0.5),
            "numpy_int": numpy.int64(7),
            "numpy_array": numpy.array(3.25),
            "tensor": torch.tensor(4.5, requires_grad=True),
            "tensor_bf16": torch.tensor([8.0], dtype=torch.bfloat16),
            "tensor_int": torch.tensor(9),
            "nan": float("nan"),
            "inf": torch.tensor(float("inf")),
        })
        # One that is none costs itself only.
        run.log({"good": 1.0, "none": None, "text": "0.5 or so", "vector": torch.zeros(3), "meta": torch.zeros((), device="meta"),
                 "": 1.0, "complex": 1j, "huge": 10**400, "list": [1.0]})
        if WATCHED:
            assert run.status()["failures"] > 0
        training.train(run, 3)
        run.finish()
        training.save()
    """
    job = Job(server)
    compare(source, env=job.env)
    scalars = job.scalars[1]
    assert scalars | {"nan": None, "inf": None} == {
        "python": 1.5,
        "int": 2.0,
        "bool": 1.0,
        "numpy32": 0.5,
        "numpy_int": 7.0,
        "numpy_array": 3.25,
        "tensor": 4.5,
        "tensor_bf16": 8.0,
        "tensor_int": 9.0,
        "nan": None,
        "inf": None,
        "good": 1.0,
    }


@pytest.mark.parametrize("flags", [("-W", "error"), ("-O",), ("-OO",), ("-X", "dev"), ("-b",), ("-W", "ignore")])
def test_flags_of_the_interpreter(server: Server, flags: tuple[str, ...]) -> None:
    """Also with something to warn of."""
    source = """
        training = Training()
        run = training.begin()
        run.log("no scalars")
        run.watch(training.model, training.optimizer)
        training.train(run, 5)
        run.finish()
        training.save()
    """
    job = Job(server)
    compare(source, env=job.env, flags=flags)
    assert job.steps == [1, 2, 3, 4, 5]


def test_warnings_are_said_once() -> None:
    source = """
        training = Training()
        run = training.begin(close_timeout=0.0)
        for _ in range(100):
            run.log("no scalars")
            run.happened(None)
        training.train(run, 3)
        run.finish()
        training.save()
    """
    ended = compare(source, env={"GRADWATCH_SERVER": "http://127.0.0.1:1"})
    assert len([line for line in ended.said if "Warning" in line]) == 2


def test_warnings_that_cannot_be_said() -> None:
    source = """
        import warnings

        def show(*arguments, **named):
            raise RuntimeError("nobody may warn here")

        training = Training()
        warnings.showwarning = show
        sys.stderr.close()
        sys.stderr = None
        run = training.begin(close_timeout=0.0)
        run.log("no scalars")
        training.train(run)
        run.finish()
        training.save()
    """
    compare(source, env={"GRADWATCH_SERVER": "http://127.0.0.1:1"})


def test_strict_raises() -> None:
    source = """
        import gradwatch
        for mistake in [dict(mode="nonsense"), dict(resume="yes"), dict(labels=3)]:
            try:
                gradwatch.init("hurt", "strict", strict=True, **mistake)
            except (ValueError, TypeError, AttributeError):
                continue
            raise AssertionError(mistake)
        run = gradwatch.init("hurt", "strict", strict=True, server="http://127.0.0.1:1", close_timeout=0.0)
        try:
            run.log("no scalars")
        except Exception:
            print("raised")
    """
    ended = run(source)
    assert ended.code == 0 and ended.stdout == "raised\n", ended.stderr
