"""BLEU and chrF against sacrebleu's own sums, and literal values."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from maskwright.errors import DataError, MissingExtra
from maskwright.evaluation.translation import bleu_and_chrf
from maskwright.evaluation.translation.counts import bleu_of, chrf_of, sentence_counts

words = st.sampled_from(["el", "gato", "come", "pan", ".", "¿qué?", "a"])
texts = st.lists(words, min_size=1, max_size=9).map(" ".join)
judged = st.lists(
    st.tuples(st.just("") | texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=8
).map(lambda rows: ([row[0] for row in rows], [row[1] for row in rows]))


def by_sacrebleu(metric, hypotheses, references):
    most = max(map(len, references))
    streams = [[row[n] if n < len(row) else None for row in references] for n in range(most)]
    return metric.corpus_score(hypotheses, streams).score


@settings(max_examples=30)
@given(judged)
def test_scores_are_those_of_sacrebleu(case):
    hypotheses, references = case
    scores = bleu_and_chrf(hypotheses, references)
    assert scores.bleu == pytest.approx(by_sacrebleu(BLEU(), hypotheses, references))
    assert scores.chrf == pytest.approx(by_sacrebleu(CHRF(), hypotheses, references))
    single = [row[:1] for row in references]
    assert scores.bleu_single == pytest.approx(by_sacrebleu(BLEU(), hypotheses, single))
    assert scores.chrf_single == pytest.approx(by_sacrebleu(CHRF(), hypotheses, single))


def test_literal_counts_and_scores():
    counts, _ = sentence_counts(["a b c d x"], [["a b c d e"]])
    # lengths 5 and 5; of 5, 4, 3, 2 n-grams 4, 3, 2, 1 match
    assert counts["bleu"].tolist() == [[5, 5, 4, 3, 2, 1, 5, 4, 3, 2]]
    wanted = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    assert bleu_of(counts["bleu"][0]) == pytest.approx(wanted)
    # "abcdx" and "abcde": of the n-grams of characters 4/5, 3/4, 2/3, 1/2, 0/1 match, none of 6
    share = (4 / 5 + 3 / 4 + 2 / 3 + 1 / 2) / 5
    assert chrf_of(counts["chrf"][0]) == pytest.approx(100 * share)
    # two orders without a match are smoothed: 1/2 and 1/4 of a match
    sums = np.array([4, 8, 4, 1, 0, 0, 4, 3, 2, 1])
    smoothed = (1 * 1 / 3 * (1 / 2) / 2 * (1 / 4) / 1) ** (1 / 4)
    assert bleu_of(sums) == pytest.approx(100 * np.exp(1 - 8 / 4) * smoothed)


def test_a_second_reference_counts_where_it_is_better():
    hypotheses, references = ["Me la comí hoy."], [["Me lo comí ayer.", "Me la comí hoy."]]
    scores = bleu_and_chrf(hypotheses, references)
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.bleu_single < 50
    assert scores.chrf_single < 80
    assert scores.sentences == 1
    assert scores.signatures["bleu"].startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert scores.signatures["chrf_single"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|")
    references = [*references, ["Hola."]]
    assert bleu_and_chrf(["a", "b"], references).signatures["bleu"].startswith("nrefs:var|")


def test_worst_translations_score_nothing():
    scores = bleu_and_chrf(["", "xyz"], [["Hola."], ["Adiós."]])
    assert (scores.bleu, scores.chrf) == (0.0, 0.0)


@pytest.mark.parametrize(
    "hypotheses, references, message",
    [
        ([], [], "no translations"),
        ("a", ["a"], "no translations"),
        (["a"], [["a"], ["b"]], "1 translations and references of 2"),
        (["a"], ["a"], r"sentence 0 are 'a'.*\[\[text\]"),
        (["a", "b"], [["a"], []], r"sentence 1 are \[\]"),
        (["a"], [["a", " "]], "sentence 0"),
    ],
)
def test_bad_requests(hypotheses, references, message):
    with pytest.raises(DataError, match=message):
        bleu_and_chrf(hypotheses, references)


def test_without_sacrebleu(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(MissingExtra, match=r"sacrebleu is not installed.*maskwright\[lab\]"):
        bleu_and_chrf(["a"], [["a"]])
