"""Real texts of uneven length, for benchmarks: pieces of the speeches that come with maskwright."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.words import SPECIAL
from maskwright.data.speeches import load_speeches

FILL = 0.3
IGNORE = -100


def pieces(length: int, vocabulary: int, count: int) -> list[Tensor]:
    """Token ids of texts that fill a batch of ``(…, length)`` to about 0.3.

    Of as many sentences in a row as come nearest to that, each cut off at ``length``. A word is a
    token; rare words share one. The speeches are gone through in steps, so that few pieces come
    from many years.
    """
    sentences = [[*_ids(one, vocabulary)] for one in _sentences()]
    mean = sum(map(len, sentences)) / len(sentences)
    joined = max(1, round(FILL * length / mean))
    groups = len(sentences) // joined
    found = []
    for number in range(count):
        start = (number * 7919) % groups * joined
        ids = [token for one in sentences[start : start + joined] for token in one][: length - 2]
        found.append(torch.tensor([2, *ids, 3]))
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


def _sentences() -> Iterator[str]:
    for speech in load_speeches():
        for sentence in re.split(r"(?<=[.!?])\s+", speech.text):
            if len(sentence.split()) > 2:
                yield sentence


def _ids(sentence: str, vocabulary: int) -> Iterator[int]:
    for word in re.findall(r"\w+|[^\w\s]", sentence.lower()):
        # the same in every process, unlike hash()
        number = int.from_bytes(word.encode()[:8].ljust(8, b"\0"), "little") * 2654435761
        yield len(SPECIAL) + (number >> 7) % (vocabulary - len(SPECIAL))
