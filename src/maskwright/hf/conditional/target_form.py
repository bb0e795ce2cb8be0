"""What stands in a target besides its words: the mask, padding, and what begins and ends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from maskwright.errors import ConfigError
from maskwright.vocabulary import Vocabulary


@dataclass(frozen=True)
class TargetForm:
    """Targets as ``prefix … suffix`` and then padding.

    Args:
        mask_id: of what is to be filled in.
        pad_id: of padding.
        prefix: ids before the first word: BART's ``<s>``, BERT's ``[CLS]``; of most, none.
        suffix: ids behind the last word: ``</s>``, ``[SEP]``.
        never: ids that are not predicted: special ones and those that no text contains.
        size: ids of the tokenizer; what the model's head has beyond them is not predicted either.

    Raises:
        ConfigError: an id is outside of the vocabulary.
    """

    mask_id: int
    pad_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    never: tuple[int, ...]
    size: int

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix", "never"):
            object.__setattr__(self, name, tuple(int(one) for one in getattr(self, name)))
        every = (self.mask_id, self.pad_id, *self.prefix, *self.suffix, *self.never)
        outside = [one for one in every if not 0 <= one < self.size]
        if outside:
            raise ConfigError(
                f"TargetForm: id {outside[0]} is outside 0 … {self.size - 1}; size counts every id."
            )

    @property
    def frame(self) -> int:
        """How many tokens of a target are no words."""
        return len(self.prefix) + len(self.suffix)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> TargetForm:
        """As a tokenizer writes targets (``text_target=``).

        Raises:
            VocabularyError: it has no mask token, or none for padding.
        """
        vocabulary = Vocabulary.from_tokenizer(tokenizer)
        mask_id, pad_id = vocabulary.require_mask(), vocabulary.require_pad()
        ids = list(tokenizer(text_target=tokenizer.mask_token)["input_ids"])
        at = ids.index(mask_id)
        special = set(vocabulary.special_ids)
        return cls(
            mask_id=mask_id,
            pad_id=pad_id,
            prefix=tuple(one for one in ids[:at] if one in special),
            suffix=tuple(one for one in ids[at + 1 :] if one in special),
            never=tuple(sorted({*vocabulary.special_ids, *vocabulary.unused_ids})),
            size=vocabulary.size,
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
