"""A pattern meets one call of a model: its tokens, its cache, and the mask of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from maskwright.attention import Axis, Pattern, causal, full
from maskwright.attention.pattern import part
from maskwright.errors import ModelError
from maskwright.hf.attachment.columns import fitted
from maskwright.hf.attachment.model_mask import (
    ModelMask,
    Sequence,
    Structure,
    from_tensor,
    kept,
    restricted,
)
from maskwright.hf.attachment.seats import Seat, seat_of


@dataclass(frozen=True)
class Posed:
    """A pattern on the axes of one call, or what has come of it.

    Attributes:
        given: the pattern and the axes of queries and keys, for `attend`; None where there is
            nothing but the mask: in rows cut out of a generation, or under a mask of the model's
            that is no pattern.
        made: the mask, where it was made at once.
    """

    given: tuple[Pattern, Axis, Axis] | None = None
    made: Tensor | None = None

    @cached_property
    def mask(self) -> Tensor:
        """``(batch or 1, heads or 1, q, kv)`` Boolean, True = may attend."""
        if self.given is None:
            assert self.made is not None
            return self.made
        pattern, q, kv = self.given
        return pattern.dense(q, kv)


@dataclass(frozen=True, eq=False)
class Queries:
    """What the last self-attention of a decoder saw: who asks, in the cross-attention behind it.

    Attributes:
        sequence: the decoder's tokens, from the first in the cache.
        start: the slot of the first query of this call.
        posed: patterns that have met them, worked out once.
        stop: the slot behind the last query; None: the queries are the end of the sequence.
    """

    sequence: Sequence
    start: int
    posed: dict[Any, Posed]
    stop: int | None = None

    @property
    def rows(self) -> slice:
        """The slots of the queries of this call."""
        return slice(self.start, self.sequence.length if self.stop is None else self.stop)


def pose(seat: Seat, module: Any, query: Tensor, key: Tensor, mask: Any) -> Posed:
    """The pattern of a seat, combined with the model's own mask, on the axes of this call."""
    if seat.role == "cross":
        return _pose_cross(seat, query, key, mask)
    if not isinstance(mask, ModelMask):
        return _pose_loose(seat, module, query, key, mask)
    made = mask.posed.get((seat.role, seat.pattern))
    if made is None:
        made = _pose_self(seat, query, key, mask)
        mask.posed[(seat.role, seat.pattern)] = made
    return made


def _pose_self(seat: Seat, query: Tensor, key: Tensor, mask: ModelMask) -> Posed:
    length = mask.q_offset + mask.q_length
    if query.shape[2] != mask.q_length or mask.kv_offset + key.shape[2] != length:
        raise ModelError(
            f"{seat.name} ({seat.kind}) has {query.shape[2]} queries and {key.shape[2]} keys, its "
            f"mask is for {mask.q_length} queries from slot {mask.q_offset} and keys from slot "
            f"{mask.kv_offset}: they do not end at one token (prefix tuning, a shared or a "
            "speculative cache), so positions cannot be told."
        )
    axis = _axis(seat, mask.sequence(length), query)
    rows, columns = slice(mask.q_offset, length), slice(mask.kv_offset, length)
    pattern = _combined(seat, mask.structure, axis, axis, mask.kv_offset)
    if pattern is not None:
        return _cut(pattern, axis, axis, rows, columns)
    own = mask.dense[..., : key.shape[2]].to(query.device)
    return Posed(made=part(seat.rule, axis, axis, rows, columns) & own)


def _pose_loose(seat: Seat, module: Any, query: Tensor, key: Tensor, mask: Any) -> Posed:
    """Self-attention under a 4-D mask of the user's own, or under none."""
    length = key.shape[2]
    axis = _axis(seat, Sequence(length), query)
    rows, columns = slice(length - query.shape[2], length), slice(0, length)
    if mask is None:
        structure = Structure(causal if module.is_causal else full)
        pattern = _combined(seat, structure, axis, axis, 0)
        assert pattern is not None
        return _cut(pattern, axis, axis, rows, columns)
    _refuse_replace(seat, "it was given a 4-D attention_mask")
    own = from_tensor(mask)[..., :length].to(query.device)
    return Posed(made=part(seat.rule, axis, axis, rows, columns) & own)


def _pose_cross(seat: Seat, query: Tensor, key: Tensor, mask: Any) -> Posed:
    queries = seat.attachment.queries
    if queries is None or queries.rows.stop - queries.start != query.shape[2]:
        raise ModelError(
            f"{seat.name} ({seat.kind}) has {query.shape[2]} queries, and no self-attention of "
            "the decoder ran before it on as many: their positions cannot be told."
        )
    by = (seat.pattern, id(mask), key.shape[2])
    made = queries.posed.get(by)
    if made is None:
        made = queries.posed[by] = _cross(seat, queries, query, key, mask)
        # an id is of one mask only as long as that mask lives
        queries.posed[(by, "mask")] = mask
    return made


def _cross(seat: Seat, queries: Queries, query: Tensor, key: Tensor, mask: Any) -> Posed:
    length = key.shape[2]
    described = isinstance(mask, ModelMask)
    if described and mask.kv_length != length:
        raise ModelError(
            f"{seat.name} ({seat.kind}) has {length} keys, its mask is for {mask.kv_length}."
        )
    asking = queries.sequence
    q = asking.axis(_columns(seat, "decoder", asking.length, query), query.device, placed=True)
    source = mask.sequence(length) if described else Sequence(length)
    kv = source.axis(_columns(seat, "encoder", length, query), query.device, placed=True)
    rows, columns = queries.rows, slice(0, length)
    own = None
    if described:
        pattern = _combined(seat, mask.structure, q, kv, 0)
        if pattern is not None:
            return _cut(pattern, q, kv, rows, columns)
        own = mask.dense
    elif mask is None:
        return _cut(seat.rule, q, kv, rows, columns)
    else:
        _refuse_replace(seat, "it was given a 4-D encoder_attention_mask")
        own = from_tensor(mask)
    return Posed(made=part(seat.rule, q, kv, rows, columns) & own.to(query.device))


def _axis(seat: Seat, sequence: Sequence, query: Tensor) -> Axis:
    side = "encoder" if seat.role == "encoder" else "decoder"
    return sequence.axis(_columns(seat, side, sequence.length, query), query.device)


def _columns(seat: Seat, side: str, length: int, query: Tensor) -> dict[str, Tensor]:
    given = seat.attachment.given
    longer = side == "decoder" and not torch.is_grad_enabled()
    return fitted(side, given.of(side), query.shape[0], length, given.copies, longer)


def _combined(
    seat: Seat, structure: Structure | None, q: Axis, kv: Axis, dropped: int
) -> Pattern | None:
    """The seat's pattern and the model's; None where the model's rule is not known as a pattern."""
    if seat.attachment.combine == "restrict":
        return None if structure is None else seat.rule & restricted(structure, kv)
    if structure is None:
        _refuse_replace(seat, "its model has a mask that transformers has no name for")
        return None
    if dropped:
        _refuse_replace(seat, f"its cache has dropped the first {dropped} keys already")
    return seat.rule & kept(structure.documents is not None, kv)


def _refuse_replace(seat: Seat, why: str) -> None:
    if seat.attachment.combine == "replace":
        raise ModelError(
            f'{seat.name} ({seat.kind}) cannot replace its mask: {why}. With combine="restrict" '
            "the pattern narrows that mask."
        )


def _cut(pattern: Pattern, q: Axis, kv: Axis, rows: slice, columns: slice) -> Posed:
    """A pattern on parts of its axes, as in the whole.

    Rows of a generation are cut out of the whole mask, so that rules that count by index or by
    length say what they would say without a cache.
    """
    if (rows.start, columns.start) == (0, 0) and rows.stop == q.length:
        return Posed((pattern, q, kv))
    return Posed(made=part(pattern, q, kv, rows, columns))


def written(seat: Seat, mask: ModelMask, states: Tensor) -> Tensor:
    """Keys or values without the slots of a static cache that nothing is in yet."""
    seen = mask.q_offset + mask.q_length - mask.kv_offset
    if seat.role != "decoder" or seat.pattern is None or states.shape[2] <= seen:
        return states
    return states[:, :, :seen]


def remember(seat: Seat, queries: int, keys: int, mask: Any) -> None:
    """Keep who asks for the cross-attention of the same layer.

    Args:
        seat: of the decoder's self-attention.
        queries, keys: how many it has in this call.
        mask: its mask.
    """
    if isinstance(mask, ModelMask):
        length = mask.q_offset + queries
        known = mask.posed.get("queries")
        if known is None:
            known = Queries(mask.sequence(length), mask.q_offset, {})
            mask.posed["queries"] = known
    else:
        # a mask of the user's own, or none: slots are counted so that the last query is the last
        known = Queries(Sequence(keys), keys - queries, {})
    seat.attachment.queries = known


def announce(module: Any, sequence: Sequence, start: int, stop: int) -> None:
    """Who asks in the next call of a cross-attention whose decoder has no self-attention.

    A recurrent decoder says so itself, before each call of ``module``; where no pattern is
    attached, nothing happens.

    Args:
        module: the cross-attention.
        sequence: the decoder's tokens, from the first in the cache.
        start, stop: the slots of the queries of that call, ``stop`` excluded.
    """
    seat = seat_of(module)
    if seat is not None:
        seat.attachment.queries = Queries(sequence, start, {}, stop)
