"""A Ray cluster: the one that is running, or one on this machine for the time of the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from maskwright.data.prepare.engine import Result, Task, WorkerLost, attempt, opened
from maskwright.errors import MissingExtra

_TRIES = 4  # a task whose process or machine dies goes to another one


class Cluster:
    """Tasks as Ray tasks, one core each.

    Ray's own rule says which cluster: that of ``RAY_ADDRESS`` or of this machine, if one runs;
    otherwise one is started here. Every machine of it must see the source and the output folder
    under the same names. A task whose worker dies is done again elsewhere.

    Args:
        workers: cores of a cluster that is started here; all of them unless given.
    """

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtra("ray", "scale") from None
        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            _start(ray, workers)
        self._remote = ray.remote(num_cpus=1, max_retries=_TRIES - 1)(_attempt)

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        ray, waiting = self._ray, iter(tasks)
        room = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: list[Any] = []
        try:
            while True:
                for task in waiting:
                    running.append(self._remote.remote(function, task))
                    if len(running) >= room:
                        break
                if not running:
                    return
                ended, running = ray.wait(running, num_returns=1)
                for result in ray.get(ended):
                    yield opened(result)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError,
                ray.exceptions.OutOfMemoryError) as error:  # fmt: skip
            raise WorkerLost(
                f"A task lost its Ray worker {_TRIES} times ({type(error).__name__}; out of "
                "memory?). What was finished is kept: the same command goes on."
            ) from None
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()


def _start(ray: Any, workers: int | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address="auto", log_to_driver=False)
    except ConnectionError:  # none is running
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)


def _attempt(function: Callable[[Task], Result], task: Task) -> Any:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one core
    return attempt(function, task)
