"""The attention and mask functions of an unpadded model: each sample of the row by itself.

Transformers looks both up by ``config._attn_implementation``. While a model is accelerated that is
``maskwright-row-`` and what it ran before: "sdpa", "eager", or what stands for them where patterns
are attached. A batch that goes through the model as one row gets a `RowMask` where its mask would
be, which the layers hand on to the attention function, also when they run once more for a
checkpointed gradient; any other batch gets what it always got.

An attention with a pattern of its own gets its padding back, for itself alone: patterns count
tokens by their places in the sample, and some look at scores or at the whole mask.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    AttentionMaskInterface,
    bidirectional_mask_function,
)

from maskwright.attention import Axis, Pattern, attend, documents, full, padding
from maskwright.attention.backends.schedule import NATIVE_ROWS
from maskwright.attention.rules.relative import Causal, Window
from maskwright.errors import ModelError
from maskwright.hf.attachment.attention_function import HARMLESS, ORIGINALS, name_for, registered
from maskwright.hf.attachment.model_mask import ModelMask, read
from maskwright.hf.attachment.pose import remember
from maskwright.hf.attachment.seats import seat_of
from maskwright.hf.compute.relative_bias import biased_row
from maskwright.hf.compute.row import Row

# On an attention module: the stack that it belongs to.
STACK = "_maskwright_stack"
# A bias of cross-attention is zeros (see `relative_bias`).
_KNOWN = HARMLESS | {"dropout", "scaling", "is_causal", "position_bias"}


def row_name(original: str) -> str:
    """The implementation that stands for ours over ``original``."""
    return f"maskwright-row-{original}"


def ask_for_rows(config: Any) -> None:
    """Models with this config find ours over what they asked for."""
    config._attn_implementation_internal = row_name(config._attn_implementation)


def register() -> None:
    """Enter the functions into transformers' registries; again does nothing more."""
    for original in (*ORIGINALS, *map(name_for, ORIGINALS)):
        AttentionInterface.register(row_name(original), partial(_attention, original))
        AttentionMaskInterface.register(row_name(original), partial(_mask, original))


class Marker:
    """Stands for the attention mask of a row, and goes through the model's own code to `_mask`.

    That code casts masks, and looks at them from other sides, so the tensor is known again by its
    memory. From its making to `withdraw`.

    Args:
        q, kv: the rows of the queries and of the keys.
        rule: in place of the model's own, within a sample; None: it has its own.
    """

    _open: ClassVar[dict[int, Marker]] = {}

    def __init__(self, q: Row, kv: Row, rule: Pattern | None = None) -> None:
        self.q, self.kv, self.rule = q, kv, rule
        self.tensor = torch.ones(1, len(kv), dtype=torch.bool, device=kv.places.device)
        self._open[self.tensor.data_ptr()] = self

    def withdraw(self) -> None:
        """The pass is over."""
        self._open.pop(self.tensor.data_ptr(), None)

    @classmethod
    def of(cls, mask: Any) -> Marker | None:
        """The marker whose tensor this is."""
        return cls._open.get(mask.data_ptr()) if isinstance(mask, Tensor) else None


class RowMask:
    """Who attends to whom in a row; stands where the mask's tensor would.

    Attributes:
        q, kv: the rows of the queries and of the keys.
        rule: of the model itself, within a sample: full, causal or a window.
        asked: every argument of transformers' mask function, for the row.
    """

    ndim = 4

    def __init__(self, q: Row, kv: Row, rule: Pattern, asked: dict[str, Any]) -> None:
        self.q, self.kv, self.asked = q, kv, asked
        self.rule = _reached(rule, max(q.shape[1], kv.shape[1]) - 1)

    @cached_property
    def of_padded(self) -> ModelMask:
        """What the model would have asked for, had its batch kept its padding."""
        sizes = {"batch_size": self.q.shape[0], "q_offset": 0, "kv_offset": 0}
        lengths = {"q_length": self.q.shape[1], "kv_length": self.kv.shape[1]}
        return ModelMask({**self.asked, **sizes, **lengths, "attention_mask": self.kv.mask})

    @cached_property
    def pattern(self) -> Pattern:
        """The rule within documents."""
        return self.rule & documents

    def padded(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys with their padding, ``(B, heads, S, size)``, and the Boolean mask
        ``(B, 1, Q, K)`` that goes with them, for who looks at them from outside."""
        sides = [
            row.scatter(states.transpose(1, 2)).transpose(1, 2)
            for row, states in ((self.q, query), (self.kv, key))
        ]
        axes = [Axis.padded(row.mask) for row in (self.q, self.kv)]
        return sides[0], sides[1], (self.rule & padding).dense(*axes)

    @property
    def whole(self) -> bool:
        """Whether every token of a sample attends to every other."""
        return self.rule == full

    @cached_property
    def short(self) -> bool:
        """Whether a CPU's kernels take these samples faster in single precision than in halves."""
        return self.backend == "document" and max(self.q.lengths) < NATIVE_ROWS

    @property
    def backend(self) -> str:
        """For `attend`: documents with nothing inside, or causal ones, need no look at others."""
        return "auto" if isinstance(self.rule, Window) else "document"


def _reached(rule: Pattern, reach: int) -> Pattern:
    """A window without the ends that no pair of a sample can reach."""
    if isinstance(rule, Window) and rule.left >= reach:
        if rule.right >= reach:
            return full
        return Causal(rule.align) if rule.right == 0 else rule
    return rule


def _mask(original: str, **asked: Any) -> Any:
    marker = Marker.of(asked.get("attention_mask"))
    if marker is None:
        return ALL_MASK_ATTENTION_FUNCTIONS[original](**asked)
    if marker.rule is not None:
        whole = {**asked, "mask_function": bidirectional_mask_function}
        return RowMask(marker.q, marker.kv, marker.rule, whole)
    structure = read(asked.get("mask_function"))
    if structure is None or structure.documents is not None:
        raise ModelError(
            f"{type(asked.get('config')).__name__}: the model's attention mask is neither full nor "
            "causal nor a window, so its batches cannot be unpadded. Use unpad=False."
        )
    return RowMask(marker.q, marker.kv, structure.pattern, asked)


def _attention(
    original: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """One attention of a model; ``(1, T, heads, size)`` and no weights, of a row."""
    name = type(module).__name__
    if not isinstance(attention_mask, RowMask):
        stack = getattr(module, STACK, None)
        if stack is not None and stack.row is not None:
            raise ModelError(
                f"{name} did not get the mask that its model made for an unpadded batch: the model "
                "makes another one by itself, and samples would see each other. Use unpad=False."
            )
        return registered(original, module)(module, query, key, value, attention_mask, **options)
    seat = seat_of(module)
    if seat is not None and seat.pattern is not None:
        return _patterned(original, module, query, key, value, attention_mask, options)
    if seat is not None and seat.role == "decoder":
        padded = attention_mask.of_padded
        remember(seat, padded.q_length, padded.kv_length, padded)
    for option, given in options.items():
        if option not in _KNOWN and given is not None and given is not False:
            raise ModelError(
                f"{name} hands {option}= to its attention function, which would be lost in an "
                "unpadded batch. Use unpad=False."
            )
    mask, bias = attention_mask, options.get("position_bias")
    scale, dropout = options.get("scaling"), options.get("dropout") or 0.0
    if bias is not None and mask.q is mask.kv:
        found = biased_row(query, key, value, mask, bias, scale, dropout)
        return found.transpose(1, 2).contiguous(), None
    dtype = query.dtype
    wide = mask.short and query.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16)
    if wide:
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast("cpu", enabled=False) if wide else nullcontext():
        found = attend(
            query,
            key,
            value,
            mask.pattern,
            q=mask.q.axis,
            kv=mask.kv.axis,
            scale=scale,
            dropout=dropout,
            backend=mask.backend,
        )
    return found.transpose(1, 2).to(dtype).contiguous(), None


def _patterned(
    original: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: RowMask,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """One attention with a pattern of its own, on its padded samples, and the row of what it gives.

    A bias is of the longest sample already (see `relative_bias`).
    """
    states = [
        row.scatter(one.transpose(1, 2)).transpose(1, 2)
        for row, one in ((mask.q, query), (mask.kv, key), (mask.kv, value))
    ]
    found, _ = registered(original, module)(module, *states, mask.of_padded, **options)
    return mask.q.gather(found), None
