"""One thread that writes, so that training does not wait for it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

from maskwright.errors import ConfigError

_AHEAD = 64  # a writer that falls further behind makes training wait rather than fill memory


class Writer:
    """Applies what it is given, one after another, in the order it was given.

    Args:
        apply: called in the thread, with `lock` held. What it raises is raised again by the next
            `put` or `flush`, and nothing after it is applied.
    """

    def __init__(self, apply: Callable[[Any], None]) -> None:
        self.lock = threading.Lock()
        self._apply = apply
        self._queue: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._told = self._stopped = False
        self._process = os.getpid()

    @property
    def own(self) -> bool:
        """Whether this is the process that may write; a fork of it has no thread."""
        return os.getpid() == self._process

    def check(self) -> None:
        """Raises `ConfigError` where nothing may be written: in a fork, and after `stop`."""
        if not self.own:
            raise ConfigError(
                f"Process {os.getpid()} is a fork of the one that opened the score store "
                f"({self._process}): it may read, and only the other may write."
            )
        if self._stopped:
            raise ConfigError("The score store is closed. Open it again to write to it.")

    def put(self, item: Any) -> None:
        """Hand over ``item``; returns at once while the thread keeps up."""
        self.check()
        self._raise()
        if self._thread is None:
            # started by the first write, so that workers that fork before it fork one thread
            self._thread = threading.Thread(target=self._run, name="score-store", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def flush(self) -> None:
        """Wait until all that was put is applied. In a fork there is nothing to wait for."""
        if self.own:
            self._queue.join()
            self._raise()

    def stop(self) -> None:
        """Apply the rest and end the thread; again does nothing more.

        Raises what the thread raised, if nobody was told yet.
        """
        if not self.own or self._stopped:
            return
        self._stopped = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if not self._told:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            try:
                if item is None:
                    return
                if self._error is None:
                    with self.lock:
                        self._apply(item)
            except BaseException as error:
                self._error = error
            finally:
                self._queue.task_done()
