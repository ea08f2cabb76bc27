"""Real processes of a process group: gloo, on this machine."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from conftest import PATIENCE


def run_ranks(world_size: int, act: Callable[..., Any], *arguments: Any, dying: Sequence[int] = ()) -> list[Any]:
    """What `act(rank, *arguments)` gives in each of the processes, in which the process group stands.

    Those that are `dying` give None, however they end.
    """
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes, ends = [], []
    for rank in range(world_size):
        end, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(theirs, rank, world_size, port, act, arguments), daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        ends.append(end)
    try:
        answers = [(None, None) if rank in dying else _answer(end) for rank, end in enumerate(ends)]
    finally:
        for process in processes:
            process.join(PATIENCE)
            process.kill()
    problems = [f"rank {rank}: {problem}" for rank, (problem, _) in enumerate(answers) if problem is not None]
    if problems:
        raise RuntimeError("\n".join(problems))
    return [answer for _, answer in answers]


def _answer(end: Connection) -> tuple[str | None, Any]:
    if not end.poll(3 * PATIENCE):
        return "says nothing", None
    try:
        problem, answer = end.recv()
    except EOFError:
        return "died", None
    return problem, answer


def _rank(end: Connection, rank: int, world_size: int, port: int, act: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo")
        answer = act(rank, *arguments)
        end.send((None, answer))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        end.send((traceback.format_exc(), None))
