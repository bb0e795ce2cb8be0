"""Snapshots of a score store: what a checkpoint needs to go on with the same masks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from maskwright.errors import CacheError
from maskwright.guidance.checked_file import Sink, read_checked, write_checked
from maskwright.guidance.store_file import FILLING, HEADER, WHOLE, StoreFile, read_note

NAME = "scores.maskwright"
_CHUNK = 1 << 20


def save(file: StoreFile, folder: Path) -> Path:
    """Writes ``folder/scores.maskwright``: the bytes of the store, and their checksum."""
    path = folder / NAME

    def fill(sink: Sink) -> None:
        for start in range(0, len(file.map), _CHUNK):
            sink.write(file.map[start : start + _CHUNK])

    write_checked(path, fill)
    return path


def load(file: StoreFile, folder: Path) -> None:
    """Puts the bytes of ``folder/scores.maskwright`` into the map, after all were checked."""
    path = folder / NAME
    remedy = "Resume from another checkpoint, or go on with the store as it is."
    with read_checked(path, remedy) as source:
        head = source.read(HEADER)
        theirs, ours = asdict(read_note(path, head)), asdict(file.note)
        differ = [name for name in ours if ours[name] != theirs[name]]
        if differ:
            said = ", ".join(f"{name} {theirs[name]} (here {ours[name]})" for name in differ)
            raise CacheError(f"{path} is a snapshot of another store than {file.path}: {said}.")
        # killed in the middle, the store says so when it is opened; another restore mends it
        file.state[0] = FILLING
        for start in range(HEADER, len(file.map), _CHUNK):
            chunk = source.read(min(_CHUNK, len(file.map) - start))
            file.map[start : start + len(chunk)] = chunk
        file.state[0] = WHOLE
