"""The file of a score store: its layout, and how it is made and opened.

    header     4096 bytes: magic, checksum and length of a JSON note, the note; last byte: state
    offsets    (samples + 1,) int64, the rows of the token table
    steps      (samples,) int32, the step of the last visit; -1 never, -2 while it is being written
    visits     (samples,) int32
    scores     (planes, tokens) float16, NaN: never scored

The map is shared: what one process writes, its forks and every other process see. A sample that was
being written when the process was killed has the step -2, and is forgotten when the file is next
opened to write. (When the machine itself goes down, pages reach the disk in any order: only a
snapshot is safe from that.)
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.corruption.refresh import RollingWindow
from maskwright.errors import CacheError, ConfigError
from maskwright.guidance.averages import join_average, join_window
from maskwright.placing import placing
from maskwright.ragged import offsets_of

FORMAT = 1
HEADER = 4096
NEVER, WRITING = -1, -2
WHOLE, FILLING = 0, 1
_MAGIC = b"maskwright.store"
_CHUNK = 1 << 20
_REMEDY = "Delete it; the scores come back from a snapshot, or one visit after another."


@dataclass(frozen=True)
class Note:
    """What a store is, as its header says it.

    Args:
        decay: of the moving average; ``None`` where there is a window.
        planes: scores kept of each token.
        digest: of the offsets.
        update_window: width of the tiles of which one is written at a visit; ``None``: all are.
    """

    samples: int
    tokens: int
    decay: float | None
    planes: int
    digest: str
    format: int = FORMAT
    update_window: int | None = None

    def head(self) -> bytes:
        """The header, whole."""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        numbers = np.array([zlib.crc32(text), len(text)], "<u4").tobytes()
        return (_MAGIC + numbers + text).ljust(HEADER, b"\0")

    @property
    def layout(self) -> dict[str, int]:
        """Where each part of the file begins, and where the file ends."""
        steps = HEADER + 8 * (self.samples + 1)
        visits = steps + 4 * self.samples
        scores = -(-(visits + 4 * self.samples) // 64) * 64
        end = scores + 2 * self.planes * self.tokens
        return {"offsets": HEADER, "steps": steps, "visits": visits, "scores": scores, "end": end}


class StoreFile:
    """A mapped store: its parts as arrays over one shared map.

    Attributes:
        offsets, steps, visits, scores: as in the layout.
        state: ``(1,)`` uint8, `WHOLE`, or `FILLING` while all of it is being written.
        recovered: samples that were half written, and that were forgotten on opening.
    """

    def __init__(self, path: Path, note: Note, mapped: mmap.mmap, *, write: bool) -> None:
        self.path, self.note, self.map, self.write = path, note, mapped, write
        self.recovered = 0

        def part(name: str, kind: str, count: int) -> np.ndarray:
            return np.frombuffer(mapped, kind, count, note.layout[name])

        self.offsets = part("offsets", "<i8", note.samples + 1)
        self.steps = part("steps", "<i4", note.samples)
        self.visits = part("visits", "<i4", note.samples)
        scores = part("scores", "<f2", note.planes * note.tokens)
        self.scores = scores.reshape(note.planes, note.tokens)
        self.state = np.frombuffer(mapped, np.uint8, 1, HEADER - 1)

    @classmethod
    def open(cls, path: Path, *, write: bool) -> StoreFile:
        """Map the store at ``path``.

        Raises:
            CacheError: it is missing, damaged, cut short or of another format.
        """
        try:
            with path.open("r+b" if write else "rb") as file:
                note = read_note(path, file.read(HEADER))
                size = os.fstat(file.fileno()).st_size
                if size != note.layout["end"]:
                    end = note.layout["end"]
                    raise _bad(path, f"has {size:,} bytes where its header says {end:,}")
                access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
                mapped = mmap.mmap(file.fileno(), 0, access=access)
        except OSError as error:
            raise CacheError(
                f"{path} cannot be opened ({error.strerror}). ScoreStore.create makes a store."
            ) from None
        store = cls(path, note, mapped, write=write)
        if digest_of(store.offsets) != note.digest:
            raise _bad(path, "is damaged: its offsets do not have the digest of its header")
        if write:
            store._forget_half_written()
        return store

    def _forget_half_written(self) -> None:
        torn = np.flatnonzero(self.steps == WRITING)
        for sample in torn:
            self.scores[:, self.offsets[sample] : self.offsets[sample + 1]] = np.nan
        self.visits[torn] = 0
        self.steps[torn] = NEVER  # last: killed before this, the next opening does it again
        self.recovered = len(torn)

    def places(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the tokens of samples are, ``(N,)`` int64, and the offsets of their rows."""
        starts = self.offsets[samples]
        lengths = self.offsets[samples + 1] - starts
        rows = offsets_of(lengths)
        return np.repeat(starts - rows[:-1], lengths) + np.arange(rows[-1]), rows

    def join(self, update: tuple[np.ndarray, np.ndarray, int, int]) -> None:
        """Write an update: samples ``(B,)``, each once; their new scores ``(N,)``; the step, and
        the epoch, which only an update window asks for."""
        samples, new, step, epoch = update
        index, rows = self.places(samples)
        first = np.repeat(self.visits[samples] == 0, np.diff(rows))
        if self.note.update_window is not None:
            # what is drawn anew at the next visit; what it was not drawn by would change the rest
            window = RollingWindow(self.note.update_window)
            lengths = np.repeat(np.diff(rows), np.diff(rows))
            places = np.arange(len(index)) - np.repeat(rows[:-1], np.diff(rows))
            due = window.inside(places, lengths, epoch + 1)
            first |= epoch < window.tiles(lengths)  # of this tile, whose turn comes once a round
            index, new, first = index[due], new[due], first[due]
        old = self.scores.take(index, axis=1)
        if self.note.decay is None:
            joined = join_window(old, new, first)
        else:
            joined = join_average(old[0], new, first, self.note.decay)[None]
        # in this order, so that whoever opens the file after a kill knows what is half written
        self.steps[samples] = WRITING
        for plane, values in zip(self.scores, joined, strict=True):
            plane[index] = values  # plane by plane: at once is numpy's slow way
        self.visits[samples] += 1
        self.steps[samples] = step

    def check_whole(self) -> None:
        """Raises `CacheError` where a restore or an initialisation did not come to its end."""
        if self.state[0] != WHOLE:
            raise CacheError(
                f"{self.path} was killed while all of it was being written, by restore or "
                "initialise. Restore it from a snapshot, or delete it and create it again."
            )


def create(
    path: Path,
    lengths: np.ndarray,
    *,
    decay: float | None,
    window: int | None,
    update_window: int | None = None,
) -> None:
    """Write the file of a store without scores; `ScoreStore.create` says what it takes."""
    if decay is not None and window is not None:
        raise ConfigError("ScoreStore takes decay or window, not both: they are two averages.")
    if window is None:
        decay = 0.5 if decay is None else float(decay)
        if not 0 <= decay < 1:
            raise ConfigError(f"ScoreStore: decay must be from 0 to less than 1, got {decay}.")
    elif isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ConfigError(f"ScoreStore: window must be a whole number from 1, got {window!r}.")
    if update_window is not None:
        RollingWindow(update_window)  # raises where it is none
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ConfigError(
            "ScoreStore.create: lengths are the tokens of each sample, one axis of whole numbers "
            f"of at least 0; got {lengths.dtype} of shape {lengths.shape}."
        )
    if path.exists():
        raise ConfigError(f"{path} exists. Open it with ScoreStore.open, or delete it first.")
    offsets = offsets_of(lengths).astype("<i8")
    note = Note(
        len(lengths), int(offsets[-1]), decay, window or 1, digest_of(offsets),
        update_window=update_window,
    )  # fmt: skip
    with placing(path) as temporary, temporary.open("wb") as file:
        file.write(note.head())
        file.write(offsets.tobytes())
        file.write(np.full(note.samples, NEVER, "<i4").tobytes())
        file.write(bytes(4 * note.samples))
        file.write(bytes(note.layout["scores"] - file.tell()))
        # written out, not left as a hole: a full disk is an error now, and not a SIGBUS later
        blank = np.full(_CHUNK, np.nan, "<f2").tobytes()
        for _ in range(note.planes * note.tokens // _CHUNK):
            file.write(blank)
        file.write(blank[: note.layout["end"] - file.tell()])
        file.flush()
        os.fsync(file.fileno())


def digest_of(offsets: np.ndarray) -> str:
    """SHA-256 of ``(samples + 1,)`` offsets."""
    return hashlib.sha256(np.ascontiguousarray(offsets, "<i8").data).hexdigest()


def read_note(path: Path, head: bytes) -> Note:
    if not head.startswith(_MAGIC):
        raise _bad(path, "is not a score store")
    try:
        crc, size = np.frombuffer(head, "<u4", 2, len(_MAGIC)).tolist()
        text = head[len(_MAGIC) + 8 : len(_MAGIC) + 8 + size]
        if zlib.crc32(text) != crc:
            raise ValueError
        fields: dict[str, Any] = json.loads(text)
    except ValueError:
        raise _bad(path, "has a damaged header") from None
    if fields.get("format") != FORMAT:
        raise _bad(path, f"has format {fields.get('format')} where this version reads {FORMAT}")
    return Note(**fields)


def _bad(path: Path, what: str) -> CacheError:
    return CacheError(f"{path} {what}. {_REMEDY}")
