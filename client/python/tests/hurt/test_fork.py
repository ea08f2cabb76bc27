"""Processes that are forked or spawned from a watched one send nothing, touch nothing, and end."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Server
from programs import Job, compare

FORKED_CHILD_TRAINS_ON = """
    training = Training()
    run = training.begin()
    training.train(run, 10)
    child = os.fork()
    # Both go on with the same model, optimizer and run.
    training.train(run, 10)
    if child == 0:
        run.happened("forked")
        run.finish()
        {end}
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == {code}
        run.finish()
        training.save()
"""


@pytest.mark.parametrize(
    ("end", "code"), [("pass", 0), ("os._exit(3)", 3), ("sys.exit(4)", 4), ("del run, training; import gc; gc.collect()", 0)]
)
def test_a_forked_child_that_trains_on(server: Server, tmp_path: Path, end: str, code: int) -> None:
    spool = tmp_path / "spool"
    job = Job(server)
    ended = compare(
        FORKED_CHILD_TRAINS_ON.format(end=end, code=code), env=job.env | {"GRADWATCH_SPOOL_DIR": str(spool)}
    )
    assert ended.said == []
    assert job.state == "finished"
    assert job.steps == list(range(1, 21))
    assert job.happened == []
    assert not list(spool.glob("*")), "all of it is settled"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_data_loaders_with_workers(server: Server, method: str) -> None:
    source = f"""
        from torch.utils.data import DataLoader, Dataset

        class Numbers(Dataset):
            def __init__(self, run):
                # A run that came here by accident.
                self.run = run
            def __len__(self):
                return 8
            def __getitem__(self, index):
                self.run.log({{"loaded": index}})
                return torch.full((16,), float(index))

        if __name__ == "__main__":
            training = Training()
            run = training.init()
            training.watch(run)
            numbers = Numbers(run)
            for epoch in range(2 if "{method}" == "fork" else 1):
                loader = DataLoader(numbers, batch_size=2, num_workers=1, multiprocessing_context="{method}")
                for batch in loader:
                    training.step()
                    assert batch.shape == (2, 16)
            run.finish()
            training.save()
    """
    job = Job(server)
    ended = compare(source, env=job.env, fresh=True)
    assert ended.said == []
    assert job.steps == list(range(1, 9 if method == "fork" else 5))
    assert not any(job.scalars.values())


def test_forks_while_threads_are_logging(server: Server) -> None:
    """A lock that another thread holds at the moment of the fork is never waited for in the child."""
    source = """
        training = Training()
        run = training.begin()
        over = threading.Event()

        def chatter():
            step = 0
            while not over.is_set():
                run.log({"chatter": 1.0})
                run.status()

        threads = [threading.Thread(target=chatter) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                run.log({"child": 1.0})
                run.status()
                training.step()
                run.finish()
                del run, training
                os._exit(0)
            training.step()
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        for thread in threads:
            thread.join()
        run.finish()
        training.save()
    """
    job = Job(server)
    ended = compare(source, env=job.env)
    assert ended.said == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_that_is_given_a_run(server: Server, method: str) -> None:
    source = f"""
        import multiprocessing

        def child(run, model):
            run.log({{"child": 1.0}})
            run.watch(model, torch.optim.SGD(model.parameters(), lr=0.1))
            run.finish()

        if __name__ == "__main__":
            training = Training()
            run = training.begin()
            training.train(run, 5)
            process = multiprocessing.get_context("{method}").Process(target=child, args=(run, training.model))
            process.start()
            process.join()
            assert process.exitcode == 0
            training.train(run, 5)
            run.finish()
            training.save()
    """
    job = Job(server)
    ended = compare(source, env=job.env, fresh=True)
    assert ended.said == []
    assert job.steps == list(range(1, 11))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_that_trains_by_itself_and_does_not_say_how_it_ends(server: Server, method: str) -> None:
    """What it sent is there, and no outcome is made up: nobody sees how a child of `multiprocessing` ends."""
    source = f"""
        import multiprocessing

        def child(fails):
            training = Training()
            run = training.begin()
            training.train(run, 10)
            if fails:
                sys.exit(1)

        if __name__ == "__main__":
            for fails in (False, True):
                process = multiprocessing.get_context("{method}").Process(target=child, args=(fails,))
                process.start()
                process.join()
                assert process.exitcode == int(fails)
            Training().save()
    """
    job = Job(server)
    assert compare(source, env=job.env, fresh=True).said == []
    runs = server.items("runs", name=job.name)
    assert {run["state"] for run in runs} <= {"running"}
    if method == "spawn":
        # A forked one ends without a word to anybody (`os._exit`); what it did not send waits on disk.
        assert [run["last_step"] for run in runs] == [10, 10]
