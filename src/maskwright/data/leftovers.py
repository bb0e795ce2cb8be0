"""What a killed process left beside the file that it was writing, and its removal.

A writer holds a lock on one of its temporary files, and the system takes the lock away when the
process ends, however it ends. So whoever gets the lock knows that nobody writes there any more,
on this machine or, where the disk is shared and locks are, on another.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

# A file that was opened but is not locked yet must not count as left.
_SECONDS = 60.0


def hold(file: IO[Any]) -> None:
    """Say that whoever has this file open is at work, until the file is closed."""
    with suppress(ImportError, OSError):  # nothing is ever removed then
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path, stem: str, held: str) -> int:
    """Remove the temporary files ``.STEM.PID.HEX.NAME`` of writers that were killed.

    Args:
        held: NAME of the file that a writer holds.

    Returns:
        how many files were removed.
    """
    with suppress(ImportError):
        import fcntl

        pattern = re.compile(rf"(\.{re.escape(stem)}\.\d+\.[0-9a-f]{{8}})\.\w+")
        groups: dict[str, list[Path]] = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            if found := pattern.fullmatch(path.name):
                groups.setdefault(found[1], []).append(path)
        removed = 0
        for prefix, paths in groups.items():
            with suppress(OSError):  # another process removes them as well
                if time.time() - max(path.stat().st_mtime for path in paths) < _SECONDS:
                    continue
                marked = folder / f"{prefix}.{held}"
                if marked.exists():
                    with marked.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in paths:
                    path.unlink()
                    removed += 1
        return removed
    return 0
