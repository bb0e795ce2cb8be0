"""Figures of what the masks did, and the table of costs."""

import re

from maskwright.report.html import render_page
from maskwright.report.masks import drift_figures, time_axis
from maskwright.report.palette import series_styles
from maskwright.report.tables import matched_rows


def record(results, guided=("rate-40",)):
    """Puts into a results file what newer versions record."""
    for regime in results["regimes"]:
        for policy in regime["policies"]:
            for run in policy["runs"]:
                for number, point in enumerate(run["history"]):
                    point["masks"] = (
                        {"overlap": 0.2 + number / 100, "entropy": 4.0} if number else {}
                    )
                    if policy["name"] in guided and number:
                        point["masks"] |= {
                            "score": 0.03, "score_all": 0.02, "scored": 1.0, "age": 40.0,
                        }  # fmt: skip
                run["training"] = [
                    {"step": step, "loss": 5.0, "learning_rate": 0.003, "predicted": 30 * step,
                     "mask_rate": 0.3}
                    for step in (10, 20, 30)
                ]  # fmt: skip
        regime["matched"] = [
            difference | {"by": by, "spent": 100.0}
            for difference in regime["differences"]
            if difference["metric"] == "loss"
            for by in ("predicted tokens", "seconds")
        ]
    return results


def labels(svg):
    return re.search(r'aria-label="([^"]*)"', svg)[1]


def test_what_was_not_recorded_is_not_drawn(results):
    regime, styles = results["regimes"][0], series_styles(results["regimes"])
    assert drift_figures(regime, styles, "d") == []
    assert time_axis(regime, styles, "t") == ""
    page = render_page(results)
    assert "How the masks drift" not in page
    assert "On the time axis" not in page
    assert "equal steps" not in page


def test_drift_is_drawn_for_all_and_scores_for_guided_policies(results):
    regime, styles = record(results)["regimes"][1], series_styles(results["regimes"])
    figures = dict(drift_figures(regime, styles, "d"))
    said = [labels(svg) for svg in figures.values()]
    assert [text.partition(" against")[0].removeprefix("Line chart of ") for text in said] == [
        "Jaccard overlap", "selection entropy (nats)", "their mean score ÷ mean of all",
        "share of maskable tokens", "mean age (steps)",
    ]  # fmt: skip
    assert "static 0.35" in said[0]
    assert said[2].endswith("Last: rate-40 1.5.")
    assert "static" not in said[2]


def test_the_time_axis_has_rates_of_single_steps(results):
    regime, styles = record(results)["regimes"][0], series_styles(results["regimes"])
    svg = time_axis(regime, styles, "t")
    assert "dynamic 30 predicted tokens per step at the end" in labels(svg)
    for label in ("learning rate", "mask rate", "predicted a step", "training step"):
        assert f">{label}<" in svg


def test_the_time_axis_has_the_thresholds_of_policies_that_have_one(results):
    regime, styles = record(results)["regimes"][0], series_styles(results["regimes"])
    assert ">threshold<" not in time_axis(regime, styles, "t")
    for run in regime["policies"][3]["runs"]:
        for number, line in enumerate(run["training"]):
            line |= {"threshold": 0.8 - 0.1 * number, "probability": 0.5}
    svg = time_axis(regime, styles, "t")
    names = ("learning rate", "mask rate", "threshold", "probability", "predicted a step")
    assert re.findall(rf">({'|'.join(names)})<", svg) == list(names)
    assert "rate-40 threshold from 0.8 to 0.6; rate-40 probability from 0.5 to 0.5" in labels(svg)
    assert "static threshold" not in labels(svg)


def test_a_seed_without_a_value_leaves_no_point(results):
    regime, styles = record(results)["regimes"][0], series_styles(results["regimes"])
    for point in regime["policies"][1]["runs"][2]["history"]:
        point["masks"] = {"overlap": None}
    figures = dict(drift_figures(regime, styles, "d"))
    assert "static" not in labels(next(iter(figures.values())))


def test_every_policy_has_a_verdict_with_interval_and_cost(results):
    rows = matched_rows(record(results)["regimes"][1])
    assert [(row["policy"], row["at"]) for row in rows[:3]] == [
        ("static", "equal steps"),
        ("static", "equal predicted tokens"),
        ("static", "equal seconds"),
    ]
    assert len(rows) == 9
    for row in rows:
        assert re.fullmatch(r"[+−]\d\.\d{3} \[.+, .+\]", row["difference in loss"])
        assert row["verdict"] in ("better", "worse", "no difference")
    by_policy = {row["policy"]: row for row in rows}
    assert by_policy["static"]["predicted tokens"] == "1.00 ×"
    assert by_policy["rate-40"]["predicted tokens"] == "1.33 ×"
    assert by_policy["rate-40"]["time"] == "1.01 ×"
    page = render_page(results)
    assert "equal predicted tokens" in page


def test_a_reference_that_was_not_measured_has_no_ratio(results):
    regime = record(results)["regimes"][0]
    regime["policies"][0]["cost"]["seconds"] = 0
    assert {row["time"] for row in matched_rows(regime)} == {"—"}
