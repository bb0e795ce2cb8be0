"""Batches that hold a number of tokens, whatever the number of their samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

from maskwright import order
from maskwright.clock import Clock
from maskwright.errors import ConfigError
from maskwright.hf.samples import ClockedIndex

if TYPE_CHECKING:
    from maskwright.hf.batches.first_fit import FirstFit

OPEN_BATCHES = 32


@dataclass(eq=False)
class TokenBudgetSampler(Sampler[list[ClockedIndex]]):
    """Batches of an epoch, each of samples that are at most ``tokens_per_batch`` long together.

    It is a ``batch_sampler`` for a `DataLoader`, as `ClockedSampler` is a ``sampler``: each index
    has its clock. Samples come in a keyed order, and first-fit packing makes batches of them, of
    which ``open_batches`` are open at a time. A step is ``processes × accumulation`` batches in
    turn, and batch ``i`` of a step goes to rank ``i % processes``. So which samples a step has
    depends on the seed, the epoch, the lengths, the budget and that product alone: two ranks see
    together what one sees that accumulates twice as many batches.

    Epochs differ in their number of batches, by a few. The last step of one has what is left. Where
    its ranks cannot share that evenly, batches are cut in two, those of most samples first; and if
    it has fewer samples than there are ranks, the first of the epoch come once more.

    An epoch is packed again each time: to yield it, once to count its batches, and up to the place
    where a run resumes. Beside ``lengths`` memory is that of the open batches.

    Args:
        lengths: ``(n,)`` integers, the number of tokens of each sample.
        tokens_per_batch: of one batch of one process; padding is not counted.
        seed: of the order. (The masks have their own: ``MaskingCollator(seed=…)``.)
        shuffle: otherwise 0, 1, 2, …
        accumulation: batches of one process per optimizer step.
        processes: ranks that share the order.
        drop_last: leave out a last step that is not whole.
        open_batches: how many batches wait for samples that fit: more fill them better, and keep
            samples of one batch further apart in the order.
        total_steps: optimizer steps of the whole run, for schedules.

    Call `set_epoch` before each pass. `MaskingTrainer` does; Accelerate does on one rank only.

    Raises:
        ConfigError: a sample is longer than the budget, or a number is below 1.

    >>> sampler = TokenBudgetSampler(np.array([3, 5, 2, 4, 1]), 6, shuffle=False)
    >>> [[int(index) for index in batch] for batch in sampler]
    [[0, 2, 4], [1], [3]]
    """

    lengths: np.ndarray
    tokens_per_batch: int
    seed: int = 0
    shuffle: bool = True
    accumulation: int = 1
    processes: int = 1
    drop_last: bool = False
    open_batches: int = OPEN_BATCHES
    total_steps: int | None = None
    epoch: int = field(default=0, init=False)
    _counted: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("tokens_per_batch", "accumulation", "processes", "open_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"TokenBudgetSampler.{name} must be at least 1, got {getattr(self, name)}."
                )
        self.lengths = lengths = np.asarray(self.lengths)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths):
            raise ConfigError(
                "TokenBudgetSampler.lengths must be one integer for each sample, at least one, got "
                f"{lengths.dtype} of shape {lengths.shape}."
            )
        if lengths.min() < 0:
            raise ConfigError(f"Sample {lengths.argmin()} has the length {lengths.min()}.")
        if lengths.max() > self.tokens_per_batch:
            long = int((lengths > self.tokens_per_batch).sum())
            raise ConfigError(
                f"Sample {lengths.argmax()} has {lengths.max():,} tokens, more than "
                f"tokens_per_batch={self.tokens_per_batch:,}; {long:,} of {len(lengths):,} samples "
                "are too long. Raise the budget, or truncate the samples when they are tokenised."
            )

    # -- how much there is ------------------------------------------------------------------

    @property
    def batches_per_step(self) -> int:
        return self.processes * self.accumulation

    def batches_in(self, epoch: int) -> int:
        """Batches of an epoch, of all ranks together."""
        if self.drop_last:
            return self.steps_in(epoch) * self.batches_per_step
        packed = self._packed(epoch)
        return packed + -packed % self.processes

    def steps_in(self, epoch: int) -> int:
        """Optimizer steps of an epoch.

        Raises:
            ConfigError: none is whole, and ``drop_last`` leaves out others.
        """
        packed = self._packed(epoch)
        if not self.drop_last:
            return -(-packed // self.batches_per_step)
        if packed < self.batches_per_step:
            raise ConfigError(
                f"The {len(self.lengths):,} samples make {packed} batches of "
                f"{self.tokens_per_batch:,} tokens in epoch {epoch}, and a step takes "
                f"{self.batches_per_step}: dropping the last step drops all. Lower "
                "tokens_per_batch or the gradient accumulation, or set dataloader_drop_last=False."
            )
        return packed // self.batches_per_step

    def steps_before(self, epoch: int) -> int:
        """Optimizer steps of all epochs before this one."""
        return sum(self.steps_in(earlier) for earlier in range(epoch))

    def place_of(self, step: int) -> tuple[int, int]:
        """The epoch of an optimizer step of the run, and the steps of that epoch before it."""
        epoch = 0
        while step >= (steps := self.steps_in(epoch)):
            epoch, step = epoch + 1, step - steps
        return epoch, step

    def fill(self, epoch: int = 0) -> float:
        """The share of the budget that the batches of an epoch use, as they were packed."""
        return int(self.lengths.sum()) / (self._packed(epoch) * self.tokens_per_batch)

    def __len__(self) -> int:
        return self.batches_in(self.epoch)

    # -- the batches ------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[ClockedIndex]]:
        epoch = self.epoch
        before = self.steps_before(epoch)
        batches = self._batches(epoch)
        for number in itertools.count():
            step = list(itertools.islice(batches, self.batches_per_step))
            if len(step) < self.batches_per_step:
                step = [] if self.drop_last else self._shared(step, epoch)
            if not step:
                return
            clock = Clock(0, epoch, before + number, self.total_steps)
            for batch in step:
                yield [ClockedIndex(sample, clock) for sample in batch.tolist()]

    def _batches(self, epoch: int) -> Iterator[np.ndarray]:
        packing = self._packing()
        for samples in self._order(epoch):
            yield from packing.put(samples, self._lengths_of(samples))
        yield from packing.rest()

    def _shared(self, step: list[np.ndarray], epoch: int) -> list[np.ndarray]:
        """What is left for the last step, in as many batches for each rank."""
        step = list(step)
        while len(step) % self.processes:
            largest = max(range(len(step)), key=lambda number: len(step[number]))
            batch = step[largest]
            if len(batch) < 2:
                first = next(self._order(epoch))
                missing = -len(step) % self.processes
                return step + [first[i % len(first)].reshape(1) for i in range(missing)]
            step[largest : largest + 1] = np.array_split(batch, 2)
        return step

    def _packed(self, epoch: int) -> int:
        """How many batches first-fit makes of an epoch."""
        if epoch not in self._counted:
            packing = self._packing()
            for samples in self._order(epoch):
                packing.count(self._lengths_of(samples))
            self._counted[epoch] = packing.bins
        return self._counted[epoch]

    def _packing(self) -> FirstFit:
        # numba is slow to import: only those who pack batches wait for it
        from maskwright.hf.batches.first_fit import FirstFit

        return FirstFit(self.tokens_per_batch, open_bins=self.open_batches, shortest=self._shortest)

    def _lengths_of(self, samples: np.ndarray) -> np.ndarray:
        return self.lengths[samples].astype(np.int64)

    def _order(self, epoch: int) -> Iterator[np.ndarray]:
        if self.shuffle:
            return order.chunks(len(self.lengths), seed=self.seed, epoch=epoch)
        return order.in_turn(len(self.lengths))

    @cached_property
    def _shortest(self) -> int:
        return int(self.lengths.min())


@dataclass(frozen=True, eq=False)
class TokenBudget:
    """What `MaskingTrainer` is told about batches by their number of tokens.

    Args:
        tokens: of one batch of one process, at most.
        open_batches: as `TokenBudgetSampler` has it.
        lengths: ``(n,)`` of the training samples, where the data set does not say them and is slow
            to read.
    """

    tokens: int
    open_batches: int = OPEN_BATCHES
    lengths: np.ndarray | None = None

    @classmethod
    def of(cls, given: int | TokenBudget | None) -> TokenBudget | None:
        return given if given is None or isinstance(given, TokenBudget) else cls(int(given))
