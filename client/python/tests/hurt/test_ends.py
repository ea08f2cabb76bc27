"""Every way in which a training process can end."""

from __future__ import annotations

import signal

import pytest
from conftest import Server, wait_for
from programs import Job, Program, assert_same, compare, run, unwatched

# What the script does at its end, how the run is recorded then, and how many of its 20 steps at least.
ENDS = {
    "finish": ("run.finish()", "finished", 20),
    "finish_failed": ("run.finish('failed')", "failed", 20),
    "finish_twice": ("run.finish(); run.finish('failed'); run.log({'late': 1.0}); run.happened('late')", "finished", 20),
    "trains_on_after_finish": ("run.finish(); training.train(run, 5)", "finished", 20),
    "nothing": ("", "finished", 20),
    "exit_0": ("sys.exit()", "finished", 20),
    "an_exception": ("raise ValueError('the loss is odd')", "failed", 20),
    "ctrl_c": ("signal.raise_signal(signal.SIGINT)", "failed", 20),
    "forgotten": ("del run, training; import gc; gc.collect()", "finished", 20),
    "excepthook_of_its_own": (
        "sys.excepthook = lambda *error: print('hook', error[0].__name__); raise ValueError('odd')",
        "failed",
        20,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_without_with(server: Server, name: str) -> None:
    end, state, steps = ENDS[name]
    source = f"""
        training = Training()
        run = training.begin()
        training.train(run, 20)
        training.save()
        {end}
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.ends() == state
    assert job.steps == list(range(1, steps + 1))
    assert job.happened == []


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("pass", "finished"),
        ("raise ValueError('the loss is odd')", "failed"),
        ("raise KeyboardInterrupt", "failed"),
        ("sys.exit()", "finished"),
        ("sys.exit(0)", "finished"),
        ("sys.exit(3)", "failed"),
        ("sys.exit('no more data')", "failed"),
        ("run.finish('preempted'); sys.exit(1)", "preempted"),
    ],
)
def test_ends_of_with(server: Server, end: str, state: str) -> None:
    source = f"""
        training = Training()
        with training.begin() as run:
            training.train(run, 5)
            training.save()
            {end}
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.ends() == state
    assert job.steps == list(range(1, 6))


def test_an_exception_that_is_caught_is_the_programs_own_affair(server: Server) -> None:
    source = """
        training = Training()
        run = training.begin()
        try:
            training.train(run, 5)
            raise ValueError("odd")
        except ValueError:
            training.train(run, 5)
        training.save()
    """
    job = Job(server)
    compare(source, env=job.env)
    assert job.ends() == "finished"
    assert job.steps == list(range(1, 11))


def test_nothing_is_waited_for_at_the_end_for_long() -> None:
    """Without finish(), with a server that is not there: the program ends, by itself."""
    source = """
        training = Training()
        run = training.begin(close_timeout=3600.0)
        training.train(run, 20)
        training.save()
    """
    assert len(compare(source, env={"GRADWATCH_SERVER": "http://127.0.0.1:1"}).said) <= 1


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM); signal.pause()", -signal.SIGTERM),
        ("os.abort()", -signal.SIGABRT),
    ],
)
def test_ends_that_nobody_sees_coming(server: Server, end: str, code: int) -> None:
    """No outcome is made up: the server notices the silence."""
    source = f"""
        training = Training()
        run = training.begin()
        training.train(run, 10)
        training.save()
        {end}
    """
    job = Job(server)
    ended = run(source, env=job.env)
    assert_same(ended, unwatched(source))
    assert ended.code == code and ended.said == []
    for recorded in server.items("runs", name=job.name):
        assert recorded["state"] == "running"


def test_sigterm_that_the_program_handles(server: Server) -> None:
    """As schedulers preempt: the handler is the program's own, and so is the outcome."""
    source = """
        def preempted(number, frame):
            run.finish("preempted")
            training.save()
            sys.exit(143)

        training = Training()
        run = training.begin()
        signal.signal(signal.SIGTERM, preempted)
        training.train(run, 10)
        os.kill(os.getpid(), signal.SIGTERM)
        training.train(run, 1000)
    """
    job = Job(server)
    ended = run(source, env=job.env)
    assert_same(ended, unwatched(source))
    assert ended.code == 143
    assert job.ends() == "preempted"


def test_ctrl_c_anywhere_in_the_loop(server: Server) -> None:
    """KeyboardInterrupt reaches the program also when it comes in the middle of our work, and training can go on after it."""
    source = """
        import time

        def steps():
            # Mostly inside of our hook: a large model, and nothing is computed.
            while True:
                optimizer.step()

        model = nn.Linear(2000, 2000)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        training = Training()
        run = training.init()
        run.watch(model, optimizer, every=1, windows=(3,))
        caught = 0
        main = threading.get_ident()
        for round in range(30):
            timer = threading.Timer(0.01 + 0.003 * round, lambda: signal.pthread_kill(main, signal.SIGINT))
            try:
                timer.start()
                steps()
            except KeyboardInterrupt:
                caught += 1
            timer.join()
        assert caught == 30
        before = run.status().get("submitted") if WATCHED else 0
        for _ in range(3):
            optimizer.step()
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.ends() == "finished"
    # Rows that were cut short are left out, none is made of half of the parameters: nothing moved, so every norm is 0.
    readings = server.readings(job.run_id)
    assert readings and {reading["update_norm"] for reading in readings} <= {0.0, None}


def test_ctrl_c_while_finish_waits() -> None:
    source = """
        training = Training()
        run = training.begin(close_timeout=3600.0)
        training.train(run, 5)
        training.save()
        print("waiting", flush=True)
        try:
            run.finish()
            if not WATCHED:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("caught", flush=True)
    """
    program = Program(source, watched=True, env={"GRADWATCH_SERVER": "http://127.0.0.1:1"})
    assert program.line() == "waiting"
    # Too early a signal would hit the print above it.
    wait_for("the wait", lambda: "gradwatch-close" in program.threads())
    program.send(signal.SIGINT)
    assert program.line() == "caught"
    ended = program.end()
    assert ended.code == 0 and ended.noise == ""


def test_daemon_threads_that_call_us_while_the_interpreter_ends() -> None:
    """Threads that come back from our native code to an interpreter that is gone. They do not train: PyTorch itself may
    abort then."""
    source = """
        import time

        training = Training()
        run = training.begin()
        training.train(run, 5)

        def forever():
            sketches, values = _native.Sketches(64, 0, 1, [("all", [0])]), torch.zeros(1 << 20)
            pieces = [(0, 1, 0, values.data_ptr(), 1 << 20, "f32")]
            while True:
                sketches.add(pieces)
                run.log({"thread": 1.0})
                run.happened("thread")
                run.flush()
                run.status()

        if WATCHED:
            from gradwatch import _native
            for _ in range(3):
                threading.Thread(target=forever, daemon=True).start()
        training.save()
        time.sleep(0.3)
        print("over")
    """
    for _ in range(3):
        ended = run(source, env={"GRADWATCH_SERVER": "http://127.0.0.1:1"})
        assert ended.code == 0, ended.stderr
        assert ended.stdout == "over\n"
        assert ended.noise == ""
