"""Two clocks of a training, which evaluations stop: the wall's, and this process's own."""

from __future__ import annotations

import time


class Stopwatch:
    """Counts while it runs; it stands still when it is made.

    Processor seconds are those of this process and its threads: another program that takes the
    processor away adds to the wall's seconds alone.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        self._since = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Take what passed since the start; nothing if it stands still."""
        if self._since is None:
            return
        self.seconds += time.perf_counter() - self._since[0]
        self.cpu_seconds += time.process_time() - self._since[1]
        self._since = None

    def read(self) -> dict[str, float]:
        """What has passed until now."""
        if self._since is not None:
            self.stop()
            self.start()
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
