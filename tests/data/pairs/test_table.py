"""Tables of pairs: both sides as the tokenizer gives them, and what does not fit."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from maskwright.clock import Clock
from maskwright.data.pairs import Pair, PairTable, cached_pair_table, write_pair_table
from maskwright.data.tokenizer import train_bpe
from maskwright.data.words import token_word_starts
from maskwright.errors import (
    CacheError,
    ConfigError,
    DataError,
    SampleIdError,
    SaveError,
    VocabularyError,
)
from maskwright.hf.batches.lengths import lengths_of
from maskwright.hf.samples import ClockedIndex, with_sample_ids


@pytest.fixture(scope="module")
def table(pairs, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "pairs"
    return write_pair_table(pairs.pairs, tokenizer, path, max_length=64)


def keep(batch):
    return batch


def test_each_sample_is_what_the_tokenizer_gives(table, tokenizer, pairs):
    assert len(table) == len(pairs) == 61
    for number, pair in enumerate(pairs):
        assert table[number] == {
            "input_ids": tokenizer(pair.source)["input_ids"],
            "labels": tokenizer(pair.target)["input_ids"],
        }
    assert type(table[3]["labels"]) is list
    assert type(table[3]["labels"][0]) is int
    assert table.lines.tolist() == [pair.line for pair in pairs]
    assert table.dropped == 0
    assert repr(table).startswith("PairTable(61 pairs, ")
    assert list(table) == [table[number] for number in range(61)]


def test_word_starts_of_both_sides(table, tokenizer, pairs):
    rows = np.arange(len(table))
    for side, name in ((table.sources, "source"), (table.targets, "target")):
        found = side.batch(rows).word_starts
        for number, pair in enumerate(pairs):
            text = getattr(pair, name)
            spans = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
            wanted = token_word_starts(text, np.array(spans))
            wanted[-1] = 0  # </s> is no word
            assert found[number].tolist() == wanted.tolist()


@given(st.lists(st.integers(0, 60), max_size=20))
def test_many_samples_are_the_samples(table, ids):
    assert table.__getitems__(ids) == [table[i] for i in ids]


def test_ids_outside_are_errors(table):
    for wrong in ([61], [-1]):
        with pytest.raises(SampleIdError, match="outside"):
            table.__getitems__(wrong)
    with pytest.raises(IndexError):
        table[61]


def test_lengths(table):
    source = [len(row["input_ids"]) for row in table]
    target = [len(row["labels"]) for row in table]
    assert table.source_lengths.tolist() == source
    assert table.target_lengths.tolist() == target
    assert table.lengths.tolist() == [a + b for a, b in zip(source, target, strict=True)]
    assert lengths_of(with_sample_ids(table)).tolist() == table.lengths.tolist()


def test_it_pickles_as_its_path_and_is_read_by_workers(table):
    data = pickle.dumps(table)
    assert len(data) < 500
    assert list(pickle.loads(data)) == list(table)
    batches = list(DataLoader(table, batch_size=16, num_workers=1, collate_fn=keep))
    assert [row for batch in batches for row in batch] == list(table)


def test_samples_carry_their_ids_and_clocks(table):
    clock = Clock(epoch=2)
    rows = with_sample_ids(table).__getitems__([ClockedIndex(i, clock) for i in (5, 0)])
    assert [row.sample_id for row in rows] == [5, 0]
    assert rows[0].columns == table[5]
    assert rows[0].clock == clock


def test_special_tokens_that_are_written_out_are_text(tokenizer, tmp_path):
    pairs = [Pair("Go </s> on", "Tom <pad> <mask>", 1)]
    [row] = write_pair_table(pairs, tokenizer, tmp_path / "t", max_length=64)
    for ids in row.values():
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
        assert not {tokenizer.pad_token_id, tokenizer.mask_token_id} & set(ids)
    # and the tokenizer is as it was
    assert tokenizer("<mask>")["input_ids"] == [tokenizer.mask_token_id, tokenizer.eos_token_id]


# -- what does not fit ----------------------------------------------------------------------------


def test_pairs_that_are_too_long(table, pairs, tokenizer, tmp_path):
    limits = (20, 18)
    fits = (table.source_lengths <= 20) & (table.target_lengths <= 18)
    number = int((~fits).sum())
    assert 0 < number < 61
    longest = int(np.argmax(np.where(fits, 0, table.lengths)))
    with pytest.raises(DataError, match=rf"^{number} of 61 pairs .*line {longest + 1}.*drop"):
        write_pair_table(pairs.pairs, tokenizer, tmp_path / "t", max_length=limits)
    assert list(tmp_path.iterdir()) == []
    short = write_pair_table(
        pairs.pairs, tokenizer, tmp_path / "t", max_length=limits, too_long="drop"
    )
    assert short.dropped == number
    assert list(short) == [table[int(n)] for n in np.flatnonzero(fits)]
    assert short.lines.tolist() == (np.flatnonzero(fits) + 1).tolist()
    with pytest.raises(DataError, match=r"61 of 61 pairs.*Raise max_length\.$"):
        write_pair_table(pairs.pairs, tokenizer, tmp_path / "none", max_length=2, too_long="drop")


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"max_length": 1}, ConfigError, "each at least 2"),
        ({"max_length": (5, 5, 5)}, ConfigError, "one number or two"),
        ({"too_long": "cut"}, ConfigError, "not 'cut'"),
        ({"pairs": []}, DataError, "no pairs"),
        ({"pairs": [Pair("a", "b", 2), Pair("c", "d", 1)]}, DataError, "lines of the pairs fall"),
        ({"pairs": [Pair("Tom", "a", 1), Pair("Tom", " ", 7)]}, DataError, "Line 7.*of the target"),
    ],
)
def test_bad_requests(pairs, tokenizer, tmp_path, change, error, message):
    given = {"pairs": pairs.pairs, "max_length": 64, **change}
    with pytest.raises(error, match=message):
        write_pair_table(given.pop("pairs"), tokenizer, tmp_path / "t", **given)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_an_end(pairs, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    endless = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", eos_token="</s>")
    with pytest.raises(VocabularyError, match="would never learn to stop"):
        write_pair_table(pairs.pairs, endless, tmp_path / "t", max_length=64)
    assert list(tmp_path.iterdir()) == []


def test_another_tokenizer_for_targets(pairs, tokenizer, tmp_path):
    bert = train_bpe([pair.target for pair in pairs], 150, cache_dir=tmp_path / "cache")
    table = write_pair_table(
        pairs.pairs, tokenizer, tmp_path / "t", max_length=128, target_tokenizer=bert
    )
    for row, pair in zip(table, pairs, strict=True):
        assert row["input_ids"] == tokenizer(pair.source)["input_ids"]
        assert row["labels"] == bert(pair.target)["input_ids"]


def test_a_folder_that_is_there_is_left_alone(table, pairs, tokenizer):
    with pytest.raises(SaveError, match="is there already"):
        write_pair_table(pairs.pairs, tokenizer, table.path, max_length=64)


# -- the cache ------------------------------------------------------------------------------------


def test_the_cache(table, pairs, tokenizer, tmp_path):
    lines: list[str] = []

    def cached(of=pairs.pairs, **changes):
        changes = {"max_length": 64, **changes}
        return cached_pair_table(of, tokenizer, cache_dir=tmp_path, say=lines.append, **changes)

    first = cached()
    assert list(first) == list(table)
    assert lines == ["Tokenising 61 pairs"]
    again = cached()
    assert again.path == first.path
    assert len(lines) == 1
    others = [
        cached(max_length=65),
        cached(too_long="drop"),
        cached(pairs.pairs[1:]),
        cached([pair._replace(line=pair.line + 1) for pair in pairs]),
    ]
    assert len({first.path, *(other.path for other in others)}) == 5
    assert len(lines) == 5
    (first.path / "target.arrow").write_bytes(b"")
    assert list(cached()) == list(table)
    assert "Writing a cached table again" in lines[-2]


def test_damage_is_found(pairs, tokenizer, tmp_path):
    one, two = (
        write_pair_table(pairs.pairs[:count], tokenizer, tmp_path / name, max_length=64).path
        for name, count in (("one", 5), ("two", 4))
    )
    for name in ("target.arrow", "target.json"):
        (one / name).write_bytes((two / name).read_bytes())
    with pytest.raises(CacheError, match="not of the same pairs"):
        PairTable.open(one)
    (one / "target.json").unlink()
    with pytest.raises(CacheError, match="cannot be read"):
        PairTable.open(one)
