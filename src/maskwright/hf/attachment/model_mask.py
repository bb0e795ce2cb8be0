"""What a model asks of its attention mask, kept as a description instead of a matrix.

Transformers hands a mask function the lengths, the offsets into the cache, the padding and a rule
of its own (causal, a sliding window, packed rows). `ModelMask` keeps them. The rules that
transformers has names for become patterns, so that sparse kernels can skip what they forbid; any
other is worked out as a matrix, as transformers itself would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from maskwright.attention import Axis, Pattern, causal, documents, full, padding, window
from maskwright.attention.coordinates import Coordinates
from maskwright.attention.pattern import Named
from maskwright.errors import ModelError

_SOURCE = "transformers.masking_utils"


@dataclass(frozen=True, repr=False)
class Packed(Named):
    """Documents that the model found packed, where ``segments`` are the user's own."""

    spelled: ClassVar[str] = "packed"

    def allowed(self, q: Coordinates, kv: Coordinates) -> Any:
        return q.channel("packed") == kv.channel("packed")


@dataclass(frozen=True, eq=False)
class Structure:
    """A model's rule as a pattern.

    Attributes:
        pattern: without packing and padding.
        documents: ``(batch, length)`` numbers of packed documents, or None.
    """

    pattern: Pattern
    documents: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Sequence:
    """What the model says of one sequence, from its first token in the cache to its last.

    Attributes:
        length: how many slots, padding included.
        padding: ``(batch, length)`` Boolean, True at tokens; None: all are.
        documents: ``(batch, length)`` numbers of packed documents, or None.
    """

    length: int
    padding: Tensor | None = None
    documents: Tensor | None = None

    def axis(
        self, columns: Mapping[str, Tensor], device: torch.device, placed: bool = False
    ) -> Axis:
        """The sequence as an axis. Positions count from the first token behind left padding.

        Args:
            columns: the user's, one value for each slot.
            device: of the tensors.
            placed: whether to number the slots even where the index says the same.
        """
        found: dict[str, Any] = {name: column.to(device) for name, column in columns.items()}
        left = None
        if self.padding is not None:
            tokens = self.padding.to(device)
            found["valid"] = tokens
            # before the first token, the running count is 0
            before = (tokens.cumsum(-1) == 0).sum(-1, keepdim=True)
            if bool(before.any()):
                left = before
        if self.documents is not None:
            name = "packed" if "segments" in found else "segments"
            found[name] = self.documents.to(device)
        if left is not None or placed:
            slots = torch.arange(self.length, device=device)
            found["positions"] = slots if left is None else slots - left
        return Axis(self.length, **found)


class ModelMask:
    """A mask as the model asked for it; stands where its tensor would.

    Attributes:
        asked: every argument of transformers' mask function.
    """

    ndim = 4

    def __init__(self, asked: dict[str, Any]) -> None:
        # a static cache hands over the very counter that it moves on before attention runs
        offsets = {name: int(asked.get(name, 0)) for name in ("q_offset", "kv_offset")}
        self.asked = {**asked, **offsets}
        self._made: dict[str, Tensor | None] = {}
        self.posed: dict[Any, Any] = {}
        """Patterns that have met this mask, worked out once for all layers."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.asked["batch_size"], 1, self.q_length, self.kv_length

    def contiguous(self) -> ModelMask:
        """Itself: `generate` asks this of the masks it made in advance."""
        return self

    @property
    def q_length(self) -> int:
        return self.asked["q_length"]

    @property
    def kv_length(self) -> int:
        return self.asked["kv_length"]

    @property
    def q_offset(self) -> int:
        return self.asked["q_offset"]

    @property
    def kv_offset(self) -> int:
        return self.asked["kv_offset"]

    def original(self, implementation: str) -> Tensor | None:
        """What the model would have got without us."""
        if implementation not in self._made:
            make = ALL_MASK_ATTENTION_FUNCTIONS[implementation]
            self._made[implementation] = make(**self.asked)
        return self._made[implementation]

    @cached_property
    def dense(self) -> Tensor:
        """``(batch, 1, q, kv)`` Boolean, padding included."""
        asked = {**self.asked, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        made = sdpa_mask(**asked)
        assert made is not None
        return made

    @cached_property
    def structure(self) -> Structure | None:
        """The model's rule as a pattern; None where it is none that we know."""
        return read(self.asked.get("mask_function"))

    def sequence(self, length: int) -> Sequence:
        """The first ``length`` slots of the sequence that the keys belong to."""
        given = self.asked.get("attention_mask")
        if given is not None:
            given = given.bool()[:, :length]
            # slots that the mask does not reach are empty, as transformers has it
            given = pad(given, (0, length - given.shape[-1]))
            if bool(given.all()):
                given = None
        known = self.structure
        return Sequence(length, given, None if known is None else known.documents)


def read(function: Callable | None) -> Structure | None:
    """A mask function of transformers as a pattern; None where it has no name that we know."""
    if function is None or getattr(function, "__module__", None) != _SOURCE:
        return None
    name = function.__qualname__.split(".", 1)[0]
    if name == "causal_mask_function":
        return Structure(causal)
    if name == "bidirectional_mask_function":
        return Structure(full)
    inside = inspect.getclosurevars(function).nonlocals
    if name == "sliding_window_bidirectional_overlay":
        return Structure(window(inside["sliding_window"]))
    if name == "packed_sequence_mask_function":
        return Structure(full, inside["packed_sequence_mask"])
    if name == "remap_positions_for_packed_sequence":
        # positions within a document grow by one, so that distances are those of the indices;
        # between documents they mean nothing, and the model itself forbids those pairs
        return read(inside["mask_function"])
    if name == "and_masks":
        return _all(inside["mask_functions"])
    return None


def _all(functions: tuple[Callable, ...]) -> Structure | None:
    names = [getattr(one, "__qualname__", "").split(".", 1)[0] for one in functions]
    if sorted(names) == ["causal_mask_function", "sliding_window_overlay"]:
        overlay = functions[names.index("sliding_window_overlay")]
        size = inspect.getclosurevars(overlay).nonlocals["sliding_window"]
        return Structure(window(size - 1, 0)) if size > 0 else None
    if "remap_positions_for_packed_sequence" in names and "packed_sequence_mask_function" not in (
        names
    ):
        return None
    parts = [read(one) for one in functions]
    pattern, packed = full, None
    for part in parts:
        if part is None or (packed is not None and part.documents is not None):
            return None
        pattern = pattern & part.pattern
        packed = part.documents if packed is None else packed
    return Structure(pattern, packed)


def restricted(structure: Structure, axis: Axis) -> Pattern:
    """The model's own rule on this axis: structure, packed documents and padding."""
    return structure.pattern & kept(structure.documents is not None, axis)


def kept(packed: bool, axis: Axis) -> Pattern:
    """What stays of a model's mask when its structure is replaced: packing and padding."""
    found = full
    if packed:
        found = found & (Packed() if "packed" in axis.columns else documents)
    return found & padding if "valid" in axis.columns else found


def from_tensor(mask: Tensor) -> Tensor:
    """A 4-D mask that the user gave, as Booleans: True = may attend.

    Raises:
        ModelError: it holds other numbers than 0 and ones that forbid.
    """
    if mask.dtype == torch.bool:
        return mask
    # masks are made with the least number, with minus infinity, and by hand with -1e4 or -1e9; the
    # softmax makes 0 of all of them
    never = mask <= -1e4
    if not bool((never | (mask == 0)).all()):
        raise ModelError(
            "The 4-D attention_mask holds numbers between -10000 and 0, or above: a bias, which a "
            "pattern cannot be combined with. Give a Boolean mask, True = may attend."
        )
    return mask == 0
