"""A stack whose training batches go through as one row of real tokens, with padding or without."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskwright.errors import ModelError
from maskwright.hf.compute.row import Row
from maskwright.hf.compute.stack import Stack


class WholeRow(Stack):
    """As `Stack`; but batches of evaluation are left alone, and no batch of training is."""

    def _rows(self, given: dict[str, Any]) -> tuple[Row, Row | None] | None:
        if not self.module.training:
            return None
        config: Any = self.module.config
        for name in ("output_attentions", "output_hidden_states"):
            if given.get(name) or getattr(config, name, False):
                raise ModelError(
                    f"{name} was asked of {self.name}, some layers of which run on some tokens "
                    "only. Leave it out, or remove the token dropping first."
                )
        tokens, mask = given.get("input_ids"), given.get("attention_mask")
        if tokens is None:
            raise ModelError(
                f"{self.name} was given no input_ids, so it is not known which tokens are "
                "important. Give ids, and not inputs_embeds."
            )
        if mask is None:
            mask = torch.ones(tokens.shape, dtype=torch.bool, device=tokens.device)
        if not isinstance(mask, Tensor) or mask.shape != tokens.shape:
            raise ModelError(
                f"{self.name} was given an attention_mask that is not of tokens, {_shape(tokens)}: "
                "token dropping takes that of a tokenizer, 0 at padding."
            )
        row = Row.of(mask)
        return (row, None) if len(row) else None


def _shape(tokens: Tensor) -> tuple[int, ...]:
    return tuple(tokens.shape)
