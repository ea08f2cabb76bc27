"""A disk that takes nothing: training is the same, and what the server takes is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Server
from programs import Job, compare

TRAIN = """
    training = Training()
    run = training.begin()
    training.train(run)
    run.finish()
    training.save()
"""


@pytest.mark.parametrize(
    "variables",
    [
        # A file where the folder should be, a folder that nobody can make, one that is no path at all.
        {"GRADWATCH_SPOOL_DIR": "/dev/null/spool"},
        {"GRADWATCH_SPOOL_DIR": "/proc/spool"},
        {"GRADWATCH_SPOOL_DIR": "\udcff/x" * 100},
        {"GRADWATCH_SPOOL_DIR": "x" * 5000},
        # No home at all, and none that can be written.
        {"GRADWATCH_SPOOL_DIR": "-", "HOME": "-", "XDG_STATE_HOME": "-"},
        {"GRADWATCH_SPOOL_DIR": "-", "HOME": "/dev/null", "XDG_STATE_HOME": "-"},
        {"GRADWATCH_SPOOL_DIR": "-", "XDG_STATE_HOME": "relative"},
    ],
)
def test_a_spool_folder_that_cannot_be_used(server: Server, variables: dict[str, str]) -> None:
    job = Job(server)
    ended = compare(TRAIN, env=job.env | variables)
    assert len(ended.said) <= 1
    assert job.steps == list(range(1, 21))
    assert job.state == "finished"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_disk_that_becomes_full(server: Server, mode: str, tmp_path: Path) -> None:
    """Files may not grow beyond 4 KiB: as on a full disk, every write after that fails."""
    source = """
        import resource

        training = Training()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        run = training.begin(close_timeout=5.0)
        training.train(run, 60)
        run.finish()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
        training.save()
    """
    job = Job(server)
    compare(source, env=job.env | {"GRADWATCH_MODE": mode, "GRADWATCH_SPOOL_DIR": str(tmp_path / "spool")})
    if mode == "online":
        assert job.steps == list(range(1, 61))
        assert job.state == "finished"


def test_offline_needs_no_network_at_all(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    env = {"GRADWATCH_MODE": "offline", "GRADWATCH_SERVER": "http://127.0.0.1:1", "GRADWATCH_SPOOL_DIR": str(spool)}
    compare(TRAIN, env=env)
    assert [path.suffix for path in spool.rglob("*.log")]
