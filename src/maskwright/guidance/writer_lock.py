"""One writer for one file: an advisory lock that ends with the process that holds it.

It is a lock of the operating system (``flock``), not a file that a killed process leaves behind:
after a ``kill -9`` the next run opens the store at once. Readers ask for none. Where the system or
the file system has no such locks (Windows, some network mounts), nothing is locked between
processes. Within a process the last who opens it to write is the writer, and the one before is
closed: so a training that was broken off in a notebook can be started again.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path

from maskwright.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class WriterLock:
    """Held from its making to `release`, or until nothing refers to it.

    Attributes:
        close: called when another writer of this process takes the file.

    Raises:
        ConfigError: another process has the file.
    """

    def __init__(self, path: Path) -> None:
        self.close: Callable[[], object] | None = None
        descriptor = os.open(path, os.O_RDWR)
        self.release = weakref.finalize(self, os.close, descriptor)
        self.release.atexit = False  # the system does it; a thread may still write until then
        status = os.fstat(descriptor)
        file = status.st_dev, status.st_ino
        before = _HELD.get(file)
        if before is not None:
            if before.close is not None:
                before.close()
            before.release()
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                raise ConfigError(
                    f"{path} is open for writing in another process, and two writers would mix "
                    "their scores. End that run first. To read beside it: ScoreStore.open(path, "
                    "write=False); another run takes a store of its own."
                ) from None
            except OSError:
                pass  # this file system knows no locks
        _HELD[file] = self


_HELD: weakref.WeakValueDictionary[tuple[int, int], WriterLock] = weakref.WeakValueDictionary()


def _let_go() -> None:
    # A fork shares its parent's lock, and would hold it after the parent was killed. Closing the
    # fork's own descriptor leaves the parent's lock as it is.
    for lock in list(_HELD.values()):
        lock.release()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
