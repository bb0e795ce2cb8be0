"""Vocabulary: what masking needs to know of a tokenizer."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from maskwright.errors import VocabularyError
from maskwright.ragged import Side

# Rows that exist in the embedding but that no text produces: BERT's [unused7], Gemma's <unused7>,
# the reserved tokens of Llama 3 and ModernBERT's [unused7].
_UNUSED = re.compile(
    r"^(\[unused\d+\]|<unused\d+>|<\|reserved_special_token_\d+\|>|madeupword\d+)$"
)
_SENTINEL = re.compile(r"^<extra_id_(\d+)>$")
_BYTE = re.compile(r"^<0x[0-9A-F]{2}>$")
# As they begin a token: space, newline, tab and carriage return of byte-level BPE; the space of
# Metaspace, and its bytes of white space.
_BYTE_LEVEL = ("Ġ", "Ċ", "ĉ", "č")
_METASPACE = ("▁", "<0x09>", "<0x0A>", "<0x0D>")
_PUNCTUATION = frozenset(string.punctuation) - {"_"}


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a tokenizer by their role.

    Args:
        size: number of ids; each id of a batch is below it.
        mask_id: the mask token, ``None`` where the tokenizer has none.
        pad_id: the padding token, ``None`` where the tokenizer has none.
        special_ids: never selected and never drawn as a replacement (they include the above).
        sentinel_ids: T5's ``<extra_id_0>`` …, in their order; special as well.
        unused_ids: never drawn as a replacement, since no text contains them.
        padding_side: where the tokenizer pads.
        word_start: ``(size,)`` bool: which ids begin a word, as far as an id alone can tell;
            ``None`` where that is not known.

    Raises:
        VocabularyError: an id is outside ``0 … size - 1``, or ``word_start`` is not of that size.
    """

    size: int
    mask_id: int | None = None
    pad_id: int | None = None
    special_ids: tuple[int, ...] = ()
    sentinel_ids: tuple[int, ...] = ()
    unused_ids: tuple[int, ...] = ()
    padding_side: Side = "right"
    name: str = field(default="", compare=False)
    # what it says follows from the tokenizer, like the name, and arrays have no hash
    word_start: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        own = tuple(i for i in (self.mask_id, self.pad_id) if i is not None)
        special = tuple(sorted({*self.special_ids, *self.sentinel_ids, *own}))
        object.__setattr__(self, "special_ids", special)
        outside = [i for i in (*special, *self.unused_ids) if not 0 <= i < self.size]
        if outside:
            raise VocabularyError(
                f"Vocabulary: id {outside[0]} is outside 0 … {self.size - 1}; size counts every id."
            )
        if self.word_start is not None:
            table = np.asarray(self.word_start).astype(np.bool_)
            if table.shape != (self.size,):
                raise VocabularyError(
                    f"Vocabulary.word_start must have one flag for each of the {self.size} ids, "
                    f"got shape {table.shape}."
                )
            object.__setattr__(self, "word_start", table)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> Vocabulary:
        """From a Hugging Face tokenizer, fast or slow."""
        try:
            tokens: dict[str, int] = tokenizer.get_vocab()
            special = tuple(tokenizer.all_special_ids)
        except AttributeError as error:
            raise VocabularyError(
                f"Vocabulary.from_tokenizer takes a Hugging Face tokenizer, got "
                f"{type(tokenizer).__name__} ({error})."
            ) from None
        # ids may have holes, so the size is that of the embedding, not the number of tokens
        size = max(tokens.values(), default=-1) + 1
        sentinels = sorted(
            (int(match[1]), i) for token, i in tokens.items() if (match := _SENTINEL.match(token))
        )
        holes = set(range(size)).difference(tokens.values())
        unused = {i for token, i in tokens.items() if _UNUSED.match(token)} | holes
        return cls(
            size=size,
            mask_id=tokenizer.mask_token_id,
            pad_id=tokenizer.pad_token_id,
            special_ids=special,
            sentinel_ids=tuple(i for _, i in sentinels),
            unused_ids=tuple(sorted(unused)),
            padding_side=tokenizer.padding_side,
            name=getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__,
            word_start=_word_start(tokens, size, {*special, *(i for _, i in sentinels)}),
        )

    @cached_property
    def maskable(self) -> np.ndarray:
        """``(size,)`` bool: which ids may be selected."""
        table = np.ones(self.size, np.bool_)
        table[list(self.special_ids)] = False
        return table

    @cached_property
    def replacements(self) -> np.ndarray:
        """``(R,)`` int64, rising: the ids that a random replacement may take."""
        table = self.maskable.copy()
        table[list(self.unused_ids)] = False
        return np.flatnonzero(table)

    @cached_property
    def sentinels(self) -> np.ndarray:
        """``sentinel_ids`` as an array, int64."""
        return np.array(self.sentinel_ids, np.int64)

    def require_sentinels(self) -> np.ndarray:
        """`sentinels`, or an error where there is none."""
        if not len(self.sentinel_ids):
            raise VocabularyError(
                f"The tokenizer {self.name!r} has no sentinels (<extra_id_0> …), which the policy "
                'writes. Add them: tokenizer.add_special_tokens({"additional_special_tokens": '
                '[f"<extra_id_{i}>" for i in range(100)]}), then '
                "model.resize_token_embeddings(len(tokenizer))."
            )
        return self.sentinels

    def require_mask(self) -> int:
        """The mask id, or an error that says how to get one."""
        if self.mask_id is None:
            raise VocabularyError(
                f"The tokenizer {self.name!r} has no mask token, which the policy writes. Add it: "
                'tokenizer.add_special_tokens({"mask_token": "[MASK]"}), then '
                "model.resize_token_embeddings(len(tokenizer))."
            )
        return self.mask_id

    def require_pad(self) -> int:
        """The padding id, or an error that says how to get one."""
        if self.pad_id is None:
            raise VocabularyError(
                f"The tokenizer {self.name!r} has no padding token, and samples of different "
                "lengths must be padded. Set one: tokenizer.pad_token = tokenizer.eos_token."
            )
        return self.pad_id

    def require_replacements(self) -> np.ndarray:
        """`replacements`, or an error where there is none to draw."""
        if not len(self.replacements):
            raise VocabularyError(
                f"The tokenizer {self.name!r} has only special and unused ids: there is nothing to "
                "draw random replacements from."
            )
        return self.replacements


def _word_start(tokens: Mapping[str, int], size: int, special: set[int]) -> np.ndarray | None:
    """Which ids begin a word, ``(size,)`` bool, by the marks of their strings.

    WordPiece marks what goes on (``##``); byte-level BPE and Metaspace mark the space before what
    begins (``Ġ``, ``▁``), and there a token that begins with punctuation begins a word too (the
    rule of ALBERT's ``create_pretraining_data``). The convention that most tokens follow counts,
    since ``##`` is also a token of GPT-2 and ``Ġ`` a letter of Maltese. ``None`` where there is
    none.
    """
    marked = {
        "##": sum(token.startswith("##") and len(token) > 2 for token in tokens),
        "Ġ": sum(token.startswith("Ġ") for token in tokens),
        "▁": sum(token.startswith("▁") for token in tokens),
    }
    convention = max(marked, key=marked.__getitem__)
    if not marked[convention]:
        return None
    begins = _BYTE_LEVEL if convention == "Ġ" else _METASPACE
    table = np.zeros(size, np.bool_)
    for token, i in tokens.items():
        if i in special:
            continue
        if convention == "##":
            table[i] = not token.startswith("##") or len(token) == 2
        else:
            punctuation = token[:1] in _PUNCTUATION and not _BYTE.match(token)
            table[i] = token.startswith(begins) or punctuation
    return table
