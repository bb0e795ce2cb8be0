"""Data of a user's own about the tokens of a batch: segments, turns, marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maskwright.errors import AxisError

_SIDES = ("encoder", "decoder")
# What the model itself says, in its attention_mask, its cache and its position_ids.
_TAKEN = ("positions", "valid", "packed")


@dataclass(frozen=True, eq=False)
class Given:
    """The columns that are in force: of the encoder's tokens, and of the decoder's."""

    encoder: Mapping[str, Tensor] = field(default_factory=dict)
    decoder: Mapping[str, Tensor] = field(default_factory=dict)
    copies: int = 1

    def of(self, side: str) -> Mapping[str, Tensor]:
        """The columns of one side."""
        return self.encoder if side == "encoder" else self.decoder


def read_columns(columns: Any, copies: int = 1) -> Given:
    """Columns as a user gives them: a dict of encoder and decoder, each a dict by name.

    Raises:
        AxisError: they have another form.
    """
    if not isinstance(columns, Mapping) or set(columns) - set(_SIDES):
        raise AxisError(
            f"columns={columns!r}: it is a dict of encoder and decoder, each a dict of columns."
        )
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
        raise AxisError(f"copies={copies!r} of columns: it is a whole number, 1 or more.")
    found: dict[str, dict[str, Tensor]] = {side: {} for side in _SIDES}
    for side, given in columns.items():
        for name, values in (given or {}).items():
            if name in _TAKEN:
                raise AxisError(
                    f"Column {name!r} of the {side}: the model itself says that (its "
                    "attention_mask and its cache). Give it under another name."
                )
            column = torch.as_tensor(values)
            if column.ndim not in (1, 2):
                raise AxisError(
                    f"Column {name!r} of the {side} has shape {tuple(column.shape)}; it is "
                    "(length,) or (batch, length)."
                )
            found[side][name] = column
    return Given(found["encoder"], found["decoder"], copies)


def fitted(
    side: str,
    columns: Mapping[str, Tensor],
    batch: int,
    length: int,
    copies: int,
    longer: bool,
) -> dict[str, Tensor]:
    """A user's columns on a sequence of ``length`` slots in a batch of ``batch``.

    Args:
        side: "encoder" or "decoder", for messages.
        columns: ``(n,)`` or ``(samples, n)`` each.
        copies: sequences that `generate` makes of each sample.
        longer: whether columns may reach beyond the sequence, for tokens not yet generated.

    Raises:
        AxisError: a column has another batch or length.
    """
    found = {}
    for name, column in columns.items():
        has = column.shape[-1]
        if has < length or (has > length and not longer):
            more = (
                " While generating it needs a value for every token that will be, too."
                if side == "decoder"
                else ""
            )
            raise AxisError(
                f"Column {name!r} of the {side} has {has} values, the sequence {length}.{more}"
            )
        if column.ndim == 2 and len(column) not in (1, batch):
            if len(column) * copies != batch:
                raise AxisError(
                    f"Column {name!r} of the {side} is for {len(column)} samples, the batch has "
                    f"{batch}. Where generate() makes several sequences of each sample (beams), "
                    "give columns(..., copies=max(num_beams, num_return_sequences))."
                )
            column = column.repeat_interleave(copies, 0)
        found[name] = column[..., :length]
    return found
