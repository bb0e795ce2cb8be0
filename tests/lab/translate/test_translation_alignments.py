"""Word alignments: from lines of a file to links of tokens, and to what the decoder reads."""

from __future__ import annotations

from itertools import groupby

import pytest

from maskwright.data.pairs import Pair
from maskwright.errors import ConfigError, DataError, VocabularyError
from maskwright.hf import with_sample_ids
from maskwright.lab.translate.aligned_pairs import AlignedPairs, words_of
from maskwright.lab.translate.alignments import read_alignments
from maskwright.lab.translate.config import parse_translation
from maskwright.lab.translate.jobs import plan_translation
from maskwright.lab.translate.open_masked import open_masked
from maskwright.lab.translate.preparation import prepare_pairs
from maskwright.lab.translate.run import _first_model
from maskwright.lab.translate.train import train_translation
from tests.lab.translate import toy

# the first line of their file has the names of columns
PAIRS = [Pair("the cat sees", "el gato ve", 2), Pair("a dog", "perro un", 3)]
MASKS = {"none": {}, "follow": {"mask": "alignment", "source_rate": 0.4}}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Translations are written backwards, and so the first word is linked with the last."""
    folder = tmp_path_factory.mktemp("aligned")
    rows = [(one, " ".join(reversed(other.split()))) for one, other in toy.pairs(120)]
    source = toy.write_pairs(folder / "pairs.tsv", rows)
    lengths = [len(one.split()) for one, _ in rows]
    lines = ["", *(" ".join(f"{i}-{n - 1 - i}" for i in range(n)) for n in lengths)]
    (folder / "links.txt").write_text("\n".join(lines) + "\n", "utf-8")
    settings = toy.settings(source, decoder_masks=MASKS)
    settings["data"]["alignments"] = str(folder / "links.txt")
    return parse_translation(settings)


@pytest.fixture(scope="module")
def prepared(experiment):
    return prepare_pairs(experiment)


def written(tmp_path, *lines: str) -> str:
    path = tmp_path / "links.txt"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def test_a_line_is_that_of_the_same_line_of_the_pairs(tmp_path):
    found = read_alignments(written(tmp_path, "", "0-0 2-1", "0-1 1-0"), PAIRS, PAIRS)
    assert found.links == {2: [(0, 0), (1, 2)], 3: [(1, 0), (0, 1)]}  # the target's word first
    few = read_alignments(written(tmp_path, "", "0-0 2-1", "0-1 1-0"), PAIRS[1:], PAIRS)
    assert set(few.links) == {3}
    assert few.fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["", "0-0"], "has 2 lines, and a pair is on line 3"),
        (["0-0", "0-0", "0-1"], "line 1 has links, and the first pair is on line 2"),
        (
            ["", "3-0", ""],
            "line 2 links source word 3, but the source 'the cat sees' has the words",
        ),
        (["", "", "0-2"], "line 3 links target word 2, but the target 'perro un' has the words 0"),
        (["", "0:0", ""], "line 2: '0:0' is no link"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_line(tmp_path, lines, told):
    with pytest.raises(DataError) as caught:
        read_alignments(written(tmp_path, *lines), PAIRS, PAIRS)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "spans", "words"),
    [
        ("la casa.", [(0, 2), (2, 5), (5, 7), (7, 8), (0, 0)], [0, 1, 1, 1, None]),
        ("a b ", [(0, 1), (1, 2), (2, 3), (3, 4)], [0, 1, 1, None]),  # as ▁ is a token of its own
        ("a b c", [(0, 3), (3, 5)], [0, 2]),  # a token of two words is of its first
        ("", [(0, 0)], [None]),
    ],
)
def test_a_token_is_of_the_word_in_which_it_begins(text, spans, words):
    assert words_of(text, spans) == words


def test_links_of_words_become_links_of_their_tokens(prepared):
    """All tokens that one source token is linked with make the translation of its word."""
    rows = prepared.aligned.__getitems__(range(len(prepared.train)))
    lines = prepared.train.lines.tolist()
    several = 0
    for row, line in zip(rows, lines, strict=True):
        pair = prepared.aligned.alignments.pairs[line]
        spelled = []
        for at_source in range(len(row["input_ids"]) - 1):  # nothing is linked with the end
            ids = [row["labels"][t] for s, t in row["alignments"] if s == at_source]
            spelled.append(prepared.tokenizer.decode(ids).strip())
        words = [toy.WORDS[word] for word in pair.source.split()]
        assert [word for word, _ in groupby(spelled)] == [word for word, _ in groupby(words)]
        several += len(spelled) > len(words)
    assert several
    assert prepared.aligned[3] == rows[3]


def test_the_decoder_reads_masks_for_what_is_aligned_with_masked_source_tokens(
    experiment, prepared, tmp_path
):
    _, jobs = plan_translation(experiment, prepared, tmp_path)
    model = _first_model(jobs[1], prepared)
    masked = open_masked(model, experiment.variants["follow"], prepared, seed=0)
    masked.collator.set_clock(0)
    rows = prepared.aligned.__getitems__(range(20))
    batch = masked.collator(with_sample_ids(masked.pairs).__getitems__(range(20)))
    mask = prepared.tokenizer.mask_token_id
    hidden = 0
    for at, row in enumerate(rows):
        follows = {t for s, t in row["alignments"] if batch["input_ids"][at, s] == mask}
        # target token t is read one place later
        reads = [t for t in range(len(row["labels"]) - 1)
                 if batch["decoder_input_ids"][at, t + 1] == mask]  # fmt: skip
        assert reads == sorted(follows)
        assert batch["labels"][at, : len(row["labels"])].tolist() == row["labels"]
        hidden += len(reads)
    assert hidden > 20


def test_a_model_is_trained_with_it(experiment, tmp_path):
    result = train_translation(experiment, tmp_path / "m", decoder="follow")
    assert result["steps"] == 6
    assert result["masks"] == {}


def test_other_links_are_another_run(experiment, prepared, tmp_path):
    _, [free, follow] = plan_translation(experiment, prepared, tmp_path)
    assert "alignments" not in free.spec
    assert follow.spec["alignments"] == prepared.aligned.alignments.fingerprint


def test_only_a_tokenizer_that_knows_its_characters_will_do(prepared):
    class Slow:
        is_fast = False

    with pytest.raises(VocabularyError, match="Slow does not say which characters"):
        AlignedPairs(prepared.train, prepared.aligned.alignments, prepared.tokenizer, Slow())


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ({"mask": "alignment"}, "Give a source_rate"),
        ({"mask": "alignment", "source_rate": 0.1}, "--set data.alignments=FILE"),
    ],
)
def test_what_it_needs_is_said(mask, told):
    with pytest.raises(ConfigError) as caught:
        parse_translation({"decoder_masks": {"x": mask}})
    assert told in str(caught.value)
