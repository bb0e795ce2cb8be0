"""The decoder: an LSTM, cross-attention, and the attentional vector that words are said from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maskwright.errors import ModelError
from maskwright.hf.attachment.model_mask import Sequence
from maskwright.hf.attachment.pose import announce
from maskwright.hf.attachment.seats import seat_of
from maskwright.hf.interaction.pair_gates import PairGates
from maskwright.models.lstm.configuration import LstmSeq2SeqConfig
from maskwright.models.lstm.cross_attention import LstmCrossAttention, Source
from maskwright.models.lstm.recurrence import read_tokens
from maskwright.models.lstm.state import LstmState


@dataclass(frozen=True)
class OwnWords:
    """Where the decoder reads what it has just said, in place of what it was given.

    Attributes:
        sampled: ``(B, T)`` Boolean, False at the first token of each sample.
        choose: the ids ``(B,)`` that are said from attentional vectors ``(B, H)``.
        embed: ids ``(B,)`` to what is read, ``(B, E)``.
    """

    sampled: Tensor
    choose: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Decoded:
    """What a decoder gives.

    Attributes:
        vectors: ``(B, T, H)``, attentional.
        state: behind the last token.
        weights: ``(B, heads, T, S)`` of the cross-attention, or None.
        said: ``(B, T)`` ids: what it would have said before each token; None unless it read any.
    """

    vectors: Tensor
    state: LstmState
    weights: Tensor | None
    said: Tensor | None = None


class LstmDecoder(nn.Module):
    """Luong's decoder (1508.04025): attention by the top state, then the attentional vector.

        h~_t = tanh(W_c [c_t; h_t])    (equation 5; the part of c_t is in the attention)

    All steps run at once, unless one reads what came of the step before: with input feeding, or
    where the decoder reads its own words.
    """

    def __init__(self, config: LstmSeq2SeqConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.input_feeding = config.input_feeding
        self.lstm = nn.LSTM(
            (config.embedding_size or width) + (width if config.input_feeding else 0),
            width,
            config.num_hidden_layers,
            batch_first=True,
            dropout=config.dropout if config.num_hidden_layers > 1 else 0.0,
        )
        self.cross_attn = LstmCrossAttention(config)
        self.combine = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        inputs: Tensor,
        source: Source,
        state: LstmState,
        *,
        tokens: Tensor | None = None,
        seen: Tensor | None = None,
        own: OwnWords | None = None,
        output_attentions: bool = False,
    ) -> Decoded:
        """Read T tokens more.

        Args:
            inputs: ``(B, T, E)``.
            source: what these T may look at.
            state: behind the tokens before; it is not changed.
            tokens: ``(B, T)`` Boolean, False at padding, where the state stands still; None: there
                is none.
            seen: ``(B, read + T)`` Boolean: padding of these and of all tokens before; None: none.
            own: which of its own words it reads.
            output_attentions: whether to give the weights of the cross-attention.

        Raises:
            ModelError: gates of pairs are to be learned step by step.
        """
        sequence = Sequence(state.read + inputs.shape[1], seen)
        pass_ = _Pass(self, source, sequence, state.read, output_attentions)
        if own is None and not self.input_feeding:
            return self._at_once(pass_, self.dropout(inputs), state, tokens)
        return self._step_by_step(pass_, inputs, state, tokens, own)

    def _at_once(
        self, pass_: _Pass, inputs: Tensor, state: LstmState, tokens: Tensor | None
    ) -> Decoded:
        tops, (hidden, cell) = read_tokens(self.lstm, inputs, tokens, _stacked(state))
        vectors, weights = pass_.look(tops, 0)
        if tokens is None:
            last = vectors[:, -1]
        else:
            places = torch.arange(tokens.shape[1], device=tokens.device) * tokens
            at = places.amax(1).view(-1, 1, 1).expand(-1, 1, vectors.shape[-1])
            last = torch.where(tokens.any(1, keepdim=True), vectors.gather(1, at)[:, 0], state.fed)
        return Decoded(vectors, _state(hidden, cell, last, pass_.sequence.length), weights)

    def _step_by_step(
        self,
        pass_: _Pass,
        inputs: Tensor,
        state: LstmState,
        tokens: Tensor | None,
        own: OwnWords | None,
    ) -> Decoded:
        self._refuse_gates_of_pairs()
        (hidden, cell), fed = _stacked(state), state.fed
        vectors: list[Tensor] = []
        weights: list[Tensor | None] = []
        said: list[Tensor] = []
        for step in range(inputs.shape[1]):
            read = inputs[:, step]
            if own is not None:
                said.append(own.choose(fed))
                read = torch.where(own.sampled[:, step : step + 1], own.embed(said[-1]), read)
            read = self.dropout(read)
            if self.input_feeding:
                read = torch.cat((read, fed), -1)
            top, (hidden_now, cell_now) = self.lstm(read.unsqueeze(1), (hidden, cell))
            vector, weight = pass_.look(top, step)
            now = vector[:, 0]
            vectors.append(now)
            weights.append(weight)
            if tokens is not None:
                there = tokens[:, step : step + 1]
                hidden_now = torch.where(there, hidden_now, hidden)
                cell_now = torch.where(there, cell_now, cell)
                now = torch.where(there, now, fed)
            hidden, cell, fed = hidden_now, cell_now, now
        given = [one for one in weights if one is not None]
        return Decoded(
            torch.stack(vectors, 1),
            _state(hidden, cell, fed, pass_.sequence.length),
            torch.cat(given, 2) if given else None,
            torch.stack(said, 1) if said else None,
        )

    def _refuse_gates_of_pairs(self) -> None:
        """They are drawn and counted for all queries of a pass at once."""
        seat = seat_of(self.cross_attn)
        if self.training and seat is not None and isinstance(seat.gate, PairGates):
            raise ModelError(
                "Gates of pairs cannot be learned where the decoder goes step by step (with "
                "input_feeding=True, or with sampled=): they count the pairs of a whole target. "
                'Use InteractionMask(per="head").'
            )


@dataclass(frozen=True)
class _Pass:
    """Looking at the source, in one forward pass.

    Attributes:
        decoder: whose pass it is.
        source: what its tokens may look at.
        sequence: these tokens and all before.
        before: how many before.
        output_attentions: whether to give weights.
    """

    decoder: LstmDecoder
    source: Source
    sequence: Sequence
    before: int
    output_attentions: bool

    def look(self, tops: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """The attentional vectors of top states ``(B, n, H)``, the first of step ``first``."""
        last, decoder = first + tops.shape[1], self.decoder
        announce(decoder.cross_attn, self.sequence, self.before + first, self.before + last)
        context, weights = decoder.cross_attn(
            tops, self.source.part(first, last), self.output_attentions
        )
        return decoder.dropout(torch.tanh(context + decoder.combine(tops))), weights


def _stacked(state: LstmState) -> tuple[Tensor, Tensor]:
    """``(layers, B, H)`` each, as `torch.nn.LSTM` has it."""
    return state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous()


def _state(hidden: Tensor, cell: Tensor, fed: Tensor, read: int) -> LstmState:
    return LstmState(hidden.transpose(0, 1), cell.transpose(0, 1), fed, read)
