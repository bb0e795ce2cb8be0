"""Several processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from maskwright.data.prepare.engine import Result, Task, WorkerLost, attempt, opened
from maskwright.worker_process import end_with_parent, no_interrupt


class Processes:
    """``workers`` processes, started with the first task and kept until `close`.

    A worker that dies (the kernel's out-of-memory killer, mostly) ends the work with `WorkerLost`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._others: set[Any] = set()

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting = iter(tasks)
        running: set[Future[Any]] = set()
        try:
            while True:
                for task in waiting:
                    running.add(self._submit(function, task))
                    if len(running) >= 2 * self.workers:  # one to do, one at hand
                        break
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield opened(future.result())
        except BrokenProcessPool:
            self.close()
            raise WorkerLost(
                "A worker process was ended from outside (out of memory?). What was finished is "
                "kept: the same command goes on, with fewer --workers if memory was short."
            ) from None
        except BaseException:
            self._kill()  # Ctrl-C, or an error: nobody wants to wait for what would be discarded
            raise

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _submit(self, function: Callable[[Task], Result], task: Task) -> Future[Any]:
        with no_interrupt():  # processes are started here, and inherit it
            if self._pool is None:
                self._others = set(multiprocessing.active_children())
                # not forked: threads of torch and tokenizers do not survive a fork
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(self.workers, context, _begin)
            return self._pool.submit(attempt, function, task)

    def _kill(self) -> None:
        # what a task writes is renamed into place when it is whole, so it may end at any moment
        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()
        self.close()


def _begin() -> None:
    """In a worker: alone with its core, and gone when the process that started it is killed."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
