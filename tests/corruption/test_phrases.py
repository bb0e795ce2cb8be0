"""Collocations: learned from a corpus in which they were planted, and selected as units."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged, TokenBatch
from maskwright.corruption import reference_spans as reference
from maskwright.corruption.phrases import Collocations, Phrases, learn_phrases
from maskwright.corruption.words import WholeWords
from maskwright.errors import DataError, PolicyError, VocabularyError
from tests.corruption.rows import WORDS
from tests.corruption.test_words import expected
from tests.corruption.units import (
    allowed_of,
    batch_of,
    cases,
    check_contract,
    draw_of,
    parts_of,
)

PLANTED = [(5, 6), (7, 8, 9), (10, 11, 12, 13), (14, 15, 16, 17, 18)]


def corpus(seed=0, rows=200):
    """Single tokens 100 … 399 at random; between them, the planted phrases."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(rows):
        row = [2]
        for _ in range(40):
            if rng.random() < 0.15:
                row += PLANTED[rng.integers(4)]
            else:
                row.append(int(rng.integers(100, 400)))
        out.append([*row, 3])
    return Ragged.from_lists(out)


def grams(*runs):
    hashes = [reference.word_hash([reference.word_hash([t]) for t in run]) for run in runs]
    return Phrases(np.unique(np.array(hashes, np.uint64)), 5, "tokens", 1000)


def units(phrases, row, **others):
    batch = batch_of([row], **others)
    return parts_of(Collocations(phrases)(batch, WORDS, draw_of(batch, 1.0)), batch)[0]


# ------------------------------------------------------------------------------ learning


def test_planted_collocations_are_found():
    phrases = learn_phrases(corpus(), WORDS, size=24)
    assert phrases.of == "tokens"
    for run in PLANTED:
        assert set(grams(run).hashes) <= set(phrases.hashes), run
    # 12 bigrams, of which 10 are planted or parts of what is; 6, 3 and 3 longer ones
    assert len(phrases) <= 24
    sentence = [100, 5, 6, 101, 7, 8, 9, 102, 10, 11, 12, 13, 103, 14, 15, 16, 17, 18, 200]
    found = units(phrases, sentence)
    assert [[sentence[place] for place in part] for part in found if len(part) > 1] == [
        list(run) for run in PLANTED
    ]


def test_pmi_literally():
    """The least over all ways to cut: 'a b' holds together, 'a b x' is the accident of 'x'."""
    rng = np.random.default_rng(1)
    rows = [[20, 21, int(rng.integers(30, 33)), 40] for _ in range(300)]
    tokens = Ragged.from_lists(rows)
    phrases = learn_phrases(tokens, WORDS, min_count=50, longest=3)
    counts = dict.fromkeys(((20,), (21,), (30,), (20, 21), (21, 30), (20, 21, 30)), 0)
    for row in rows:
        for run in counts:
            for i in range(len(row) - len(run) + 1):
                counts[run] += tuple(row[i : i + len(run)]) == run
    totals = {1: 1200, 2: 900, 3: 600}
    log = {run: np.log(n / totals[len(run)]) for run, n in counts.items()}
    best = min(
        log[20, 21, 30] - log[(20,)] - log[(21,)] - log[(30,)],
        log[20, 21, 30] - log[20, 21] - log[(30,)],
        log[20, 21, 30] - log[(20,)] - log[21, 30],
    )
    from maskwright.corruption.phrases import Counts, word_hashes
    from maskwright.corruption.words import mark_units

    batch = TokenBatch(tokens, np.arange(300))
    hashes, _, apart = word_hashes(tokens, mark_units(batch, WORDS, "tokens"))
    found = Counts(hashes, apart, 3, 50)
    scores = dict(zip(found.grams[3].tolist(), found.scores(3).tolist(), strict=True))
    assert scores[int(grams((20, 21, 30)).hashes[0])] == pytest.approx(best)
    pairs = dict(zip(found.grams[2].tolist(), found.scores(2).tolist(), strict=True))
    pair = log[20, 21] - log[(20,)] - log[(21,)]
    assert pairs[int(grams((20, 21)).hashes[0])] == pytest.approx(pair)
    assert set(grams((20, 21)).hashes) <= set(phrases.hashes)


def test_rare_runs_are_no_phrases():
    rows = [[5, 6, 100 + i, 200 + i] for i in range(9)]
    assert len(learn_phrases(Ragged.from_lists(rows), WORDS)) == 0
    rows += [[5, 6, 300, 301]]
    learned = learn_phrases(Ragged.from_lists(rows), WORDS)
    assert set(learned.hashes) == set(grams((5, 6)).hashes)


def test_phrases_do_not_cross_special_tokens_or_samples():
    rows = [[5, 2, 6], [7], [8]] * 50
    assert len(learn_phrases(Ragged.from_lists(rows), WORDS, min_count=1)) == 0
    assert len(learn_phrases(Ragged.from_lists([]), WORDS)) == 0


def test_phrases_of_words():
    """'5 6' and '7' are words: the phrase is of two words and three tokens."""
    rows = [[5, 6, 7, 100 + i % 90, 200 + i % 70] for i in range(400)]
    tokens = Ragged.from_lists(rows)
    starts = tokens.like(np.tile([1, 0, 1, 1, 1], 400).astype(np.uint8))
    phrases = learn_phrases(tokens, WORDS, word_starts=starts, longest=2)
    assert phrases.of == "words"
    word = reference.word_hash
    assert word([word([5, 6]), word([7])]) in set(phrases.hashes.tolist())
    batch = batch_of([[9, 5, 6, 7, 5, 7]], [[1, 1, 0, 1, 1, 1]])
    found = Collocations(phrases)(batch, WORDS, draw_of(batch, 1.0))
    assert parts_of(found, batch) == [[[0], [1, 2, 3], [4], [5]]]
    with pytest.raises(VocabularyError, match="word_starts"):
        Collocations(phrases)(batch_of([[5]]), WORDS, draw_of(batch_of([[5]])))


def test_the_longest_lengths_share_the_rest():
    learned = learn_phrases(corpus(), WORDS, size=40, min_count=2)
    assert len(learned) <= 40
    smaller = learn_phrases(corpus(), WORDS, size=20, min_count=2)
    assert set(smaller.hashes) < set(learned.hashes)


# ------------------------------------------------------------------------------ selecting


def test_the_longest_from_the_left():
    phrases = grams((5, 6), (6, 7, 8), (5, 6, 7, 8, 9), (8, 9))
    assert units(phrases, [5, 6, 7, 8, 9]) == [[0, 1, 2, 3, 4]]
    assert units(phrases, [5, 6, 7, 8, 5]) == [[0, 1], [2], [3], [4]]
    assert units(phrases, [6, 7, 8, 9]) == [[0, 1, 2], [3]]
    assert units(phrases, [5, 6, 5, 6]) == [[0, 1], [2, 3]]
    assert units(phrases, [5, 2, 6]) == [[0], [2]]
    assert units(phrases, [5, 6, 8, 9], protected=[[0, 1, 0, 0]]) == [[0], [2, 3]]
    assert units(phrases, [5]) == [[0]]
    assert units(phrases, []) == []


@st.composite
def known(draw: st.DrawFn, vocabulary, of):
    """Runs of the ids that are there, so that some match."""
    ids = st.integers(0, vocabulary.size - 1)
    runs = draw(st.lists(st.lists(ids, min_size=2, max_size=4), max_size=60))
    word = reference.word_hash
    hashes = {word([word([token]) for token in run]) for run in runs}
    return Phrases(np.array(sorted(hashes), np.uint64), 4, of, vocabulary.size)


@given(st.data(), cases(refreshes=("static", "coverage-0.3")), st.sampled_from(["tokens", "words"]))
def test_it_is_the_reference(data, case, of):
    vocabulary, batch, draw = case
    phrases = data.draw(known(vocabulary, of))
    select = Collocations(phrases)
    check_contract(select, vocabulary, batch, draw)
    # the units of the reference, as flags of where units begin
    flags = np.zeros(len(batch.tokens.values), np.uint8)
    for row, allowed in enumerate(allowed_of(batch, vocabulary)):
        starts = batch.word_starts[row].tolist() if of == "words" else [1] * len(allowed)
        parts = reference.units(allowed, starts)
        joined = reference.join(
            parts, batch.tokens[row].tolist(), set(phrases.hashes.tolist()), phrases.longest
        )
        flags[[batch.tokens.offsets[row] + part[0] for part in joined]] = 1
    marked = replace(batch, word_starts=batch.tokens.like(flags))
    chosen = parts_of(select(batch, vocabulary, draw), batch)
    assert chosen == expected(marked, vocabulary, draw)


def test_no_phrases_are_whole_words():
    none = Phrases(np.empty(0, np.uint64), 5, "words", 1000)
    batch = batch_of([[5, 6, 7, 8] * 20], [[1, 0, 1, 1] * 20])
    draw = draw_of(batch, 0.4)
    mine, theirs = Collocations(none)(batch, WORDS, draw), WholeWords()(batch, WORDS, draw)
    assert parts_of(mine, batch) == parts_of(theirs, batch)


def test_every_phrase_is_found_among_many():
    rng = np.random.default_rng(3)
    hashes = np.unique(rng.integers(0, 2**64, 50_000, dtype=np.uint64))
    from maskwright.corruption.phrase_kernels import holds

    phrases = Phrases(hashes, 5, "tokens", 1000)
    index, shift = phrases.table
    assert all(holds(hashes, index, shift, one) for one in hashes[::50])
    assert not any(holds(hashes, index, shift, one + np.uint64(1)) for one in hashes[::50])
    for edge in (np.uint64(0), np.uint64(2**64 - 1)):
        assert not holds(hashes, index, shift, edge)


# --------------------------------------------------------------------------------- values


def test_they_are_saved_pickled_and_compared(tmp_path):
    phrases = learn_phrases(corpus(), WORDS, size=40)
    _ = phrases.table
    phrases.save(tmp_path / "phrases.npz")
    assert Phrases.load(tmp_path / "phrases.npz") == phrases
    assert pickle.loads(pickle.dumps(phrases)) == phrases
    assert hash(Collocations(phrases)) == hash(Collocations(Phrases.load(tmp_path / "phrases.npz")))
    assert phrases != replace(phrases, longest=4)
    assert str(Collocations(phrases)) == f"collocations ({len(phrases)})"


def test_files_that_hold_no_phrases(tmp_path):
    (tmp_path / "text").write_text("no phrases")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("text", "other.npz", "missing"):
        with pytest.raises(DataError, match=name):
            Phrases.load(tmp_path / name)


def test_another_vocabulary_is_refused():
    phrases = replace(grams((5, 6)), size=999)
    batch = batch_of([[5, 6]])
    with pytest.raises(VocabularyError, match=r"999 ids.*has 1000"):
        Collocations(phrases)(batch, WORDS, draw_of(batch))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Phrases(np.array([3, 2], np.uint64), 5, "words", 9), "rising uint64"),
        (lambda: Phrases(np.array([2, 3]), 5, "words", 9), "rising uint64"),
        (lambda: Phrases(np.empty(0, np.uint64), 1, "words", 9), "at least 2, got 1"),
        (lambda: Phrases(np.empty(0, np.uint64), 2, "word", 9), "Did you mean 'words'"),
        (lambda: Collocations(["a b"]), "got a list"),
        (lambda: learn_phrases(corpus(rows=1), WORDS, longest=1), "longest must be at least 2"),
        (lambda: learn_phrases(corpus(rows=1), WORDS, size=0), "size must be at least 1"),
        (lambda: learn_phrases(corpus(rows=1), WORDS, min_count=0), "min_count must be"),
    ],
)
def test_settings_outside_their_rule(make, message):
    with pytest.raises(PolicyError, match=message):
        make()
