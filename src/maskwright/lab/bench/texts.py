"""Real texts of uneven length: pieces of the speeches that come with maskwright."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from maskwright.data.speeches import load_speeches
from maskwright.lab.bench.words import SPECIAL, word_tokenizer

FILL = 0.3
# the mean length of a sentence is taken from every so many of them
_SAMPLED = 50


@dataclass(frozen=True)
class Language:
    """How text becomes ids.

    Attributes:
        tokenizer: with the special tokens that masking needs.
        encode: ids of a sentence, without special tokens.
        begin, end: ids around each text.
        pad: the id at padding.
    """

    tokenizer: Any
    encode: Callable[[str], list[int]]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    pad: int

    @classmethod
    def hashed(cls, vocabulary: int) -> Language:
        """A word is a token of ``vocabulary``; rare words share one."""
        tokenizer = word_tokenizer(vocabulary)
        return cls(tokenizer, lambda sentence: [*_hashed(sentence, vocabulary)], (2,), (3,), 0)

    @classmethod
    def of(cls, tokenizer: Any) -> Language:
        """Of a tokenizer of transformers, with what it has of [CLS] and [SEP], or of their like."""

        def encode(sentence: str) -> list[int]:
            return tokenizer(sentence, add_special_tokens=False, verbose=False)["input_ids"]

        ids = [
            tuple(one for one in pair if one is not None)[:1]
            for pair in (
                (tokenizer.cls_token_id, tokenizer.bos_token_id),
                (tokenizer.sep_token_id, tokenizer.eos_token_id),
            )
        ]
        pad = tokenizer.pad_token_id
        return cls(tokenizer, encode, ids[0], ids[1], 0 if pad is None else pad)


def pieces(length: int, language: Language, count: int) -> list[Tensor]:
    """Token ids of texts that fill a batch of ``(…, length)`` to about 0.3.

    Of as many sentences in a row as come nearest to that, each cut off at ``length``. The speeches
    are gone through in steps, so that few pieces come from many years.
    """
    sentences = _sentences()
    sampled = [len(language.encode(one)) for one in sentences[::_SAMPLED]]
    joined = max(1, round(FILL * length * len(sampled) / sum(sampled)))
    groups = len(sentences) // joined
    room = length - len(language.begin) - len(language.end)
    found = []
    for number in range(count):
        start = (number * 7919) % groups * joined
        ids = [i for one in sentences[start : start + joined] for i in language.encode(one)]
        found.append(torch.tensor([*language.begin, *ids[:room], *language.end]))
    return found


def padded(rows: list[Tensor], fill: int, length: int) -> Tensor:
    """``(B, length)``."""
    out = torch.full((len(rows), length), fill)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out


def blocks(rows: list[Tensor], length: int) -> Tensor:
    """``(N, length)``: the rows one behind the other, cut into blocks; what is left over goes."""
    whole = torch.cat(rows)
    length = min(length, len(whole))
    return whole[: len(whole) // length * length].view(-1, length)


@cache
def _sentences() -> tuple[str, ...]:
    return tuple(
        sentence
        for speech in load_speeches()
        for sentence in re.split(r"(?<=[.!?])\s+", speech.text)
        if len(sentence.split()) > 2
    )


def _hashed(sentence: str, vocabulary: int) -> Iterator[int]:
    for word in re.findall(r"\w+|[^\w\s]", sentence.lower()):
        # the same in every process, unlike hash()
        number = int.from_bytes(word.encode()[:8].ljust(8, b"\0"), "little") * 2654435761
        yield len(SPECIAL) + (number >> 7) % (vocabulary - len(SPECIAL))
