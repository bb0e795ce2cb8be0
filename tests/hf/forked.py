"""Ranks of a run as forks of this process, which has transformers already: no minute of imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

_SECONDS = 120


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def on_ranks(world: int, function: Callable[[int], Any]) -> list[Any]:
    """What ``function(rank)`` gives in each of ``world`` processes, over gloo with more than one.

    Raises:
        AssertionError: a rank failed; with what it raised.
    """
    context, port = multiprocessing.get_context("fork"), free_port()
    ends, started = [], []
    for rank in range(world):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(theirs, rank, world, port, function))
        process.start()
        theirs.close()
        ends.append(ours)
        started.append(process)
    try:
        found = [end.recv() if end.poll(_SECONDS) else ("silent", None) for end in ends]
    finally:
        for process in started:
            process.kill()
            process.join()
    broken = [text for text, _ in found if text]
    assert not broken, "\n".join(broken)
    return [given for _, given in found]


def _run(end: Any, rank: int, world: int, port: int, function: Callable[[int], Any]) -> None:
    from accelerate.state import AcceleratorState, PartialState

    # what this process knows of the one that it was forked from
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
    try:
        end.send(("", function(rank)))
    except BaseException:
        end.send((traceback.format_exc(), None))
    end.close()
    os._exit(0)  # nothing of the tests' process is to be ended here
