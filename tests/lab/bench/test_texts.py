"""The texts of the benchmark: real, uneven, and the same in every process."""

from __future__ import annotations

import pytest
import torch

from maskwright.lab.bench.texts import Language, blocks, padded, pieces
from maskwright.lab.bench.words import SPECIAL, word_tokenizer


def test_literal_cases():
    rows = [torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([5, 6, 7])]
    assert padded(rows, 9, 4).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9], [5, 6, 7, 9]]
    assert blocks(rows, 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert blocks(rows, 100).tolist() == [[1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("length", [128, 512])
def test_texts_fill_a_batch_to_three_tenths_and_differ(length):
    found = pieces(length, Language.hashed(1000), 200)
    lengths = [len(row) for row in found]
    assert max(lengths) <= length
    assert 0.2 < sum(lengths) / (200 * length) < 0.42
    assert len(set(lengths)) > 10
    assert all(row[0] == 2 and row[-1] == 3 for row in found)
    assert all(len(SPECIAL) <= int(i) < 1000 for row in found for i in row[1:-1])
    again = pieces(length, Language.hashed(1000), 3)
    assert [row.tolist() for row in again] == [row.tolist() for row in found[:3]]


def test_the_special_tokens_of_a_tokenizer_are_its_own():
    language = Language.of(word_tokenizer(60))
    assert (language.begin, language.end, language.pad) == ((2,), (3,), 0)
    assert language.encode("w7 nothing w5") == [7, 1, 5]

    gpt2 = word_tokenizer(60)
    gpt2.cls_token = gpt2.sep_token = gpt2.pad_token = None
    gpt2.eos_token = "w5"
    bare = Language.of(gpt2)
    assert (bare.begin, bare.end, bare.pad) == ((), (5,), 0)
