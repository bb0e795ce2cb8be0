import numpy as np
import pytest

from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption import Masking
from maskwright.corruption.show import piece, token_views
from maskwright.data.tokenizer import train_bpe
from maskwright.errors import DataError
from maskwright.lab.examples import Example, plans_of, report_examples, tokenise
from maskwright.ragged import Ragged
from maskwright.vocabulary import Vocabulary
from tests.core.tokenizers import byte_level, unigram, wordpiece
from tests.lab import tiny

SENTENCE = "the quick brown foxes must guess unbelievable words"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return train_bpe([SENTENCE] * 3, 60, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("family", [wordpiece, byte_level, unigram])
def test_the_pieces_join_to_the_text(family):
    tokenizer = family()
    ids = tokenizer(SENTENCE, add_special_tokens=False)["input_ids"]
    assert len(ids) > len(SENTENCE.split())  # some words are cut, so that joining is not trivial
    assert "".join(piece(tokenizer, i) for i in ids).strip() == SENTENCE


def test_the_pieces_of_a_trained_tokenizer_join_to_the_text(ours):
    ids = ours(SENTENCE)["input_ids"]
    assert "".join(piece(ours, i) for i in ids) == f"[CLS]{SENTENCE}[SEP]"


def test_every_state_is_shown_with_what_stood_there_before(ours):
    ids = ours(SENTENCE)["input_ids"]
    bound = Masking(rate=0.9).bind(Vocabulary.from_tokenizer(ours))
    seen = set()
    for sample in range(12):
        plan = bound.plan(TokenBatch(Ragged.from_lists([ids]), np.array([sample])), Clock(0, 0))
        views = token_views(plan, 0, ours)
        assert "".join(view.original or view.text for view in views) == f"[CLS]{SENTENCE}[SEP]"
        for view in views:
            seen.add(view.state)
            assert (view.original is None) == (view.state == "untouched")
            assert (view.state == "masked") == (view.text == "[MASK]")
            if view.state == "kept":
                assert view.text == view.original
    assert seen == {"untouched", "masked", "random", "kept"}


def test_a_static_mask_stays_and_a_dynamic_one_moves(ours):
    ids = ours(SENTENCE)["input_ids"]
    static, dynamic = (
        [
            token_views(plan, 0, ours)
            for plan in plans_of(Masking(rate=0.4, refresh=refresh), ids, ours, epochs=3)
        ]
        for refresh in ("static", "dynamic")
    )
    assert static[0] == static[1] == static[2]
    assert static[0] == dynamic[0]  # epoch 0 is the same draw
    assert dynamic[0] != dynamic[1]


def test_the_examples_of_the_report(ours):
    ids = ours(SENTENCE)["input_ids"]
    [example] = report_examples({"high": Masking(rate=0.5)}, Example(0, ids, {}), ours, seed=0)
    assert [epoch["epoch"] for epoch in example["epochs"]] == [0, 1, 2]
    for epoch in example["epochs"]:
        assert len(epoch["tokens"]) == len(ids)
        for token in epoch["tokens"]:
            assert ("original" in token) == (token["state"] != "untouched")


@pytest.mark.parametrize("text", ["", "[PAD][MASK]"])
def test_a_text_with_nothing_to_mask(ours, text):
    with pytest.raises(DataError, match="no token to mask"):
        tokenise(text, ours)


# -- on the command line -------------------------------------------------------------------


def cells(printed):
    """The table's cells by row and column, wrapped lines joined."""
    rows, current = [], None
    for line in printed.splitlines():
        if line.startswith(("├", "┡")):
            current = None
        elif line.startswith("│"):
            parts = [part.strip() for part in line.strip("│").split("│")]
            if current is None:
                current = [""] * len(parts)
                rows.append(current)
            for number, part in enumerate(parts):
                current[number] += part
    return rows


def test_preview_shows_each_policy_and_epoch(command, text):
    ended = command(
        "preview", "--set", f"data.source={text}", "--set", "data.vocabulary_size=80",
        "--policies", "static,dynamic", "--text", "the state of the nation and the law",
    )  # fmt: skip
    assert ended.status == 0
    static, dynamic = cells(ended.out)
    assert (static[0], dynamic[0]) == ("static", "dynamic")
    assert static[1] == static[2] == static[3] == dynamic[1]
    assert dynamic[1] != dynamic[2]
    assert "[MASK]" in static[1]
    assert "masked" in ended.out.splitlines()[-1]


def test_preview_of_the_held_out_text(command, text):
    ended = command("preview", "--set", f"data.source={text}", "--epochs", 1)
    assert ended.status == 0
    assert any(word in ended.out for word in tiny.WORDS)


def test_preview_with_a_tokenizer_and_a_text_reads_no_corpus(command, tmp_path):
    wordpiece().save_pretrained(tmp_path)
    ended = command(
        "preview", "--tokenizer", tmp_path, "--text", SENTENCE, "--recipe", "bert",
        "--set", "data.source=/nowhere.txt", "--epochs", 2,
    )  # fmt: skip
    assert ended.status == 0
    [row] = cells(ended.out)
    assert row[0] == "bert"
    assert len(row) == 3


def test_the_legend_has_the_mask_token_of_the_tokenizer(command, tmp_path):
    byte_level().save_pretrained(tmp_path)
    ended = command("preview", "--tokenizer", tmp_path, "--text", SENTENCE, "--epochs", 1)
    assert ended.out.splitlines()[-1].startswith("<mask> masked")


def test_a_long_word_is_broken_and_not_cut_off(command, tmp_path):
    wordpiece().save_pretrained(tmp_path)
    long = "unbelievable" * 8
    ended = command(
        "preview", "--tokenizer", tmp_path, "--text", long, "--policies", "static",
        "--set", "policies.static.rate=0", width=60,
    )  # fmt: skip
    [row] = cells(ended.out)
    assert row[1:] == [long] * 3
