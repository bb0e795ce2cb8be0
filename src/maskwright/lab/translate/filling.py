"""A model that fills masks instead of writing from left to right."""

from __future__ import annotations

from typing import Any

import torch

from maskwright.hf.conditional.mask_predict import mask_predict
from maskwright.hf.conditional.model import conditional
from maskwright.lab.translate.config import Variant
from maskwright.lab.translate.generation import Write
from maskwright.lab.translate.masked import Masked
from maskwright.lab.translate.preparation import PreparedPairs


class FillingMasked(Masked):
    """A conditional masked language model (1904.09324), that writes by mask-predict."""

    def __init__(self, model: Any, variant: Variant, prepared: PreparedPairs, *, seed: int) -> None:
        super().__init__(model, variant, prepared, seed=seed)
        reach = prepared.max_length
        self.model = conditional(model, prepared.target_tokenizer, reach=reach, seed=seed)
        self.trained = self.model

    def writers(self, evaluation: dict[str, Any]) -> dict[str, Write]:
        passes = evaluation["passes"]
        return {f"{passes} passes": filler(self.model, passes, self.prepared.max_length)}


def filler(model: Any, passes: int, max_length: int | None = None) -> Write:
    """Writes with so many passes of mask-predict."""

    def write(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        given: dict[str, Any] = batch
        return mask_predict(model, **given, passes=passes, max_length=max_length).tokens

    return write
