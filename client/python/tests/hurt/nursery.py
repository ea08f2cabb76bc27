"""Runs scripts, each in a process of its own, without importing PyTorch for each anew: forks itself, and becomes the script.

What a script sees is a fresh interpreter that has imported PyTorch and numpy: gradwatch was never here.
"""

from __future__ import annotations

import json
import os
import socket
import sys

import numpy  # noqa: F401
import torch

# What the first optimizer imports.
import torch._dynamo  # noqa: F401


def next_script(connection: socket.socket) -> str | None:
    """Answers requests; returns in the child which a request asked for, and at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        if not message:
            return None
        request = json.loads(message)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                connection.close()
                os.setsid()
                for number, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, number)
                    os.close(descriptor)
                os.chdir(request["folder"])
                os.environ.clear()
                os.environ.update(request["environment"])
                sys.path[:0] = request["path"]
                sys.argv = [request["script"]]
                return str(request["script"])
            for descriptor in descriptors:
                os.close(descriptor)
        connection.sendall(json.dumps(answer).encode())


if __name__ == "__main__":
    script = next_script(socket.socket(fileno=int(sys.argv[1])))
    if script is not None:
        with open(script) as source:
            code = compile(source.read(), script, "exec")
        del source, script, next_script
        exec(code)
