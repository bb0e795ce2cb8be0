"""Cross-attention of an LSTM decoder, and the attentional vector that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from maskwright.errors import ModelError
from maskwright.models.lstm.configuration import LstmSeq2SeqConfig


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float = 1.0,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention with its weights; what "eager" means to transformers' registry."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    found = functional.dropout(weights, dropout, module.training) @ value
    return found.transpose(1, 2).contiguous(), weights


@dataclass(frozen=True)
class Source:
    """What the decoder may look at.

    Attributes:
        states: ``(B, S, H)``.
        tokens: ``(B, S)`` Boolean, False at padding; None: there is none. A source of padding
            alone is open here, and closed in ``some``.
        rows: ``(B, 1, T, S)`` Boolean: who may look at what, padding included; None: all at all
            tokens.
        some: ``(B, 1 or T, 1)`` Boolean: whether there is anything to look at; None: always.
    """

    states: Tensor
    tokens: Tensor | None = None
    rows: Tensor | None = None
    some: Tensor | None = None

    @classmethod
    def of(cls, states: Tensor, tokens: Tensor | None, allowed: Tensor | None) -> Source:
        """From the encoder's states, its padding and a mask of the user's own.

        Args:
            states: ``(B, S, H)``.
            tokens: ``(B, S)`` Boolean, or None.
            allowed: ``(B, T, S)`` Boolean, or None.
        """
        if allowed is not None:
            rows = allowed if tokens is None else allowed & tokens.unsqueeze(1)
            some = rows.any(-1, keepdim=True)
            return cls(states, None, (rows | ~some).unsqueeze(1), some)
        if tokens is None:
            return cls(states)
        some = tokens.any(-1, keepdim=True)
        return cls(states, tokens | ~some, None, some.unsqueeze(1))

    def part(self, start: int, stop: int) -> Source:
        """What queries ``start`` to ``stop`` may look at."""
        if self.rows is None:
            return self
        assert self.some is not None
        rows, some = self.rows[:, :, start:stop], self.some[:, start:stop]
        return Source(self.states, self.tokens, rows, some)


class LstmCrossAttention(nn.Module):
    """Luong's global attention with the score "general" (1508.04025, equations 7 and 8).

        a_t(s) = softmax over s of h_t W_a h_s,    c_t = sum over s of a_t(s) h_s

    It gives the context's share of equation 5, the part of W_c [c_t; h_t] that c_t has. Its kernel
    is asked of transformers' registry, so that `maskwright.hf.attach` finds it. A query that may
    look at nothing gets zeros, and zero gradient.
    """

    is_cross_attention = True
    is_causal = False

    def __init__(self, config: LstmSeq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // self.num_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        # what gates of heads are put on, and looked for by this name
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(
        self, hidden_states: Tensor, source: Source, output_attentions: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """What is seen.

        Args:
            hidden_states: ``(B, T, H)`` of the decoder.
            source: for these T queries.
            output_attentions: whether to give the weights.

        Returns:
            ``(B, T, H)``, and the weights ``(B, heads, T, S)`` or None.
        """
        batch, length, width = hidden_states.shape
        query = self._heads(self.q_proj(hidden_states))
        key = self._heads(source.states.to(query.dtype))
        mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=source.tokens if source.rows is None else source.rows,
            encoder_hidden_states=source.states,
        )
        asked = self.config._attn_implementation or "eager"
        # sdpa has no weights to give
        wanted = "eager" if output_attentions and asked == "sdpa" else asked
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(wanted, eager_attention_forward)
        found, weights = attention(
            self,
            query,
            key,
            key,
            mask,
            dropout=self.config.attention_dropout if self.training else 0.0,
            scaling=1.0,
        )
        found = found.reshape(batch, length, width)
        if output_attentions and weights is None:
            raise ModelError(
                f"attn_implementation={asked!r} gives no attention weights. Call "
                'model.set_attn_implementation("eager") to see them.'
            )
        if source.some is not None:
            found = torch.where(source.some, found, 0.0)
            weights = None if weights is None else weights * source.some.unsqueeze(1)
        return self.c_proj(found), weights if output_attentions else None

    def _heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
