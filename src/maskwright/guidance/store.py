"""ScoreStore: the last score of every token of a data set, between two visits of its sample."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.errors import BatchError, CacheError, ConfigError, SampleIdError
from maskwright.guidance import snapshots, store_file
from maskwright.guidance.averages import half, mean
from maskwright.guidance.reader import ScoreReader, check_ids
from maskwright.guidance.store_file import FILLING, NEVER, WHOLE, StoreFile
from maskwright.guidance.writer import Writer
from maskwright.guidance.writer_lock import WriterLock
from maskwright.ragged import Ragged, offsets_of

_LAST_STEP = (1 << 31) - 1
_ROWS = 1024  # samples that initialise writes at a time


class ScoreStore:
    """Scores in half precision, aligned with a token table, in one shared memory map.

    2 bytes a token (``window`` times that) and 16 a sample. One process writes, through a thread
    of its own; its forks and any other process read, and see what was written before the last
    `flush`. The process that writes sees its own writes at once. A second process
    that would write is refused, where the file system has locks.

    The file is the same after the same updates in whatever order of samples. Killed at any moment,
    it opens again; a sample that was half written then counts as never visited (`recovered` says
    how many), and `restore` brings back a snapshot bit for bit.

    It pickles as its path, and what comes back reads only.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with ScoreStore.create(f"{folder.name}/scores", np.array([2, 1]), decay=0.5) as store:
    ...     store.update(np.array([1]), Ragged.from_lists([[4.0]], np.float32), step=0)
    ...     store.update(np.array([1]), Ragged.from_lists([[2.0]], np.float32), step=9)
    ...     store.read(np.array([1, 0])).to_lists()
    [[3.0], [nan, nan]]
    >>> folder.cleanup()
    """

    def __init__(self, file: StoreFile, lock: WriterLock | None = None) -> None:
        self._file = file
        self._lock = lock
        if lock is not None:
            own = weakref.ref(self)
            lock.close = lambda: None if (store := own()) is None else store.close()
        self._writer = Writer(file.join)
        # what is still waiting is written before the process ends; the thread knows only the file
        self._finalizer = weakref.finalize(self, self._writer.stop)

    # -- opening --------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        lengths: np.ndarray,
        *,
        decay: float | None = None,
        window: int | None = None,
        update_window: int | None = None,
    ) -> ScoreStore:
        """Make the store at ``path``, without scores, and open it to write.

        Args:
            lengths: ``(samples,)``: the tokens of each sample.
            decay: weight of what is there when a new score comes, from 0 (the last score alone)
                to less than 1; 0.5 unless given. Averages rest in half precision: with a large
                decay, changes below 5e-4 · score / (1 - decay) are lost.
            window: in place of the average, the mean of the last so many scores of each token.
            update_window: for ``Masking(refresh="window-512")``, its 512: of a visit's scores only
                those of the tile are written that is drawn anew at the next visit, one epoch later,
                so that every tile keeps the scores that its masks were drawn by.

        Raises:
            ConfigError: a setting is outside its rule, or there is a file already.
            SaveError: it cannot be written.
        """
        store_file.create(
            Path(path), lengths, decay=decay, window=window, update_window=update_window
        )
        return cls.open(path)

    @classmethod
    def open(
        cls, path: str | Path, *, write: bool = True, lengths: np.ndarray | None = None
    ) -> ScoreStore:
        """Map the store at ``path``.

        Args:
            write: for the one process that writes; it also forgets samples that were half written.
            lengths: of the table that the scores are for, to be sure that they are.

        Raises:
            CacheError: it is missing, damaged, of another format, or of another table.
            ConfigError: another process writes to it. (A writer of this one is closed.)
        """
        path = Path(path).absolute()
        # before, or a second writer would forget what the first is just writing
        lock = WriterLock(path) if write and path.is_file() else None
        file = StoreFile.open(path, write=write)
        if lengths is not None:
            digest = store_file.digest_of(offsets_of(np.asarray(lengths)))
            if digest != file.note.digest:
                raise CacheError(
                    f"{file.path} holds scores of {file.note.samples:,} samples and "
                    f"{file.note.tokens:,} tokens of another table (the lengths of samples "
                    "differ). Create another store for this table."
                )
        return cls(file, lock)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._file.path,)

    def __len__(self) -> int:
        """Samples."""
        return self._file.note.samples

    def __repr__(self) -> str:
        note = self._file.note
        average = f"window={note.planes}" if note.decay is None else f"decay={note.decay}"
        if note.update_window is not None:
            average += f", update_window={note.update_window}"
        return f"ScoreStore({note.samples:,} samples, {note.tokens:,} tokens, {average})"

    def __enter__(self) -> ScoreStore:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def writable(self) -> bool:
        """Whether it was opened to write."""
        return self._file.write

    @property
    def update_window(self) -> int | None:
        """Width of the tiles of which one is written at a visit; ``None``: all are."""
        return self._file.note.update_window

    @property
    def recovered(self) -> int:
        """Samples that were half written when the last writer was killed; they were forgotten."""
        return self._file.recovered

    # -- scores ---------------------------------------------------------------------------

    def read(self, sample_ids: np.ndarray) -> Ragged:
        """The scores of samples, float32; NaN where a token was never scored.

        Raises:
            SampleIdError: an id is outside the store.
        """
        ids = self._settled(sample_ids, "read")
        index, offsets = self._file.places(ids)
        return Ragged(mean(self._file.scores.take(index, axis=1)), offsets)

    def update(
        self, sample_ids: np.ndarray, scores: Ragged, step: int, epoch: int | None = None
    ) -> None:
        """Join new scores with the old, by the writing thread; the arguments are copied.

        Args:
            sample_ids: ``(B,)``, each at most once: two visits in one step have no order.
            scores: the rows of the samples; NaN leaves what the token had.
            step: the optimizer step that made them.
            epoch: of the visit; a store with an ``update_window`` needs it.

        Raises:
            SampleIdError: an id is outside the store, or comes twice.
            BatchError: the rows do not have the lengths of the samples.
            ConfigError: the step is no step, the epoch is missing, or this process may not write.
        """
        self._check_writable()
        ids = check_ids(sample_ids, len(self), "ScoreStore.update")
        if len(np.unique(ids)) != len(ids):
            raise SampleIdError(
                "ScoreStore.update: a sample comes twice in one batch, and its two scores have no "
                "order. Where ranks fill up the last batch, use drop_last (guided runs need it)."
            )
        if not 0 <= step <= _LAST_STEP:
            raise ConfigError(
                f"ScoreStore.update: step must be from 0 to {_LAST_STEP}, got {step}."
            )
        if self.update_window is not None and (epoch is None or epoch < 0):
            raise ConfigError(
                f"ScoreStore.update: update_window={self.update_window} writes the tile of the "
                f"next epoch, so it needs the epoch of the visit, from 0; got {epoch}."
            )
        self._check_rows(ids, scores, "ScoreStore.update")
        self._file.check_whole()
        values = scores.values.astype(np.float32)  # a copy, always
        self._writer.put((ids, values, int(step), epoch or 0))

    def initialise(self, scores: ScoreReader) -> None:
        """Begin with scores from elsewhere: statistics, a tagger, another store.

        They are no visit: the first score of a visit takes their place, without averaging. A token
        without one keeps what it has here, so both should be of one scale.

        Raises:
            ConfigError: a sample was visited already.
            BatchError: the rows do not have the lengths of the samples.
        """
        self._check_writable()
        self.flush()
        file = self._file
        file.check_whole()
        if file.visits.any():
            raise ConfigError(
                f"{file.path} has scores of {np.count_nonzero(file.visits):,} samples. Initialise "
                "a store before training, or create another."
            )
        file.state[0] = FILLING
        try:
            for first in range(0, len(self), _ROWS):
                ids = np.arange(first, min(first + _ROWS, len(self)))
                rows = scores.read(ids)
                self._check_rows(ids, rows, "ScoreStore.initialise")
                start, stop = file.offsets[ids[0]], file.offsets[ids[-1] + 1]
                file.scores[-1, start:stop] = half(rows.values.astype(np.float32))
        except BaseException:
            file.scores[:] = np.nan
            raise
        finally:
            file.state[0] = WHOLE

    # -- ages -----------------------------------------------------------------------------

    def ages(self, sample_ids: np.ndarray, step: int) -> np.ndarray:
        """Steps since the last visit of each sample, ``(B,)`` int64; -1 where there was none.

        Raises:
            ConfigError: a visit is later than ``step``.
        """
        last = self._file.steps[self._settled(sample_ids, "ages")].astype(np.int64)
        if (last > step).any():
            raise ConfigError(
                f"ScoreStore.ages: step {step} is before a visit at step {last.max()}. After a "
                "resume, restore the snapshot of the checkpoint first."
            )
        return np.where(last < 0, NEVER, step - last)

    def visits(self, sample_ids: np.ndarray) -> np.ndarray:
        """How often each sample was updated, ``(B,)`` int64."""
        return self._file.visits[self._settled(sample_ids, "visits")].astype(np.int64)

    # -- files ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Wait until every update is in the map, for every process to see."""
        self._writer.flush()

    def close(self) -> None:
        """Write what waits, end the thread and let others write. Reading goes on."""
        try:
            self.flush()
        finally:
            try:
                self._writer.stop()
            finally:
                if self._lock is not None and self._writer.own:
                    self._lock.release()

    def snapshot(self, folder: str | Path) -> Path:
        """Copy the store into ``folder``, whole or not at all, with a checksum; gives the file.

        Raises:
            SaveError: it cannot be written; a snapshot that was there is kept.
        """
        self.flush()
        self._file.check_whole()
        with self._writer.lock:
            return snapshots.save(self._file, Path(folder))

    def restore(self, folder: str | Path) -> None:
        """Put back, bit for bit, what `snapshot` left in ``folder``. Readers stay attached.

        Raises:
            CacheError: the snapshot is missing or damaged, or of another store; nothing changed.
        """
        self._check_writable()
        self.flush()
        with self._writer.lock:
            snapshots.load(self._file, Path(folder))

    # -- checks ---------------------------------------------------------------------------

    def _check_writable(self) -> None:
        if not self._file.write:
            raise ConfigError(
                f"{self._file.path} was opened to read (as by a pickle, in a DataLoader worker). "
                "The process that trains opens it with ScoreStore.open."
            )
        self._writer.check()

    def _settled(self, sample_ids: np.ndarray, where: str) -> np.ndarray:
        """The ids, once this process's own writes are done."""
        self.flush()
        self._file.check_whole()
        return check_ids(sample_ids, len(self), f"ScoreStore.{where}")

    def _check_rows(self, ids: np.ndarray, scores: Ragged, where: str) -> None:
        lengths = self._file.offsets[ids + 1] - self._file.offsets[ids]
        if not np.array_equal(scores.lengths, lengths):
            raise BatchError(
                f"{where}: scores must have the tokens of their samples, lengths {lengths}; got "
                f"{scores.lengths}. Give NaN to tokens without a score."
            )


def _reopen(path: Path) -> ScoreStore:
    return ScoreStore.open(path, write=False)
