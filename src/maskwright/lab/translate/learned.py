"""A model whose heads of cross-attention have gates that are learned, and closed in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskwright.attention import to_json
from maskwright.hf import attach
from maskwright.hf.interaction.interaction_mask import InteractionMask
from maskwright.lab.translate.budget import Budget
from maskwright.lab.translate.config import Variant
from maskwright.lab.translate.masked import Masked
from maskwright.lab.translate.preparation import PreparedPairs

# Of the gates: they would hardly move at the rate of weights.
LEARNING_RATE = 0.1


@dataclass
class Falling:
    """From 1 to ``share`` over the first half, and then level, so that weights get used to it.

    Args:
        share: of the heads, in the end.
        spent: of a run whose budget is minutes, how much of it is spent, from 0 to 1; the steps
            say little of that.
    """

    share: float
    spent: Callable[[], float] = float

    def __call__(self, progress: float) -> float:
        return max(self.share, 1 - (1 - self.share) * 2 * max(progress, self.spent()))


class LearnedMasked(Masked):
    """Gates on the heads of cross-attention that train with the model.

    In the end the gates are taken off, and a pattern for each layer is attached instead, under
    which closed heads are not computed: as it is kept, so it is judged.
    """

    def __init__(self, model: Any, variant: Variant, prepared: PreparedPairs, *, seed: int) -> None:
        super().__init__(model, variant, prepared, seed=seed)
        assert variant.cross.heads is not None
        self.share = variant.cross.heads
        self.falling = Falling(self.share)
        self.gates = InteractionMask(
            model, "cross", budget=self.falling, learning_rate=LEARNING_RATE, seed=seed
        )
        self.callbacks.append(self.gates.callback)
        self.trainer_options["further"] = self.gates
        self.exported: dict[str, list[Any]] = {}

    def follow(self, budget: Budget) -> None:
        self.falling.spent = lambda: budget.progress(0)

    def finish(self) -> None:
        self.exported = self.gates.export(self.share)
        roles: dict[str, Any] = self.exported
        self.attachment = attach(self.model, **roles)

    def kept(self) -> dict[str, Any]:
        return {role: [to_json(one) for one in layers] for role, layers in self.exported.items()}

    def close(self) -> None:
        if not self.exported:
            self.gates.detach()
        super().close()
