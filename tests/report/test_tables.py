import pytest

from maskwright.report import formatting
from maskwright.report.tables import (
    confidence,
    cost_rows,
    difference_rows,
    glance_rows,
    summary_rows,
)


@pytest.mark.parametrize(
    "text, expected",
    [
        (formatting.loss(4.7104), "4.710"),
        (formatting.loss(-0.0002, signed=True), "0.000"),
        (formatting.loss(0.0006, signed=True), "+0.001"),
        (formatting.loss(-0.0449, signed=True), "−0.045"),
        (formatting.loss(None), "—"),
        (formatting.loss(float("inf")), "∞"),
        (formatting.perplexity(111.04), "111.0"),
        (formatting.perplexity(12345.6), "12,346"),
        (formatting.accuracy(0.0731), "7.31%"),
        (formatting.accuracy(-0.0012, signed=True), "−0.12 points"),
        (formatting.interval(None, 1.0, formatting.loss), "[—]"),
        (formatting.interval(1.0, 2.0, formatting.loss), "[1.000, 2.000]"),
        (formatting.count(384000), "384,000"),
        (formatting.count(12_340_000), "12.3 M"),
        (formatting.duration(21.04), "21.0 s"),
        (formatting.duration(59.97), "60.0 s"),
        (formatting.duration(341.2), "5 min 41 s"),
        (formatting.duration(7500), "2 h 05 min"),
        (formatting.duration(None), "—"),
        (formatting.percent(0.95), "95%"),
        (formatting.percent(0.999), "99.9%"),
        (formatting.shortened("abcdef", 4), "abc…"),
        (formatting.shortened("abcd", 4), "abcd"),
    ],
)
def test_a_quantity_reads_as_expected(text, expected):
    assert text == expected


def test_rows_of_a_table_share_their_headings(results):
    regime = results["regimes"][0]
    for rows in (
        summary_rows(regime),
        summary_rows(regime, results["unigram"]),
        difference_rows(regime),
        cost_rows(regime),
        glance_rows(results["regimes"]),
    ):
        assert len({tuple(row) for row in rows}) == 1
        assert all(isinstance(cell, str) for row in rows for cell in row.values())


def test_the_unigram_column_comes_only_with_the_baseline(results):
    regime = results["regimes"][0]
    assert "loss against unigram" not in summary_rows(regime)[0]
    assert summary_rows(regime, {"loss": 5.0})[0]["loss against unigram"].startswith("−")


def test_an_accuracy_difference_names_its_unit_once(results):
    row = difference_rows(results["regimes"][1])[3]
    assert row["measure"] == "accuracy"
    assert row["difference"].count("points") == 1
    assert "points" not in row["each seed"]


def test_an_unknown_metric_keeps_its_name(results):
    difference = results["regimes"][0]["differences"][0] | {"metric": "calibration"}
    row = difference_rows(results["regimes"][0] | {"differences": [difference]})[0]
    assert row["measure"] == "calibration"


def test_the_confidence_is_the_results_own(results):
    assert confidence(results["regimes"][0]) == "95%"
    assert confidence({"differences": []}) == ""


def test_a_policy_missing_from_a_regime_has_a_dash_at_a_glance(results):
    del results["regimes"][1]["policies"][2]
    rows = {row["policy"]: row for row in glance_rows(results["regimes"])}
    assert rows["rotating"]["A small text, seen many times"] == "—"
