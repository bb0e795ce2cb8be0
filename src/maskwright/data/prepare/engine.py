"""Who does the tasks: this process, several on this machine, or a Ray cluster.

Tasks do not depend on each other, and each writes its own files, whole or not at all. So an engine
may do them in any order, anywhere, and more than once, and the files are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from maskwright.errors import MaskwrightError, SaveError

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerLost(MaskwrightError):
    """A worker process died; what was finished is kept."""


class Engine(Protocol):
    """Does tasks, and gives their results as they come, in any order."""

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``function`` of each task. The first error that one raises ends it."""
        ...

    def close(self) -> None:
        """Ends what it has started."""
        ...


class Here:
    """In this process, one after another."""

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        return map(function, tasks)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Failed:
    """An error of ours on its way from another process.

    Exceptions themselves do not all survive the journey: some take other arguments than they keep,
    and none brings its cause.
    """

    kind: type[MaskwrightError]
    arguments: tuple[Any, ...]
    errno: int | None
    reason: str

    def again(self) -> MaskwrightError:
        error = self.kind.__new__(self.kind, *self.arguments)
        Exception.__init__(error, *self.arguments)
        error.__cause__ = OSError(self.errno, self.reason) if self.errno is not None else None
        return error


def attempt(function: Callable[[Task], Result], task: Task) -> Result | Failed:
    """``function(task)``, or how it failed: what an engine calls elsewhere."""
    try:
        return function(task)
    except MaskwrightError as error:
        cause = error.__cause__ if isinstance(error, SaveError) else None
        errno = cause.errno if isinstance(cause, OSError) else None
        reason = (cause.strerror or str(cause)) if isinstance(cause, OSError) else ""
        return Failed(type(error), error.args, errno, reason)


def opened(result: Result | Failed) -> Result:
    """What `attempt` gave; raises the error that it brought."""
    if isinstance(result, Failed):
        raise result.again()
    return result
