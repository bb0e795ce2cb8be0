"""How long things take beside each other, on a machine that others use as well."""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator


def time_interleaved(
    functions: dict[str, Callable[[], object]],
    repeats: int = 7,
    min_seconds: float = 0.05,
    against: str | None = None,
    max_seconds: float = math.inf,
) -> dict[str, float]:
    """Seconds per call of each function: the median over ``repeats`` interleaved rounds.

    For differences of a few percent a machine drifts too much between rounds. With ``against``, the
    name of one of the functions, each of the others is compared with it within every round: its
    seconds are the median of those ratios times the seconds of that one.

    Every round times every function once, for at least ``min_seconds``. We interleave because a
    shared machine has noisy neighbours: timed one after the other, whichever ran while a neighbour
    was busy would lose. Interleaved, a slow minute hits all of them, and the median drops the
    rounds it spoiled. The order turns from round to round, and every other round goes backwards, so
    that none is always the first, or always after the same one. One thread, because thread
    scheduling is the larger noise on few cores, and because a data loader's worker has one too. The
    first call of each function, which may compile, is not counted.

    With ``max_seconds`` there are fewer rounds where calls take long: none begins so many seconds
    after the first call. If that leaves none, the calls count that said how many fill a round.
    """
    if not functions:
        raise ValueError("functions is empty: there is nothing to time")
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; a median needs at least 1")
    if against is not None and against not in functions:
        raise ValueError(f"against is {against!r}, which is none of {', '.join(functions)}")

    rounds: dict[str, list[float]] = {name: [] for name in functions}
    with _one_thread(), _no_garbage_collection():
        begin = time.perf_counter()
        calls, first = {}, {}
        for name, function in functions.items():
            calls[name], first[name] = _calls_for(function, min_seconds)
        names = list(functions)
        for turn in range(repeats):
            if time.perf_counter() - begin > max_seconds:
                break
            start = turn // 2 % len(names)
            order = names[start:] + names[:start]
            for name in order if turn % 2 == 0 else reversed(order):
                function, count = functions[name], calls[name]
                before = time.perf_counter()
                for _ in range(count):
                    function()
                rounds[name].append((time.perf_counter() - before) / count)
    if not any(rounds.values()):
        rounds = {name: [seconds] for name, seconds in first.items()}
    found = {name: statistics.median(seconds) for name, seconds in rounds.items()}
    if against is None:
        return found
    base = rounds[against]
    return {
        name: found[against] * statistics.median(a / b for a, b in zip(seconds, base, strict=True))
        for name, seconds in rounds.items()
    }


def _calls_for(function: Callable[[], object], min_seconds: float) -> tuple[int, float]:
    """How many calls fill ``min_seconds``, and the seconds of one of them."""
    function()  # compiles, and fills caches
    count = 1
    while True:
        before = time.perf_counter()
        for _ in range(count):
            function()
        elapsed = time.perf_counter() - before
        if elapsed >= min_seconds:
            return count, elapsed / count
        # Aim a little past the target, but never leap on a reading too short to trust.
        count = max(count + 1, min(10 * count, math.ceil(1.2 * count * min_seconds / elapsed)))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One thread in torch and numba, where the benchmark has imported them."""
    with contextlib.ExitStack() as undo:
        # numba first: asked for the first time, it starts its threads, and sets torch's to as many
        for name in ("numba", "torch"):
            library = sys.modules.get(name)
            if library is not None:
                undo.callback(library.set_num_threads, library.get_num_threads())
                library.set_num_threads(1)
        yield


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
