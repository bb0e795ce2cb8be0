"""Parts by the hash of the source: fixed for ever, and no source in two of them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.packages import PACKAGED, folder_of
from maskwright.data.pairs import Pair, read_pairs, split_by_source
from maskwright.data.pairs.split import source_key, source_place
from maskwright.errors import ConfigError, DataError

HOME = Path.home() / ".cache" / "maskwright"

texts = st.sampled_from(["Go.", "go.", "GO. ", "Hi", "ﬁx", "fix", "Straße", "STRASSE", "a", "b c"])
several = st.lists(st.tuples(texts, texts), min_size=1, max_size=30)


def numbered(rows):
    return [Pair(source, target, line) for line, (source, target) in enumerate(rows, 1)]


def many(number):
    return numbered([(f"source {n}", f"target {n}") for n in range(number)])


def keys(part):
    return {source_key(pair.source) for pair in part.pairs}


def test_where_sources_fall_never_changes():
    places = [round(source_place(text), 6) for text in ("Go.", "We were enemies.", "")]
    assert places == [0.17094, 0.973354, 0.911235]
    assert source_place(" we  were\tENEMIES. ") == source_place("We were enemies.")
    assert source_key("ﬁx  STRASSE") == source_key("Fix straße")


def test_the_split_of_the_sample_never_changes(pairs):
    split = split_by_source(pairs, validation=3, test=3)
    assert split.test.sources == (
        "We were enemies.",
        "Did you live here before?",
        "Here is your dog. Where is mine?",
    )
    assert split.test.references == (
        ("Éramos enemigos.",),
        ("¿Has vivido aquí antes?",),
        ("Aquí está su perro. ¿Dónde está el mío?",),
    )
    assert split.validation.sources == (
        "I respect you, Tom.",
        "He shared his soup with me.",
        "Why would somebody want to live there?",
    )
    assert split.validation.references[0] == ("Tom, yo te respeto.", "Te respeto, Tom.")


@settings(max_examples=30)
@given(several)
def test_no_source_is_in_two_parts_and_no_pair_is_lost(rows):
    pairs = numbered(rows)
    try:
        split = split_by_source(pairs, validation=0.2, test=0.2)
    except DataError:  # too few
        assert len({source_key(pair.source) for pair in pairs}) < 10
        return
    parts = [split.train, split.validation, split.test]
    for number, part in enumerate(parts):
        assert not any(keys(part) & keys(other) for other in parts[:number])
        assert len(part.sources) == len(part.references) == len(keys(part))
    assert sorted(pair for part in parts for pair in part.pairs) == sorted(pairs)


@settings(max_examples=20)
@given(st.permutations(range(60)), st.integers(0, 30))
def test_other_order_and_other_pairs_move_no_source(order, dropped):
    pairs = many(60)
    whole = split_by_source(pairs, validation=0.2, test=0.2)
    part = split_by_source([pairs[n] for n in order[dropped:]], validation=0.2, test=0.2)
    assert keys(part.test) <= keys(whole.test)
    assert keys(part.train) <= keys(whole.train)


def test_shares_and_numbers():
    split = split_by_source(many(4000), validation=0.1, test=0.2)
    assert abs(len(split.validation) - 400) < 80
    assert abs(len(split.test) - 800) < 100
    split = split_by_source(many(4000))
    assert 15 < len(split.test) < 70
    assert 15 < len(split.validation) < 70
    split = split_by_source(many(400), validation=30, test=50)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [320, 30, 50]
    assert len(split_by_source(many(400), validation=0, test=50).validation) == 0
    mixed = split_by_source(many(4000), validation=0.1, test=50)
    assert len(mixed.test) == 50
    assert abs(len(mixed.validation) - 400) < 80
    # a number takes the same sources as a share does, from the top
    assert keys(split_by_source(many(4000), test=5).test) <= keys(split.test) | keys(mixed.test)


def test_references_are_all_targets_of_a_source():
    rows = [("Go.", "Ve."), ("go.", "Vaya."), ("Hi.", "Hola."), ("Go.", "Ve."), ("So", "Así")]
    part = split_by_source(numbered(rows), validation=0, test=2).test
    both = dict(zip(part.sources, part.references, strict=True))
    known = {"Go.": ("Ve.", "Vaya."), "Hi.": ("Hola.",), "So": ("Así",)}
    assert len(both) == 2
    assert both.items() <= known.items()


def test_a_larger_draw_contains_the_smaller(pairs):
    part = split_by_source(pairs, validation=5, test=5).train
    small, large = part.draw(7), part.draw(20)
    assert len(small.sources) == 7
    assert set(small.pairs) <= set(large.pairs) <= set(part.pairs)
    assert [pair.line for pair in large.pairs] == sorted(pair.line for pair in large.pairs)
    assert part.draw(len(part.sources)) == part
    # of a drawn source, all pairs
    assert (
        dict(zip(small.sources, small.references, strict=True)).items()
        <= dict(zip(part.sources, part.references, strict=True)).items()
    )
    for wrong in (0, len(part.sources) + 1):
        with pytest.raises(ConfigError, match="cannot be drawn"):
            part.draw(wrong)


def test_targets_that_training_knows_are_counted():
    rows = [(f"source {n}", "the same") for n in range(20)]
    split = split_by_source(numbered(rows), validation=2, test=2)
    [note] = split.notes
    assert note.startswith("Of the 1 different targets held out, 1 also translate")


def test_few_sources():
    split = split_by_source(many(3))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [1, 1, 1]
    assert "too few to judge" in split.notes[0]
    for number in (1, 2):
        with pytest.raises(DataError, match="too few to hold one out"):
            split_by_source(many(number))
    with pytest.raises(DataError, match="one must stay for training"):
        split_by_source(many(10), test=10)


@pytest.mark.parametrize("wrong", [-0.1, 1.0, -1, True])
def test_shares_that_are_none(wrong):
    with pytest.raises(ConfigError, match="validation="):
        split_by_source(many(10), validation=wrong)


@pytest.mark.slow
@pytest.mark.skipif(
    not folder_of(PACKAGED["tatoeba"], HOME).exists(), reason="maskwright data get tatoeba"
)
def test_the_real_tatoeba():
    pairs = read_pairs("tatoeba", cache_dir=HOME)
    assert len(pairs) == 140_868
    split = split_by_source(pairs)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [138_082, 1_365, 1_421]
    assert [len(part.sources) for part in parts] == [116_938, 1_170, 1_231]
    assert split.test.fingerprint == (
        "5eec88f093701c19841a5e3764ae46baf8d708c79fa546935c37cc456cfd1c54"
    )
    assert split.test.sources[:3] == ("Go ahead.", "I ate it.", "We're OK.")
    assert split.test.references[1] == ("Me lo comí.", "Me la comí.")
