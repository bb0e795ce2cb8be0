import numpy as np
import pytest

from maskwright.data.subset import Subset, portions
from maskwright.errors import ConfigError


@pytest.fixture
def table(write):
    return write([[2, *range(5, 5 + length), 3] for length in (3, 8, 1, 4, 6, 2, 7, 5, 3, 9)])


def test_a_subset_keeps_the_sample_ids_of_its_table(table):
    subset = Subset(table, np.array([7, 2, 4]))
    assert len(subset) == 3
    assert [subset[i]["sample_id"] for i in range(3)] == [7, 2, 4]
    assert subset[1]["input_ids"].tolist() == [2, 5, 3]
    batch = subset.batch(np.array([2, 0]))
    assert batch.sample_ids.tolist() == [4, 7]
    assert batch.tokens[0].tolist() == table.tokens[4].tolist()
    assert subset.tokens == (5 + 2) + (1 + 2) + (6 + 2)


def test_portions_are_disjoint_and_as_large_as_asked_for(table):
    budgets = [20, 15, 25]
    parts = portions(table, budgets)
    ids = np.concatenate([part.ids for part in parts])
    assert len(set(ids.tolist())) == len(ids)
    longest = int(table.lengths.max())
    done = 0
    for part, budget in zip(parts, budgets, strict=True):
        done += part.tokens
        assert abs(part.tokens - budget) < longest
    assert done <= sum(budgets)


def test_portions_are_drawn_from_the_whole_table_and_always_the_same(table):
    first, again = portions(table, [30]), portions(table, [30])
    assert first[0].ids.tolist() == again[0].ids.tolist()
    assert first[0].ids.tolist() != sorted(first[0].ids.tolist())
    assert max(first[0].ids) > len(first[0].ids)


def test_a_larger_budget_begins_with_the_smaller_one(table):
    small, large = portions(table, [20])[0].ids, portions(table, [40])[0].ids
    assert large[: len(small)].tolist() == small.tolist()


def test_a_portion_has_at_least_one_sample(table):
    assert [len(part) for part in portions(table, [1, 1, 1])] == [1, 1, 1]


def test_all_of_the_text_is_one_portion(table):
    [everything] = portions(table, [int(table.lengths.sum())])
    assert sorted(everything.ids.tolist()) == list(range(len(table)))


def test_more_text_than_there_is_names_both_numbers(table):
    with pytest.raises(ConfigError, match=r"ask for 1,005 tokens .* has 68\. Lower regimes"):
        portions(table, [1000, 5])


def test_fewer_samples_than_portions_is_an_error_and_no_empty_subset(write):
    table = write([[2, *range(5, 25), 3]] * 2)
    with pytest.raises(ConfigError, match="has 2 samples, too few"):
        portions(table, [10, 10, 10])
