"""Samples that know who they are and when they were asked for.

A `ClockedSampler` yields indices that carry the clock; the data set of `with_sample_ids` turns an
index into a sample with its id and that clock. Both pass through any `DataLoader`, so a worker
process learns epoch and step from the batch's own index, never from a copy of the main process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Dataset, Sampler

from maskwright import order
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.errors import BatchError, ConfigError, DataError

SAMPLE_ID = "sample_id"


class ClockedIndex(int):
    """An index of a data set, with the clock of the batch that it is asked for."""

    clock: Clock

    def __new__(cls, index: int, clock: Clock) -> ClockedIndex:
        self = super().__new__(cls, index)
        self.clock = clock
        return self

    def __getnewargs__(self) -> tuple[int, Clock]:  # type: ignore[override]
        return int(self), self.clock


@dataclass(frozen=True)
class Sample:
    """The columns of one sample, its id, and its clock where the index carried one.

    It is not a dict on purpose: a plain `Trainer` takes unknown keys out of dicts.
    """

    columns: Mapping[str, Any]
    sample_id: int
    clock: Clock | None = None


@runtime_checkable
class TokenSource(Protocol):
    """A data set that hands out whole batches, like `maskwright.data.TokenTable`."""

    def __len__(self) -> int: ...

    def batch(self, sample_ids: np.ndarray) -> TokenBatch: ...


@dataclass(frozen=True)
class FetchedBatch(Sequence[Sample]):
    """A batch that was fetched at once; as a sequence it is its samples."""

    tokens: TokenBatch
    clock: Clock | None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        columns = {"input_ids": self.tokens.tokens[row]}
        for name in ("word_starts", "marks", "labels", "scores"):
            column = getattr(self.tokens, name)
            if column is not None:
                columns[name] = column[row]
        return Sample(columns, int(self.tokens.sample_ids[row]), self.clock)


class IdentifiedDataset(Dataset):
    """A data set whose samples carry their ids; made by `with_sample_ids`."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self._sample(index, self.dataset[int(index)])

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        # asked first: datasets.Dataset has a method batch as well, which does something else
        if hasattr(self.dataset, "__getitems__"):
            items = self.dataset.__getitems__([int(index) for index in indices])
        elif isinstance(self.dataset, TokenSource):
            clock = common_clock([getattr(index, "clock", None) for index in indices])
            return FetchedBatch(self.dataset.batch(np.asarray(indices, np.int64)), clock)
        else:
            items = [self.dataset[int(index)] for index in indices]
        return [self._sample(index, item) for index, item in zip(indices, items, strict=True)]

    def _sample(self, index: int, item: Mapping[str, Any]) -> Sample:
        if not isinstance(item, Mapping):
            raise DataError(
                f"Sample {int(index)} is a {type(item).__name__}; a data set for masking yields "
                'mappings with "input_ids".'
            )
        own = item.get(SAMPLE_ID)
        sample_id = int(index) if own is None else int(own)
        return Sample(item, sample_id, getattr(index, "clock", None))


def with_sample_ids(dataset: Any) -> IdentifiedDataset:
    """The data set with an id for each sample: its column ``sample_id``, or else its index.

    Args:
        dataset: a map-style data set (`datasets.Dataset`, a list of dicts, a
            `maskwright.data.TokenTable`).

    Raises:
        DataError: the data set has no length, so its samples have no numbers.
    """
    if isinstance(dataset, IdentifiedDataset):
        return dataset
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{type(dataset).__name__} is a stream: its samples have no index to be known by. Give "
            'them one (dataset.map(lambda row, i: {"sample_id": i}, with_indices=True)) and use '
            "remove_unused_columns=False, or load the data as a map-style data set."
        )
    return IdentifiedDataset(dataset)


def common_clock(clocks: Sequence[Clock | None]) -> Clock | None:
    """The one clock of a batch.

    A last batch that was filled up from the beginning of the epoch holds several steps: the latest
    counts. Several epochs in one batch are an error.
    """
    # the usual case: one object, which count compares by identity
    if clocks and clocks.count(clocks[0]) == len(clocks):
        return clocks[0]
    known = [clock for clock in clocks if clock is not None]
    if not known:
        return None
    if len(known) < len(clocks) or len({clock.epoch for clock in known}) > 1:
        raise BatchError(
            "The samples of one batch must all come with a clock, of one epoch; got epochs "
            f"{sorted({str(clock and clock.epoch) for clock in clocks})}."
        )
    return max(known, key=lambda clock: clock.step or 0)


@dataclass(eq=False)
class ClockedSampler(Sampler[int]):
    """Indices of an epoch in a keyed order, each with its clock.

    The order depends on (seed, epoch, size) alone, so that it is the same for any number of
    workers and ranks, and when resumed.

    Args:
        size: number of samples.
        batch_size: samples of one batch of one process.
        seed: of the order. (The masks have their own: ``MaskingCollator(seed=…)``.)
        shuffle: otherwise 0, 1, 2, …
        accumulation: batches per optimizer step.
        processes: ranks that share the order.
        drop_last: whether the loader drops a last batch that is not full.
        total_steps: optimizer steps of the whole run, for schedules.

    Call `set_epoch` before each pass; `Trainer` and Accelerate do.
    """

    size: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    accumulation: int = 1
    processes: int = 1
    drop_last: bool = False
    total_steps: int | None = None
    epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("size", "batch_size", "accumulation", "processes"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"ClockedSampler.{name} must be at least 1, got {getattr(self, name)}."
                )

    def __len__(self) -> int:
        # Ranks take turns, so that a last round is filled up from the beginning of the epoch. We
        # do it as Accelerate would, but with the clock of that round: it would repeat the batches
        # of the first step, clock and all.
        together = self.batch_size * self.processes
        fill = 0 if self.drop_last or self.processes == 1 else -self.size % together
        return self.size + fill

    @property
    def samples_per_step(self) -> int:
        return self.batch_size * self.processes * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch, as `Trainer` counts them."""
        round_up = 0 if self.drop_last else self.batch_size * self.processes - 1
        batches = (self.size + round_up) // (self.batch_size * self.processes)
        return max(1, -(-batches // self.accumulation))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[ClockedIndex]:
        epoch = self.epoch
        rounds = (
            order.visit(self.size, seed=self.seed, epoch=epoch)
            if self.shuffle
            else range(self.size)
            for _ in itertools.count()
        )
        samples = itertools.islice(itertools.chain.from_iterable(rounds), len(self))
        step, clock = -1, Clock()
        for place, sample in enumerate(samples):
            now = place // self.samples_per_step
            if now != step:
                step = now
                clock = Clock(0, epoch, epoch * self.steps_per_epoch + now, self.total_steps)
            yield ClockedIndex(sample, clock)
