"""The batches of the benchmark: what is predicted is real, and packed is without padding."""

from __future__ import annotations

import pytest

from maskwright.corruption.emit import IGNORE
from maskwright.lab.bench.cases import masked, pairs, prompted, table_of_cases
from maskwright.lab.bench.texts import Language

LANGUAGE = Language.hashed(1000)


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_masked(rate):
    case = masked("m", None, LANGUAGE, 64, 8192, rate)
    for batch in (case.ragged, case.packed):
        real, labels = batch["attention_mask"] == 1, batch["labels"]
        assert labels[~real].eq(IGNORE).all()
        assert ((labels != IGNORE).sum() / real.sum()).item() == pytest.approx(rate, abs=0.06)
    assert case.ragged["attention_mask"].float().mean() < 0.5
    assert case.packed["attention_mask"].all()
    # the same number of tokens up to one block
    assert 0 <= case.ragged["attention_mask"].sum() - case.packed["labels"].numel() < 64


def test_prompts_are_not_predicted():
    batch = prompted("p", None, LANGUAGE, 64, 256).ragged
    for ids, labels, real in zip(*(batch[k] for k in batch), strict=True):
        count = int(real.sum())
        answer = 2 * count // 3
        assert labels[:answer].eq(IGNORE).all()
        assert labels[answer:count].equal(ids[answer:count])
        assert labels[count:].eq(IGNORE).all()


def test_pairs_have_targets_of_their_own_length():
    case = pairs("q", None, LANGUAGE, 64, 32, 512)
    assert case.packed is None
    assert case.ragged["labels"].shape == (8, 32)
    assert (case.ragged["labels"] == IGNORE).any()


def test_where_padding_has_the_id_of_a_token_the_mask_tells_them_apart():
    language = Language(LANGUAGE.tokenizer, LANGUAGE.encode, (2,), (3,), pad=7)
    batch = masked("m", None, language, 64, 1024, 0.9).ragged
    assert batch["labels"][batch["attention_mask"] == 0].eq(IGNORE).all()


def test_the_table_makes_no_case_before_it_is_asked_for():
    table = table_of_cases(10**12)  # would not fit
    assert list(table) == ["bert-512", "bert-128", "modernbert", "gpt2", "bart"]
    assert table_of_cases(1024)["bert-128"]().ragged["input_ids"].shape == (8, 128)
