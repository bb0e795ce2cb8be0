"""Phrases of shards are those of all samples together, in any number of blocks."""

from __future__ import annotations

import pytest

from maskwright.corruption.phrases import learn_phrases
from maskwright.data.corpus import build_table
from maskwright.data.prepare.engine import Here
from maskwright.data.prepare.layout import Layout
from maskwright.data.prepare.ngrams import learn_over_shards
from maskwright.data.prepare.settings import PhraseSettings
from maskwright.errors import PolicyError
from maskwright.vocabulary import Vocabulary
from tests.data.prepare.texts import small_tokenizer
from tests.lab.tiny import sentences


@pytest.mark.parametrize("block", [60, 10**6])
@pytest.mark.parametrize("settings", [(2, 30, 1), (4, 40, 5), (5, 10**6, 2), (3, 10, 10**6)])
def test_blocks_change_nothing(tmp_path, block, settings):
    longest, size, least = settings
    tokenizer = small_tokenizer()
    layout = Layout(tmp_path)
    layout.work.mkdir()
    tokenizer.save_pretrained(layout.tokenizer)
    tables = [
        build_table(
            sentences(6, 20, 50 * number), tokenizer, max_length=16,
            path=tmp_path / f"{number}.arrow", split="all",
        )
        for number in range(2)
    ]  # fmt: skip
    whole = build_table(
        [*sentences(6, 20, 0), *sentences(6, 20, 50)], tokenizer, max_length=16,
        path=tmp_path / "whole.arrow", split="all",
    )  # fmt: skip
    expected = learn_phrases(
        whole.tokens, Vocabulary.from_tokenizer(tokenizer), longest=longest, size=size,
        min_count=least, word_starts=whole.word_starts,
    )  # fmt: skip
    assert (len(expected) > 0) == (least < 100)
    found = learn_over_shards(
        layout, [table.path for table in tables], tokenizer,
        PhraseSettings(longest, size, least), Here(), block=block,
    )  # fmt: skip
    assert found == expected


@pytest.mark.parametrize("setting", [{"longest": 1}, {"size": 0}, {"min_count": 0}])
def test_settings_outside_their_rule(setting):
    with pytest.raises(PolicyError, match="must be at least"):
        PhraseSettings(**setting)
