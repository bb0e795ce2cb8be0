"""Halves: a batch that does not fit into memory takes its step in two parts, and they in theirs.

The loss of a part is a sum over its predicted tokens divided by their number in the whole step, so
the gradients of parts add up to that of the batch. (`auto_find_batch_size` begins the run anew with
smaller batches instead, which are others, at another learning rate for each token.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache

Inputs = Mapping[str, Any]
Step = Callable[[Inputs], torch.Tensor]
logger = logging.getLogger(__name__)


class Halves:
    """Takes a step with a batch, in as few parts as memory allows.

    Memory may run out in a backward pass that has added some gradients and not others. They are
    then all cleared, and the parts of the step that had been taken are taken again.

    Attributes:
        largest: numbers in the smallest batch that did not fit; what has as many is halved at once.
        splits: how often a batch was halved.
    """

    def __init__(self) -> None:
        self.largest: int | None = None
        self.splits = 0
        self._taken: list[Inputs] = []  # parts whose gradients this step has
        self._done: set[str] | None = None  # for the rows that are in the model

    def begin(self) -> None:
        """A step begins: there are no gradients."""
        self._taken = []

    def once(self, what: str) -> bool:
        """Whether ``what`` is yet to be done for the rows in the model; it then counts as done."""
        if self._done is None:
            return True
        first = what not in self._done
        self._done.add(what)
        return first

    def run(self, inputs: Inputs, step: Step, clear: Callable[[], None]) -> torch.Tensor:
        """The summed loss of a micro-batch whose gradients have been added.

        Args:
            inputs: tensors ``(B, …)``, and whatever else is the same for each row.
            step: forward and backward pass; gives the loss.
            clear: makes all gradients zero.

        Raises:
            torch.OutOfMemoryError: one sample alone does not fit.
        """
        try:
            return self._run(inputs, step, clear, set())
        finally:
            self._done = None

    def _run(
        self, inputs: Inputs, step: Step, clear: Callable[[], None], done: set[str]
    ) -> torch.Tensor:
        rows, size = _rows(inputs), _size(inputs)
        if rows < 2 or self.largest is None or size < self.largest:
            self._done = done = set(done)
            try:
                loss = step(inputs)
            except torch.OutOfMemoryError as error:
                if rows < 2:
                    error.add_note(
                        "One sample alone does not fit into memory. Give shorter samples, a "
                        "smaller model, or TrainingArguments(gradient_checkpointing=True)."
                    )
                    raise
            else:
                self._taken.append(inputs)
                return loss
            # out of the handler, whose traceback keeps the step's tensors
            self.largest = size if self.largest is None else min(size, self.largest)
            logger.warning(
                "A batch of %d samples does not fit into memory. It is halved, and so is each that "
                "is as large; loss and gradient stay those of the whole.",
                rows,
            )
            self._again(step, clear)
        self.splits += 1
        first = self._run(_part(inputs, 0, rows // 2), step, clear, done)
        return first + self._run(_part(inputs, rows // 2, rows), step, clear, done)

    def _again(self, step: Step, clear: Callable[[], None]) -> None:
        """Clear all gradients, and add those of the parts that were taken once more."""
        clear()
        clear_device_cache(garbage_collection=True)
        taken, self._taken = self._taken, []
        for part in taken:
            self._run(part, step, clear, {"count", "show"})


def _sized(inputs: Inputs) -> dict[str, torch.Tensor]:
    """The tensors with a row for each sample."""
    ids = inputs.get("input_ids")
    tensors = {name: one for name, one in inputs.items() if isinstance(one, torch.Tensor)}
    if ids is None:
        return {}
    return {name: one for name, one in tensors.items() if one.ndim and len(one) == len(ids)}


def _rows(inputs: Inputs) -> int:
    sized = _sized(inputs)
    return len(sized["input_ids"]) if sized else 1


def _size(inputs: Inputs) -> int:
    return sum(one.numel() for one in _sized(inputs).values())


def _part(inputs: Inputs, start: int, stop: int) -> dict[str, Any]:
    sized = _sized(inputs)
    return {name: one[start:stop] if name in sized else one for name, one in inputs.items()}
