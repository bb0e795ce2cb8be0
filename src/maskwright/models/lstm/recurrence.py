"""A recurrence over a padded batch that never enters padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def read_tokens(
    lstm: nn.LSTM, inputs: Tensor, tokens: Tensor | None, state: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run an LSTM over the tokens of each sample, wherever its padding is.

    Args:
        lstm: batch first.
        inputs: ``(B, T, E)``.
        tokens: ``(B, T)`` Boolean, False at padding; None: there is none.
        state: ``(layers * directions, B, H)`` each, before the first token.

    Returns:
        ``(B, T, directions * H)``, zeros at padding; and the state behind the last token, which is
        the state before where a sample has no token.
    """
    if tokens is None:
        return lstm(inputs, state)
    batch, length, _ = inputs.shape
    counts = tokens.sum(1)
    # tokens first, in their order
    order = torch.argsort((~tokens).to(torch.uint8), dim=1, stable=True).unsqueeze(-1)
    packed = pack_padded_sequence(
        inputs.gather(1, order.expand_as(inputs)),
        counts.clamp(min=1).cpu(),
        batch_first=True,
        enforce_sorted=False,
    )
    found, (hidden, cell) = lstm(packed, state)
    found, _ = pad_packed_sequence(found, batch_first=True, total_length=length)
    width = found.shape[-1]
    placed = torch.zeros_like(found).scatter(1, order.expand(batch, length, width), found)
    # a sample without tokens went in as one
    some = (counts > 0).view(1, batch, 1)
    hidden, cell = torch.where(some, hidden, state[0]), torch.where(some, cell, state[1])
    return torch.where(tokens.unsqueeze(-1), placed, 0.0), (hidden, cell)
