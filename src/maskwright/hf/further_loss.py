"""What may be added to the loss that `MaskingTrainer` computes: by the model, or beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from maskwright.errors import ConfigError


@runtime_checkable
class FurtherLoss(Protocol):
    """A loss beside the cross-entropy of predicted tokens: of the model that is trained, or of an
    object that is given as ``MaskingTrainer(further=…)``.

    An object with parameters of its own must have them in the model (``model.gates = gates``), so
    that the optimizer moves them and checkpoints keep them. One that does without logits says
    ``needs_logits = False``: mask-aware steps then compute their loss a few rows at a time, and
    ``logits`` is None.
    """

    def further_loss(
        self,
        run: Callable[..., Any],
        inputs: dict[str, Any],
        batch: dict[str, Any],
        places: Tensor,
        logits: Tensor | None,
        tokens: Tensor | int | None,
    ) -> Tensor:
        """What is added to the loss of a batch that is trained on, ``()``.

        It is added once for each micro-batch: what is to count once a step is to be multiplied by
        the share of ``tokens`` that this batch has.

        Args:
            run: calls the model, in whatever it is wrapped.
            inputs: what the model was called with.
            batch: what the collator gave, with ``labels``, ``sample_ids`` and ``clock``.
            places: ``(P,)`` int64: predicted positions in the flattened ``(B, S)``.
            logits: ``(P, V)`` there, in the graph; None where nobody needs them.
            tokens: real tokens of all micro-batches and ranks; None: of this batch.
        """
        ...

    def measures(self) -> dict[str, float]:
        """What to log beside the loss."""
        ...


def further_losses(model: Any, given: Any) -> list[FurtherLoss]:
    """The losses beside that of the labels: of the model, and those that were given.

    Args:
        model: not wrapped.
        given: a `FurtherLoss`, a sequence of them, or None.

    Raises:
        ConfigError: one of them is none.
    """
    some = list(given) if isinstance(given, Sequence) else [] if given is None else [given]
    for one in some:
        if not isinstance(one, FurtherLoss):
            raise ConfigError(
                f"MaskingTrainer(further=…) got a {type(one).__name__}, which has no further_loss "
                "and measures (see maskwright.hf.further_loss.FurtherLoss)."
            )
    own = isinstance(model, FurtherLoss) and all(one is not model for one in some)
    return [model, *some] if own else some


def need_logits(losses: Sequence[FurtherLoss]) -> bool:
    """Whether one of them needs the logits of predicted positions."""
    return any(getattr(one, "needs_logits", True) for one in losses)
