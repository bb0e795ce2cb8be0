"""BadLosses: a step whose loss or gradient is no number moves no weight, and many are an error."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback

from maskwright.errors import ConfigError, TrainingError
from maskwright.hf.guided.ranks import world

_KEY = "maskwright.BadLosses"  # among the states of callbacks in trainer_state.json
logger = logging.getLogger(__name__)


class BadLosses(TrainerCallback):
    """Leaves a step out whose loss is NaN or infinite on some rank, or whose gradient is.

    The optimizer is not called: weights, moments and averages stay as they are. The run goes on
    with the next samples; its clock, its masks and its learning rate are those of a run without
    such a step. Under fp16 the gradient scaler leaves steps out itself, as part of finding its
    scale, so there only losses count.

    Args:
        limit: after so many in a row training ends with an error; None: nothing is looked at.

    Attributes:
        total: steps left out since the run began; checkpoints keep it.

    Raises:
        ConfigError: ``limit`` is below 1.
        TrainingError (in a step): ``limit`` steps in a row were bad.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and (isinstance(limit, bool) or limit < 1):
            raise ConfigError(
                f"bad_losses is a number of steps in a row, at least 1, got {limit!r}. None turns "
                "the check off."
            )
        self.limit = limit
        self.total = 0
        self._row = 0
        # of the step that is on, where its loss is: is it bad, and whose is it
        self._losses: list[tuple[torch.Tensor, Any]] = []
        self._gradient: torch.Tensor | None = None

    def see_loss(self, loss: torch.Tensor, inputs: Any) -> None:
        """Note the loss of a micro-batch; nothing is waited for."""
        if self.limit is not None:
            bad = ~torch.isfinite(loss.detach()).all()
            self._losses.append((bad, inputs.get("sample_ids")))

    def see_gradient(self, norm: Any) -> None:
        """Note the norm of the gradient, which is that of all ranks."""
        if self.limit is not None and norm is not None and self._losses:
            if hasattr(norm, "full_tensor"):  # of a sharded model
                norm = norm.full_tensor()
            norm = torch.as_tensor(norm, device=self._losses[0][0].device)
            self._gradient = ~torch.isfinite(norm.detach()).all()

    def measures(self) -> dict[str, float]:
        """What to log beside the loss, once there was a bad one."""
        return {"bad_losses": float(self.total)} if self.total else {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        known = state.stateful_callbacks.get(_KEY) or {"total": 0, "row": 0}
        self.total, self._row = known["total"], known["row"]
        self._losses, self._gradient = [], None

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any
    ) -> None:
        losses, gradient = self._losses, self._gradient
        self._losses, self._gradient = [], None
        if not losses:
            return
        scaled = getattr(optimizer, "scaler", None) is not None
        flags = [bad for bad, _ in losses]
        bad = torch.stack(flags if gradient is None or scaled else [*flags, gradient]).any()
        if world() > 1:  # all leave the step out, or none
            bad = bad.int()
            distributed.all_reduce(bad, distributed.ReduceOp.MAX)
        if not bad.item():
            if self._row:
                self._note(state, 0)
            return
        self.total += 1
        self._note(state, self._row + 1)
        ids = [one for flag, ids in losses if ids is not None and flag for one in ids.tolist()]
        logger.warning(
            "Step %d is left out: its %s no number%s.",
            state.global_step + 1,
            "loss is" if any(flags) or gradient is None else "gradient is",
            f" (samples {_some(ids)})" if ids else "",
        )
        assert self.limit is not None
        if self._row >= self.limit:
            raise TrainingError(
                f"{self._row} steps in a row, the last of them step {state.global_step + 1}, had a "
                f"loss or a gradient that is no number{f' (samples {_some(ids)})' if ids else ''}. "
                "None of them moved a weight, so the weights or the data are at fault: lower the "
                "learning rate or max_grad_norm, and resume from a checkpoint before them. "
                "MaskingTrainer(bad_losses=n) allows more, None turns the check off."
            )
        if not scaled:
            _leave_out(optimizer)

    def _note(self, state: Any, row: int) -> None:
        self._row = row
        state.stateful_callbacks[_KEY] = {"total": self.total, "row": row}


def _leave_out(optimizer: Any) -> None:
    """Make the next call of ``optimizer.step``, of the innermost, do nothing.

    Gradients of None would be passed over by most optimizers, but some average weights all the
    same; and what wraps an optimizer counts its calls.
    """
    while hasattr(optimizer, "optimizer"):  # what Accelerate wraps round it
        optimizer = optimizer.optimizer
    own = vars(optimizer).get("step")  # a scheduler's, which counts calls

    def step(closure: Any = None) -> None:
        if own is None:
            del optimizer.step
        else:
            optimizer.step = own

    optimizer.step = step


def _some(ids: list[int]) -> str:
    """At most eight of them.

    >>> _some([3, 1, 2])
    '3, 1, 2'
    """
    return ", ".join(map(str, ids[:8])) + (", …" if len(ids) > 8 else "")
