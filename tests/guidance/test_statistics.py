"""Counts of a corpus, and the scores that they give to tokens."""

from __future__ import annotations

import math
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright import Ragged, TokenBatch, Vocabulary
from maskwright.errors import BatchError, CacheError, ConfigError, DataError, SampleIdError
from maskwright.guidance import (
    FromTokens,
    InverseDocumentFrequency,
    KnownScores,
    PairInformation,
    ScoreReader,
    ScoreStore,
    TokenStatistics,
    count_tokens,
    statistics,
)
from maskwright.guidance.checked_file import write_checked

VOCABULARY = Vocabulary(size=7, special_ids=(0, 1))
NAN = math.nan


def batch(*rows: list[int]) -> TokenBatch:
    return TokenBatch(Ragged.from_lists(rows, np.uint16), np.arange(len(rows)))


def pairs(counts: TokenStatistics) -> dict[tuple[int, int], int]:
    keys = [divmod(int(key), counts.size) for key in counts.pairs]
    return dict(zip(keys, counts.pair_counts.tolist(), strict=True))


def test_counts():
    counts = count_tokens([[0, 2, 3, 2, 3, 1], [3, 3], [], [2, 0, 3]], VOCABULARY)
    assert counts.documents == 4
    assert counts.frequency.tolist() == [0, 0, 3, 5, 0, 0, 0]
    assert counts.document_frequency.tolist() == [0, 0, 2, 3, 0, 0, 0]
    # a special token parts its neighbours, and so does the end of a row
    assert pairs(counts) == {(2, 3): 2, (3, 2): 1, (3, 3): 1}
    assert repr(counts) == "TokenStatistics(8 tokens in 4 documents, 3 pairs)"
    without = count_tokens([[2, 3]], VOCABULARY, pairs=False)
    assert without.frequency.sum() == 2
    assert len(without.pairs) == 0


def test_documents_of_several_rows():
    rows = [[2, 3], [3, 4], [2], [2, 2], [5]]
    counts = count_tokens(rows, VOCABULARY, documents=[4, 4, 7, 7, 9])
    assert counts.documents == 3
    assert counts.document_frequency.tolist() == [0, 0, 2, 1, 1, 1, 0]


CORPUS = st.lists(st.lists(st.integers(0, 6), max_size=6), max_size=12)


@given(rows=CORPUS, chunk=st.integers(1, 20), steps=st.lists(st.integers(0, 1), min_size=12))
def test_against_one_token_at_a_time(rows, chunk, steps):
    documents = np.cumsum(steps)[: len(rows)]
    singles, together, where = Counter(), Counter(), {}
    for document, row in zip(documents.tolist(), rows, strict=True):
        for place, token in enumerate(row):
            if token > 1:
                singles[token] += 1
                where.setdefault(token, set()).add(document)
                if place and row[place - 1] > 1:
                    together[row[place - 1], token] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_CHUNK", chunk)
        of_lists = count_tokens(iter(rows), VOCABULARY, documents=documents)
        of_ragged = count_tokens(
            Ragged.from_lists(rows, np.uint16), VOCABULARY, documents=documents
        )
    assert of_lists == of_ragged
    assert of_lists.documents == len(set(documents.tolist()))
    assert of_lists.frequency.tolist() == [singles[token] for token in range(7)]
    assert of_lists.document_frequency.tolist() == [len(where.get(t, ())) for t in range(7)]
    assert pairs(of_lists) == together
    assert (np.diff(of_lists.pairs.astype(np.int64)) > 0).all()


def test_it_streams():
    """No chunk is larger than was asked for, and rows are taken as they are needed."""
    taken = 0

    def corpus():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield [2, 3, 4]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_CHUNK", 30)
        sizes = [(len(part.values), taken) for part in statistics._chunks(corpus())]
        views = list(statistics._chunks(Ragged.from_lists([[2] * 20, [3] * 20, [4] * 50, [5]])))
    assert sizes == [(30, 10 * n) for n in range(1, 11)]
    assert sizes[-1] == (30, 100)
    assert [part.lengths.tolist() for part in views] == [[20], [20], [50], [1]]


@pytest.mark.parametrize(
    "rows, documents, message",
    [
        ([[7]], None, "from 7 to 7"),
        ([[-1]], None, "from -1"),
        ([[2], [3]], [0], "1 document numbers do not fit"),
        ([[2], [3]], [0, 0, 1], "3 document numbers do not fit"),
        ([[2], [3]], [1, 0], "never falling"),
    ],
)
def test_counting_refused(rows, documents, message):
    with pytest.raises(DataError, match=message):
        count_tokens(rows, VOCABULARY, documents=documents)


# --------------------------------------------------------------------------------- files


def test_saved_and_loaded(tmp_path):
    counts = count_tokens([[2, 3, 4], [4, 4]], VOCABULARY)
    counts.save(tmp_path / "a")
    assert TokenStatistics.load(tmp_path / "a") == counts
    assert counts != count_tokens([[2, 3, 4], [4, 5]], VOCABULARY)
    count_tokens([[2, 3, 4], [4, 4]], VOCABULARY).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_damaged(tmp_path):
    file = tmp_path / "counts"
    with pytest.raises(CacheError, match="counts cannot be read"):
        TokenStatistics.load(file)
    count_tokens([[2, 3, 4]], VOCABULARY).save(file)
    data = file.read_bytes()
    for place in (0, 20, 60, len(data) - 1):
        wrong = bytearray(data)
        wrong[place] ^= 1
        file.write_bytes(wrong)
        with pytest.raises(CacheError, match="counts is damaged"):
            TokenStatistics.load(file)
    file.write_bytes(data[:-3])
    with pytest.raises(CacheError, match="counts is damaged"):
        TokenStatistics.load(file)
    write_checked(file, lambda sink: sink.write(b'{"format": 99}\n'))
    with pytest.raises(DataError, match="its format is 99"):
        TokenStatistics.load(file)
    write_checked(file, lambda sink: sink.write(b"something else"))
    with pytest.raises(DataError, match="holds no token statistics"):
        TokenStatistics.load(file)


def test_a_failed_save_leaves_the_last(tmp_path, monkeypatch):
    file = tmp_path / "counts"
    counts = count_tokens([[2, 3, 4]], VOCABULARY)
    counts.save(file)

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="nothing was left half-written"):
        count_tokens([[2]], VOCABULARY).save(file)
    assert TokenStatistics.load(file) == counts
    assert [p.name for p in tmp_path.iterdir()] == ["counts"]


# -------------------------------------------------------------------------------- scores


def test_inverse_document_frequency():
    counts = count_tokens([[2, 2, 3], [2, 3], [2, 4], [2]], VOCABULARY)
    scores = InverseDocumentFrequency(counts).scores(batch([0, 2, 3], [], [4, 5]))
    assert scores.values.dtype == np.float32
    assert scores.lengths.tolist() == [3, 0, 2]
    wanted = [NAN, 0, math.log(2), math.log(4), NAN]
    np.testing.assert_array_equal(scores.values, np.float32(wanted))


def test_pair_information():
    # 10 tokens, 7 pairs: (2,3) three times, (3,4) once, (4,2) once, (2,2) once, (5,6) once
    rows = [[2, 3, 4], [2, 3], [4, 2, 2, 3], [0, 5, 6]]
    counts = count_tokens(rows, VOCABULARY)
    n = counts.frequency
    assert (n.sum(), counts.pair_counts.sum()) == (11, 7)

    def pmi(a, b, together):
        return math.log((together / 7) / ((n[a] / 11) * (n[b] / 11)))

    scores = PairInformation(counts, min_count=1).scores(batch([2, 3, 4], [6, 5], [5], [0, 5, 6]))
    wanted = [pmi(2, 3, 3), max(pmi(2, 3, 3), pmi(3, 4, 1)), pmi(3, 4, 1)]
    wanted += [NAN, NAN, NAN, NAN, pmi(5, 6, 1), pmi(5, 6, 1)]
    np.testing.assert_allclose(scores.values, wanted, rtol=1e-6)
    often = PairInformation(counts, min_count=3).scores(batch([2, 3, 4], [5, 6]))
    np.testing.assert_allclose(often.values, [pmi(2, 3, 3)] * 2 + [NAN] * 3, rtol=1e-6)


def test_pairs_do_not_cross_rows():
    counts = count_tokens([[2, 3]] * 9 + [[4]], VOCABULARY)
    scores = PairInformation(counts).scores(batch([2], [3], [], [2], [], [3]))
    assert np.isnan(scores.values).all()
    assert not np.isnan(PairInformation(counts).scores(batch([4, 2, 3]))[0][1:]).any()


def test_nothing_counted():
    counts = count_tokens([], VOCABULARY)
    assert counts.documents == 0
    for scorer in (InverseDocumentFrequency(counts), PairInformation(counts)):
        assert np.isnan(scorer.scores(batch([2, 3])).values).all()
        assert scorer.scores(batch()).to_lists() == []


def test_of_another_vocabulary():
    counts = count_tokens([[2, 3]], VOCABULARY)
    for scorer in (InverseDocumentFrequency(counts), PairInformation(counts)):
        with pytest.raises(BatchError, match="vocabulary of 7"):
            scorer.scores(batch([7]))
    with pytest.raises(ConfigError, match="min_count must be at least 1"):
        PairInformation(counts, min_count=0)


def test_as_readers(tmp_path):
    tokens = Ragged.from_lists([[2, 3], [3], [4, 2]])
    idf = InverseDocumentFrequency(count_tokens(tokens, VOCABULARY))

    class Table:
        def batch(self, sample_ids):
            return TokenBatch(tokens.take(sample_ids), sample_ids)

    for samples in (tokens, Table()):
        reader = FromTokens(idf, samples)
        assert isinstance(reader, ScoreReader)
        found = reader.read(np.array([2, 0]))
        assert found.lengths.tolist() == [2, 2]
        np.testing.assert_array_equal(found.values, idf.table[[4, 2, 2, 3]])
    with pytest.raises(SampleIdError, match="outside 0 … 2"):
        FromTokens(idf, tokens).read(np.array([3]))
    with pytest.raises(BatchError, match="takes numbers"):
        KnownScores(Ragged(np.array(["a"]), np.array([0, 1])))
    with ScoreStore.create(tmp_path / "s", tokens.lengths) as store:
        store.initialise(FromTokens(idf, tokens))
        expected = idf.table[tokens.values].astype(np.float16)
        np.testing.assert_array_equal(store.read(np.arange(3)).values, expected)


def test_of_a_token_table(tmp_path):
    data = pytest.importorskip("maskwright.data")
    with data.TableWriter(tmp_path / "t.arrow", vocabulary_size=7, meta={}) as writer:
        writer.add(np.array([2, 3, 3, 4]), np.array([2, 1, 1]), documents=np.array([0, 0, 1]))
    table = writer.table
    counts = count_tokens(table.tokens, VOCABULARY, documents=table.documents)
    assert counts.document_frequency.tolist() == [0, 0, 1, 1, 1, 0, 0]
    idf = InverseDocumentFrequency(counts)
    found = FromTokens(idf, table).read(np.array([1, 2]))
    np.testing.assert_array_equal(found.values, np.float32([math.log(2)] * 2))
