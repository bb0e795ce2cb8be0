"""One side of some pairs as ids: tokenised, and checked that a model can learn from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from maskwright.data.corpus import knows_words
from maskwright.data.words import token_word_starts
from maskwright.errors import DataError, VocabularyError
from maskwright.ragged import offsets_of


@dataclass(frozen=True)
class Side:
    """Samples end to end: ids ``(N,)``, lengths ``(B,)``, word starts ``(N,)`` or None."""

    ids: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray | None

    def only(self, kept: np.ndarray) -> Side:
        """The samples where ``kept``, ``(B,)`` bool, is True."""
        tokens = np.repeat(kept, self.lengths)
        starts = None if self.starts is None else self.starts[tokens]
        return Side(self.ids[tokens], self.lengths[kept], starts)


def tokenise_side(tokenizer: Any, is_target: bool, texts: list[str], lines: np.ndarray) -> Side:
    """The texts with the special tokens of the tokenizer; special tokens in a text are text.

    Args:
        is_target: whether the ``text_target`` mode of the tokenizer is used.
        lines: ``(B,)``, for errors.

    Raises:
        DataError: a text has no token but special ones.
    """
    with_words = knows_words(tokenizer)
    encoded = tokenizer(
        **{"text_target" if is_target else "text": texts},
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        return_offsets_mapping=with_words,
        truncation=False,
        padding=False,
        verbose=False,  # no warning that a text is longer than the model: that is counted
    )
    rows = encoded["input_ids"]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    # an unknown word is a word, though its id is special
    special = np.isin(ids, [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id])
    words = np.add.reduceat(np.append(~special, False), offsets_of(lengths)[:-1])
    if (lengths == 0).any() or (words == 0).any():
        at = int(np.argmax((lengths == 0) | (words == 0)))
        raise DataError(
            f"Line {lines[at]}: the tokenizer makes no token of the "
            f"{'target' if is_target else 'source'} {texts[at]!r}. Leave that pair out."
        )
    if not with_words:
        return Side(ids, lengths, None)
    # the texts as one, line by line, since a call for each would take longer than the tokenizer
    spans = np.fromiter(
        chain.from_iterable(chain.from_iterable(encoded["offset_mapping"])), np.int64, 2 * len(ids)
    ).reshape(-1, 2)
    places = offsets_of(np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts)))
    spans += np.repeat(places[:-1], lengths)[:, None]
    starts = token_word_starts("\n".join(texts), spans)
    starts[special] = 0
    return Side(ids, lengths, starts)


def check_ends(tokenizer: Any, targets: Side) -> None:
    """A `VocabularyError` unless every target ends with the end token of the tokenizer."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    last = targets.ids[np.cumsum(targets.lengths) - 1]
    if end is None or (last != end).any():
        raise VocabularyError(
            f"The tokenizer {getattr(tokenizer, 'name_or_path', '')!r} does not end a target with "
            f"its end token ({tokenizer.eos_token or tokenizer.sep_token}), so a model would never "
            "learn to stop. Give it a post-processor that adds it, or use train_pair_tokenizer."
        )
