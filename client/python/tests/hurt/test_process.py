"""Several runs, threads and imports in one process."""

from __future__ import annotations

from conftest import Server
from programs import Job, compare


def test_two_runs_in_one_process(server: Server) -> None:
    source = """
        first, second = Training(1), Training(2)
        run_of_first, run_of_second = first.begin(), second.begin(labels={"which": "second"})
        for _ in range(10):
            first.train(run_of_first, 1)
            second.train(run_of_second, 1)
            second.train(run_of_second, 1)
        run_of_first.finish()
        second.train(run_of_second, 5)
        run_of_second.finish("failed")
        first.losses += second.losses
        first.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    runs = {bool(run["labels"]): run for run in server.items("runs", name=job.name)}
    steps = {which: [step["step"] for step in server.steps(run["run_id"])] for which, run in runs.items()}
    assert steps == {False: list(range(1, 11)), True: list(range(1, 26))}
    assert (runs[False]["state"], runs[True]["state"]) == ("finished", "failed")


def test_one_run_after_the_other(server: Server) -> None:
    """The second watches the same model and optimizer; the first one's hooks are gone."""
    source = """
        training = Training()
        for _ in range(3):
            with training.begin() as run:
                training.train(run, 5)
        assert len(training.optimizer._optimizer_step_post_hooks) <= 1
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    runs = server.items("runs", name=job.name)
    assert len(runs) == 3
    for run in runs:
        assert [step["step"] for step in server.steps(run["run_id"])] == [1, 2, 3, 4, 5]


def test_threads_that_log_at_once(server: Server) -> None:
    source = """
        training = Training()
        run = training.begin()
        over = threading.Event()

        def chatter(name):
            while not over.is_set():
                run.log({name: 1.0})
                run.happened(name)
                run.checkpoint_id, run.id

        threads = [threading.Thread(target=chatter, args=(f"thread{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        training.train(run, 50)
        over.set()
        for thread in threads:
            thread.join()
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    scalars = job.scalars
    # What was said before the first step is said of step 0.
    scalars.pop(0, None)
    assert list(scalars) == list(range(1, 51))
    assert all("loss" in of_step for of_step in scalars.values())


def test_finish_from_another_thread(server: Server) -> None:
    source = """
        training = Training()
        run = training.begin()
        training.train(run, 5)
        finisher = threading.Thread(target=run.finish)
        finisher.start()
        training.train(run, 50)
        finisher.join()
        run.finish("failed")
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.state == "finished"


def test_the_package_is_imported_again(server: Server) -> None:
    source = """
        import importlib

        training = Training()
        run = training.begin()
        training.train(run, 5)
        if WATCHED:
            import gradwatch
            for name in [name for name in sys.modules if name.startswith("gradwatch.") and not name.endswith("_native")]:
                importlib.reload(sys.modules[name])
            importlib.reload(gradwatch)
        training.train(run, 5)
        run.finish()
        other = Training(3)
        other_run = other.begin()
        other.train(other_run, 5)
        training.losses += other.losses
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    runs = server.items("runs", name=job.name)
    assert sorted(run["last_step"] for run in runs) == [5, 10]
    assert {run["state"] for run in runs} == {"finished"}


def test_the_package_is_dropped_from_the_modules(server: Server) -> None:
    source = """
        training = Training()
        run = training.begin()
        training.train(run, 5)
        for name in [name for name in sys.modules if name.split(".")[0] == "gradwatch"]:
            del sys.modules[name]
        training.train(run, 5)
        run.finish()
        training.save()
    """
    job = Job(server)
    assert compare(source, env=job.env).said == []
    assert job.steps == list(range(1, 11))


def test_a_run_that_is_disabled_does_nothing() -> None:
    source = """
        training = Training()
        with training.begin(mode="disabled") as run:
            training.train(run, 5)
            if WATCHED:
                assert run.checkpoint_id is None and isinstance(run.status(), dict)
        # Nothing is hooked, and no thread is there.
        print(len(training.optimizer._optimizer_step_post_hooks), len(os.listdir("/proc/self/task")) - process()["torch_threads"][0])
        training.save()
    """
    assert compare(source).said == []
