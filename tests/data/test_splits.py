"""Splits depend on a document's text and on nothing else."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.splits import clean, divide, fingerprint, place

MANY = tuple(f"document {number}" for number in range(4000))

PINNED = [0.311614, 0.688391, 0.805448]


def test_the_rule_is_pinned():
    """These change only with the seed in splits.py, and then every split changes."""
    assert [round(place(text), 6) for text in ("", "a", "state of the union")] == PINNED
    assert place(" state\n of the  union ") == place("state of the union")


def test_shares_are_about_right():
    splits, notes = divide(MANY)
    assert notes == ()
    counts = {name: len(texts) for name, texts in splits.items()}
    assert sum(counts.values()) == 4000
    # 5% of 4000 is 200, with a standard deviation of 14
    assert 150 < counts["validation"] < 250
    assert 150 < counts["test"] < 250


texts = st.lists(st.text("abc ", min_size=1, max_size=4), unique_by=lambda t: " ".join(t.split()))


@given(texts, st.randoms(use_true_random=False))
def test_order_changes_nothing(documents, random):
    shuffled = list(documents)
    random.shuffle(shuffled)
    first, second = divide(documents)[0], divide(shuffled)[0]
    assert {k: sorted(v) for k, v in first.items()} == {k: sorted(v) for k, v in second.items()}
    assert Counter(sum(first.values(), ())) == Counter(documents)
    if len(documents) >= 3:
        assert all(first.values())


def test_more_documents_move_none():
    few, many = divide(MANY[:500])[0], divide(MANY)[0]
    assert all(set(few[name]) <= set(many[name]) for name in few)


def test_a_split_that_is_given_is_not_divided_off():
    splits, _ = divide(MANY, validation=0.0)
    assert splits["validation"] == ()
    assert 150 < len(splits["test"]) < 250
    splits, _ = divide(MANY, validation=0.0, test=0.0)
    assert splits == {"train": MANY, "validation": (), "test": ()}


@pytest.mark.parametrize("count", [3, 4, 10])
def test_few_documents_still_fill_every_split(count):
    splits, notes = divide([f"few {number}" for number in range(count)])
    assert all(splits.values())
    assert sum(map(len, splits.values())) == count
    if len(splits["validation"]) == len(splits["test"]) == 1:
        assert "too few" in notes[0] or count == 10


def test_the_evaluation_text_is_kept_of_two_equal_documents():
    splits, notes = clean({"train": ["a", "b  c", ""], "validation": ["b c"], "test": ["a", "a"]})
    assert splits == {"train": (), "validation": ("b c",), "test": ("a",)}
    assert list(splits) == ["train", "validation", "test"]
    assert notes == ("1 empty document dropped.", "3 exact duplicate documents dropped.")


def test_fingerprints_see_borders_order_and_split():
    seen = [
        fingerprint({"train": ["ab", "c"]}),
        fingerprint({"train": ["a", "bc"]}),
        fingerprint({"train": ["c", "ab"]}),
        fingerprint({"train": ["ab"], "test": ["c"]}),
        fingerprint({"train": []}),
    ]
    assert len(set(seen)) == len(seen)
    assert fingerprint({"test": ("c",), "train": ("ab",)}) == seen[3]
