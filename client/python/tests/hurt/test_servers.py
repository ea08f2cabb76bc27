"""Servers that are away, silent, hostile or dying: training is the same, and ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import Server, wait_for
from programs import Job, Program, assert_same, compare, unwatched

TRAIN = """
    training = Training()
    run = training.begin(close_timeout=1.0)
    training.train(run)
    run.finish()
    training.save()
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted = []

        def accept() -> None:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield "http://%s:%d" % listener.getsockname()
        for connection in accepted:
            connection.close()


@pytest.fixture
def nobody() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "http://%s:%d" % listener.getsockname()


def test_a_server_that_is_there(server: Server) -> None:
    ended = compare(TRAIN, env={"GRADWATCH_SERVER": server.url})
    assert ended.said == []


def test_no_server(nobody: str) -> None:
    ended = compare(TRAIN, env={"GRADWATCH_SERVER": nobody})
    assert len(ended.said) <= 1


def test_a_server_that_says_nothing(silent: str) -> None:
    ended = compare(TRAIN, env={"GRADWATCH_SERVER": silent})
    assert len(ended.said) <= 1


@pytest.mark.parametrize("address", ["http://no.such.host.invalid:7700", "http://[::1]:1", "127.0.0.1:1"])
def test_an_address_that_leads_nowhere(address: str) -> None:
    compare(TRAIN, env={"GRADWATCH_SERVER": address})


@pytest.mark.parametrize("address", ["http://", "no address", "ftp://127.0.0.1", "http://127.0.0.1:99999", "https://\u00e4"])
def test_an_address_that_is_none(address: str) -> None:
    ended = compare(TRAIN, env={"GRADWATCH_SERVER": address})
    assert len(ended.said) >= 1


def test_a_wrong_token(own_server: Callable[..., Server]) -> None:
    server = own_server(environment={"GRADWATCH_ACCESS__REQUIRE_TOKENS": "true"})
    for token in ("gw_" + "0" * 64, "no token at all\n", "-"):
        ended = compare(TRAIN, env={"GRADWATCH_SERVER": server.url, "GRADWATCH_TOKEN": token})
        assert len(ended.said) <= 2


def test_a_server_that_dies_in_the_middle_and_comes_back(own_server: Callable[..., Server]) -> None:
    source = """
        training = Training()
        run = training.begin()
        training.train(run, 10)
        print("begun", flush=True)
        sys.stdin.readline()
        training.train(run, 10)
        print("away", flush=True)
        sys.stdin.readline()
        training.train(run, 10)
        run.finish()
        training.save()
    """
    server = own_server()
    job = Job(server)
    program = Program(source, watched=True, env=job.env)
    assert program.line() == "begun"
    wait_for("first steps", lambda: len(job.steps) >= 5 if server.items("runs", name=job.name) else None)
    server.kill()
    program.say("on")
    assert program.line() == "away"
    server.start()
    program.say("on")
    ended = program.end()
    plain = unwatched(source)
    assert ended.result is not None and plain.result is not None
    assert ended.result["weights"] == plain.result["weights"]
    assert ended.result["losses"] == plain.result["losses"]
    assert ended.code == 0 and ended.noise == ""
    assert job.steps == list(range(1, 31))
    assert job.state == "finished"


def test_a_server_that_stops_answering_in_the_middle(own_server: Callable[..., Server]) -> None:
    source = """
        training = Training()
        run = training.begin(close_timeout=1.0)
        training.train(run, 10)
        print("paused", flush=True)
        sys.stdin.readline()
        training.train(run, 50)
        run.finish()
        training.save()
    """
    server = own_server()
    program = Program(source, watched=True, env={"GRADWATCH_SERVER": server.url})
    assert program.line() == "paused"
    server.pause()
    program.say("on")
    ended = program.end()
    server.go_on()
    assert_same(ended.after("paused\n"), unwatched(source).after("paused\n"))
